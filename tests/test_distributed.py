"""Several processes train as one does."""
import json,os,subprocess,sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from processes import Started

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='the processes are forked')
HERE = Path(__file__).parent

def start(*args):
    "Let `ranks.py` find something out"
    from ranks import tell
    return Started(tell, *args, daemon=False) # it starts child processes

def found(started):
    "What it found out"
    return json.loads(started.ended().splitlines()[-1])

@pytest.fixture(scope='module')
def killed(some, tmp_path_factory): return start('killed', some, tmp_path_factory.mktemp('killed'))

@pytest.fixture(scope='module')
def stopped(): return start('stopped')

@pytest.fixture(scope='module')
def same(killed, stopped, some):
    "Found out while the other processes wait for the sign of life of a dead one"
    return found(start('same', some))

@pytest.mark.parametrize('images', ['plain','augmented'])
def test_losses_in_single_precision(same, images):
    "1, 2 and 4 processes: 50 steps at a rate at which rounding does not grow"
    assert same[images]['steps']==50 and same[images]['difference']<1e-5

def test_losses_in_double_precision(same):
    "The preset's rate, at which rounding in single precision would grow: only rounding differs"
    assert same['double']['steps']==50 and same['double']['moved']>.3 and same['double']['difference']<1e-12

def test_another_optimiser_and_schedule(same):
    "On a curve, with a warm-up and averaged weights"
    assert same['adamw']['steps']==50 and same['adamw']['moved']>.3 and same['adamw']['difference']<1e-12

@pytest.mark.parametrize('run', ['mixed','rand'])
def test_mixed_images_and_augmentations_of_torchvision(same, run):
    "CutMix with class weights and TrivialAugment, MixUp with RandAugment; a process needs an image of the one before"
    assert same[run]['steps']==50 and same[run]['difference']<1e-12

@pytest.mark.parametrize('run', ['double','adamw','mixed','rand'])
def test_margins_and_films_are_equal(same, run): assert same[run]['lives_equal'] and same[run]['films_equal']

def test_mixed_images_are_learned(same): assert max(same[o]['moved'] for o in ('mixed','rand'))>.01

@pytest.mark.parametrize('run', ['plain','augmented','double','adamw','mixed','rand'])
def test_counts_are_exact(same, run):
    "Every image of validation once, the same accuracies and the same confusion matrix, and all ranks know the same"
    run = same[run]
    assert run['counts_equal'] and run['ranks_equal'] and run['confusion_equal']
    assert run['valid_n']==run['predicted']==60 and all(sum(o)==60 and min(o)>0 for o in run['own_images'].values())

def test_a_killed_rank_ends_the_other_and_the_run_goes_on(killed):
    res = found(killed)
    assert res['second']==-9
    assert 'rank 1 of 2, process' in res['first'] and 'is dead' in res['first'] # the other one ended by itself
    assert res['kept']==[1,2]
    assert res['left']==['checkpoint-0001.safetensors','checkpoint-0002.safetensors','weights.safetensors']
    assert res['epochs']==4 and res['resumed']<1e-5
    assert max(res['grown'])<1e-5 # one process, then two

@pytest.mark.skipif(not hasattr(os, 'pidfd_open'), reason='one process waits for the end of another, on Linux')
def test_a_rank_that_hangs_ends_the_other(stopped):
    "No connection is closed: without the heartbeat, the other one would wait for half an hour"
    assert found(stopped)==[[-9,1],[1,-9]]

def test_fastai_is_told_of_one_process_while_they_act_together():
    "Its own function is back after an error, and is not touched by the import of the library"
    import fastai.torch_core
    import advtrain.all # noqa: F401 - this is the import that touches nothing
    assert fastai.torch_core.num_distrib.__code__.co_filename==fastai.torch_core.__file__
    assert found(start('told'))==[[0,0,2,True]]*2

@pytest.mark.skipif(not Path('/proc/self/smaps').exists(), reason='the memory of a process is read from /proc')
def test_one_copy_of_the_images(sample):
    "Two processes map the same file: it is in memory once, and neither has private pages"
    from advtrain.data.sources import cifar10
    from advtrain.files.make_once import data_home,writable_home
    if writable_home()!=data_home(): pytest.skip('nothing can be written at home, where the file would be')
    res = found(start('memory', cifar10() if os.environ.get('ADVTRAIN_CIFAR10') else sample))
    for o in res: assert o['Rss'] > .9*o['array'] and o['Private_Dirty']==0
    assert sum(o['Pss'] for o in res) < 1.1*res[0]['array']

QUICK = 'quickstart --width 4 --epochs 2 --bs 100 --size 16 --n-images 2 --precision fp32'.split()

def launched(few, tmp_path, *launcher):
    "What a launcher's processes printed, and the folder of their run"
    out,env = tmp_path/'run',os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    res = subprocess.run([*launcher, *QUICK, '--data', few, '--out', out], capture_output=True, text=True, env=env)
    assert res.returncode==0, res.stderr
    return res.stdout.splitlines(),out

def check(lines, out, pictures):
    "Everything is said once, and the run is whole"
    from advtrain.runs.run import Run
    assert [o.split(':')[0] for o in lines if o.startswith('Epoch')]==['Epoch 1/2','Epoch 2/2']
    assert sum('test accuracy' in o for o in lines)==1
    run = Run(out)
    assert not run.problems and run.environment['processes']==2 and run.metrics['test_images']==len(run.predictions)==15
    assert run.history.epoch.tolist()==[1,2] and (run.history.train_n==135).all() and (run.history.valid_n==15).all()
    assert (out/'report.html').is_file() and len(run.figures())>=pictures

def test_torchrun_starts_a_killed_run_again(few, tmp_path):
    "Rank 1 is killed in epoch 2; the second start goes on after epoch 1"
    how = '-m torch.distributed.run --standalone --nproc_per_node 2 --max-restarts 1'
    lines,out = launched(few, tmp_path, sys.executable, *how.split(), HERE/'dying_rank.py')
    check(lines, out, 1)
    assert lines.count('training in fp32, channels-last, on cpu')==2 # the second start says it again

@pytest.mark.skipif(not find_spec('accelerate'), reason='Accelerate is not installed')
def test_accelerate_launch(few, tmp_path):
    how = '--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no'
    launcher = sys.executable,'-m','accelerate.commands.launch',*how.split(),'-m','advtrain.cli.run'
    lines,out = launched(few, tmp_path, *launcher)
    check(lines, out, 11)
