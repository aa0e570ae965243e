"""What advtrain did not write, it does not replace, delete or judge; and what it wrote is whole or made again."""
import contextlib,io,os,shutil,signal,subprocess,sys,warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from conftest import little_drawn,tiny

from advtrain.all import (
    ARCHS,Checkpoint,Run,image_dls,resnet18,resnet_learner,run_experiment,run_many,set_seed,write_comparison,
    write_index,write_report)
from advtrain.train.checkpoint import checkpoints
from advtrain.files import atomic,own_files,run_lock as locks
from advtrain.files.atomic import HOME
from advtrain.files.own_files import OwnFiles
from advtrain.files.run_lock import is_locked
from advtrain.runs.checksums import CHECKSUMS,PAGES

EXP = tiny(name='run', size=8, augs='none', hole=None, bs=4, epochs=1, n_images=1, layers=['layer4'],
    lr='find') # so that it has all the files that a run can have

@pytest.fixture(autouse=True)
def plainly():
    "Runs draw one picture, and say nothing"
    with little_drawn(), contextlib.redirect_stdout(io.StringIO()): yield

@pytest.fixture(scope='module')
def few(tmp_path_factory):
    "Two classes with eight images each, and three for the test"
    root,rng = tmp_path_factory.mktemp('few')/'data',np.random.default_rng(0)
    for split,n in (('train',8),('test',3)):
        for k,name in enumerate(('Bag','Coat')):
            (root/split/name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray((rng.integers(0, 60, (8,8,3))+150*k).astype(np.uint8)).save(
                    root/split/name/f'{i}.png')
    return root

@pytest.fixture(scope='module')
def finished(few, tmp_path_factory):
    "A finished run"
    with little_drawn(), contextlib.redirect_stdout(io.StringIO()):
        return run_experiment(EXP, few, tmp_path_factory.mktemp('own')/'run').folder

@pytest.fixture
def run(finished, tmp_path):
    "A copy of a finished run, which a test may damage"
    return Path(shutil.copytree(finished, tmp_path/'run'))

@pytest.fixture
def stops(monkeypatch):
    "Choices whose network stops the run at its first batch, when the folder is ready"
    def arch(**kwargs):
        net = resnet18(**kwargs)
        net.register_forward_pre_hook(lambda *_: 1/0)
        return net
    monkeypatch.setitem(ARCHS, 'stops', arch)
    return EXP.replace(arch='stops')

def contents(folder):
    "What lies in a folder, but for the record"
    names = {o: o.relative_to(folder) for o in Path(folder).rglob('*') if o.is_file()}
    return {name.as_posix(): o.read_bytes() for o,name in names.items() if HOME not in name.parts}

# Overwriting

@pytest.mark.parametrize('name', [
    'metrics.json',CHECKSUMS,'experiment.toml','report.html','checkpoint-0001.safetensors'])
@pytest.mark.parametrize('resume', [False,True])
def test_a_folder_is_no_run_because_of_a_name(few, tmp_path, name, resume):
    "A project of somebody else, with a file that is called like one of ours"
    (tmp_path/'src').mkdir()
    (tmp_path/'src'/'thesis.py').write_text('years')
    (tmp_path/name).write_text(EXP.to_toml() if name.endswith('toml') else '{}')
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match='is not empty and holds no run of advtrain'):
        run_experiment(EXP, few, tmp_path, overwrite=not resume, resume=resume)
    assert contents(tmp_path)==before

def test_overwriting_leaves_what_is_yours(few, run, stops, finished):
    "Notes, pictures, runs and data in the folder of a run"
    yours = {
        'notes.md': 'what I saw', 'figures/mine.svg': '<svg/>', 'paper/figure.png': '', 'data/train/a/1.png': 'x',
        'checkpoint-best.safetensors': 'a copy'}
    for name,text in yours.items():
        (run/name).parent.mkdir(parents=True, exist_ok=True)
        (run/name).write_text(text)
    shutil.copytree(finished, run/'nested')
    nested = contents(run/'nested')
    with pytest.raises(ZeroDivisionError): run_experiment(stops, few, run, overwrite=True)
    assert all((run/k).read_text()==v for k,v in yours.items()) and contents(run/'nested')==nested
    run_experiment(EXP.replace(seed=1), few, run, overwrite=True)
    assert all((run/k).read_text()==v for k,v in yours.items()) and contents(run/'nested')==nested

def test_the_old_run_is_there_until_the_new_one_is_complete(few, run, stops):
    old = contents(run)
    for exp in (stops, stops.replace(seed=1)): # the second one overwrites one that was never complete
        with pytest.raises(ZeroDivisionError): run_experiment(exp, few, run, overwrite=True)
        aside = OwnFiles(run).replaced.folder
        assert contents(aside)==old and Run(aside).problems=={} and len(Run(aside).history)==1
    new = run_experiment(EXP.replace(seed=1), few, run, overwrite=True)
    assert not aside.exists() and new.experiment.seed==1 and new.problems=={}

def test_an_edited_file_is_named_before_anything_moves(few, run):
    for name in ('README.md','history.csv'):
        whole = (run/name).read_text()
        (run/name).write_text(f'{whole}\nmine\n')
        before = contents(run)
        with pytest.raises(FileExistsError, match=f"{name} is in the way: it's not what advtrain wrote"):
            run_experiment(EXP, few, run, overwrite=True)
        assert contents(run)==before
        (run/name).write_text(whole)

class Power:
    "The module `os`; after some changes of the disk, the power is gone"
    def __init__(self, left): self.left = left
    def __getattr__(self, name):
        f = getattr(os, name)
        if name not in ('replace','unlink'): return f
        def _change(*args):
            if not self.left: raise SystemExit
            self.left -= 1
            return f(*args)
        return _change

def test_power_cuts_while_overwriting_lose_nothing(run, monkeypatch):
    "After each change of the disk; then it is overwritten again, or completed"
    old,own,cuts = contents(run),OwnFiles(run),0
    while True:
        power = Power(cuts)
        for module in (atomic, own_files): monkeypatch.setattr(module, 'os', power)
        try: own.set_aside()
        except SystemExit: pass
        done = power.left>0
        for module in (atomic, own_files): monkeypatch.setattr(module, 'os', os)
        assert old.items() <= (contents(run) | contents(own.replaced.folder)).items()
        own.set_aside()
        assert contents(own.replaced.folder)==old and not contents(run)
        if done: break
        for name in old: # as it was
            (run/name).parent.mkdir(exist_ok=True)
            own.write(name, old[name])
        own.drop_replaced()
        cuts += 1
    assert cuts>len(old)

def test_a_file_that_is_written_stays_own_through_a_power_cut(tmp_path, monkeypatch):
    own = OwnFiles(tmp_path)
    own.write('a.txt', 'first\n')
    for left in range(3):
        power = Power(left)
        for module in (atomic, own_files): monkeypatch.setattr(module, 'os', power)
        with contextlib.suppress(SystemExit): own.write('a.txt', f'after {left}\n')
        for module in (atomic, own_files): monkeypatch.setattr(module, 'os', os)
        assert own.state('a.txt')=='own'

# Other places that write

def test_heat_maps_and_photos(shell, few, finished, tmp_path, capsys):
    "A photo is never replaced by its heat map, nor one heat map by another"
    from advtrain.cli.commands import advtrain_predict
    photos = [tmp_path/o for o in ('a/cat.png','b/cat.png','b/CAT.png','cat-2.png')]
    for o,image in zip(photos, sorted((few/'test').glob('*/*.png'))):
        o.parent.mkdir(exist_ok=True)
        shutil.copy(image, o)
    before = contents(tmp_path)
    assert advtrain_predict([str(finished), str(tmp_path/'cat-2.png'), '--out', str(tmp_path)])==1
    assert 'cat-2.png is in the way' in capsys.readouterr().err and contents(tmp_path)==before
    for _ in range(2): # the second time over its own
        assert advtrain_predict([str(finished), *map(str, photos), '--out', str(tmp_path/'maps')])==0
    assert len({o.name.casefold() for o in (tmp_path/'maps').glob('*.png')})==4

@pytest.mark.parametrize('name', [
    'checkpoint-backup.safetensors','checkpoint-0001 copy.safetensors','checkpoint-best-0002.safetensors'])
def test_checkpoints_named_by_hand_stay(few, tmp_path, name):
    def learner():
        set_seed(1)
        return resnet_learner(image_dls(few, size=8, bs=4), width=4)
    with (learn := learner()).no_bar(): learn.fit(1, cbs=Checkpoint(tmp_path))
    (tmp_path/name).write_bytes((tmp_path/'checkpoint-0001.safetensors').read_bytes())
    with (learn := learner()).no_bar(): learn.resume(4, tmp_path)
    assert (tmp_path/name).exists()
    assert [o.name for o in checkpoints(tmp_path)]==['checkpoint-0003.safetensors','checkpoint-0004.safetensors']

@pytest.mark.parametrize('name', ['weights.safetensors','checkpoint-0002.safetensors'])
def test_what_is_in_the_way_of_a_checkpoint_is_said_before_training(few, tmp_path, name):
    (tmp_path/'mine').write_text('mine')
    (tmp_path/'run').mkdir()
    (tmp_path/'run'/name).symlink_to(tmp_path/'mine')
    learn = resnet_learner(image_dls(few, size=8, bs=4), width=4)
    with learn.no_bar(), pytest.raises(FileExistsError, match='is a link|holds a run'):
        learn.fit(3, cbs=Checkpoint(tmp_path/'run'))
    assert not len(learn.history) and (tmp_path/'mine').read_text()=='mine' and (tmp_path/'run'/name).is_symlink()

@pytest.mark.parametrize('name', ['report.html','README.md','figures','figures/curves.png',CHECKSUMS,'metrics.json'])
def test_links_in_a_run_are_not_followed(few, finished, run, tmp_path, name):
    "A link that lies where a run writes is an error before training"
    (outside := tmp_path/'outside').mkdir()
    (outside/'mine').write_text('mine')
    for o in (CHECKSUMS,'metrics.json'): (run/o).unlink() # it goes on with its end
    shutil.rmtree(run/name) if name=='figures' else (run/name).unlink(missing_ok=True)
    (run/name).symlink_to(outside if name=='figures' else outside/'mine')
    with pytest.raises(FileExistsError, match='is a link'): run_experiment(EXP, few, run, resume=True)
    assert contents(outside)=={'mine': b'mine'} and (run/name).is_symlink()

def test_grids_leave_a_folder_that_is_no_run(few, tmp_path):
    "Its run fails, with the reason; the others are finished"
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'lab.txt').write_text('years')
    exps = [EXP.replace(name=o) for o in ('mine','other')]
    table = run_many(exps, few, tmp_path).table
    assert table.state.tolist()==['failed','finished'] and 'is not empty and holds no run' in table.reason['mine']
    assert [o.name for o in (tmp_path/'mine').iterdir()]==['lab.txt']

def test_pages_and_files_of_others_are_said_before_any_work(few, finished, run, tmp_path):
    "An index, a comparison, a network, a database"
    from advtrain.launch.search import search
    for name in ('index.html','comparison.html','study.db','network.onnx'): (tmp_path/name).write_text('mine')
    before = contents(tmp_path)
    calls = [
        lambda: run_many([EXP], few, tmp_path),
        lambda: search(EXP, dict(norm=['layer','batch']), few, tmp_path, trials=1),
        lambda: write_comparison([finished, run], tmp_path/'comparison.html'),
        lambda: Run(run).to_onnx(tmp_path/'network.onnx'),
        lambda: write_index(tmp_path),
        lambda: write_comparison([finished, run], run/'report.html')]
    for call in calls:
        with pytest.raises(FileExistsError, match='is in the way'): call()
    (tmp_path/'index.html').unlink()
    with pytest.raises(FileExistsError, match='study.db is in the way'): calls[1]()
    (out := tmp_path/'elsewhere'/'figures').mkdir(parents=True)
    (out/'slice.png').write_text('mine')
    with pytest.raises(FileExistsError, match='slice.png is in the way'):
        search(EXP, dict(norm=['layer','batch']), few, out.parent, trials=1, storage=f"sqlite:///{tmp_path/'other.db'}")
    shutil.rmtree(out.parent)
    assert contents(tmp_path)=={k: v for k,v in before.items() if k!='index.html'}

def test_an_output_has_a_name_and_is_no_input(shell, few, run, tmp_path, capsys):
    from advtrain.cli.commands import advtrain_lr_find
    code,out,err = shell('quickstart', '--data', few, '--out', '')
    assert (code,len(err))==(2,1) and 'an output needs a name' in err[0]
    with pytest.raises(ValueError, match='out must be a path'): run_experiment(EXP, few, '')
    toml = str(run/'experiment.toml')
    assert advtrain_lr_find([toml, '--data', str(few), '--out', toml])==1
    assert 'experiment.toml is in the way' in capsys.readouterr().err and Run(run).experiment==EXP

@pytest.mark.parametrize('place', ['.','Bag','Bag/run','run'])
def test_no_run_among_the_images(few, tmp_path, place):
    "The run would become a class of its data"
    shutil.copytree(few/'train', data := tmp_path/'data')
    before = contents(data)
    for call in (lambda o: run_experiment(EXP, data, o), lambda o: run_many([EXP], data, o)):
        with pytest.raises(ValueError, match='is among the images'): call(data/place)
    assert contents(data)==before
    shutil.copytree(few, tmp_path/'project', dirs_exist_ok=True)
    # next to train/ and test/ it isn't a class
    assert run_experiment(EXP, tmp_path/'project', tmp_path/'project'/'runs'/'a').problems=={}

# What is cut or lost is made again

def cut(file):
    "Leave a half, which ends in the middle of a line"
    half = file.read_bytes()[:file.stat().st_size//2]
    file.write_bytes(half.rstrip(b'\n'))

DAMAGE = {'lost': lambda f: f.unlink(), 'cut': cut, 'empty': lambda f: f.write_bytes(b'')}
WRITTEN = [
    *PAGES, CHECKSUMS, 'metrics.json','history.csv','model.csv','predictions.csv','predictions.safetensors',
    'life.safetensors','film.safetensors','environment.json','experiment.toml','lr_find.json','figures/curves.png','figures/lr_find.png']

@pytest.mark.parametrize('damage', DAMAGE)
@pytest.mark.parametrize('name', WRITTEN)
def test_what_is_lost_is_made_again(few, run, name, damage):
    before = contents(run)
    DAMAGE[damage](run/name)
    run_experiment(EXP, few, run, resume=True)
    with warnings.catch_warnings(action='error'): again = Run(run)
    assert contents(run).keys()==before.keys() and again.problems=={}
    assert (run/name).stat().st_size > .9*len(before[name])
    for o in ('predictions.csv','model.csv','experiment.toml'): assert (run/o).read_bytes()==before[o]

def test_what_you_wrote_into_a_page_stays(few, run):
    "It is neither repaired nor judged; missing files next to it are rebuilt"
    (run/'README.md').write_text('# My run\n')
    (run/'report.html').unlink()
    run_experiment(EXP, few, run, resume=True)
    assert (run/'README.md').read_text()=='# My run\n' and '</html>' in (run/'report.html').read_text()
    with pytest.raises(FileExistsError, match='README.md is in the way'): write_report(run)
    (run/'notes.txt').write_text('a')
    assert Run(run).problems=={}

@pytest.mark.parametrize('text', ['my notes, without an end','x'*14,'# run\n\nrun: and my own words'])
def test_your_words_are_no_part_of_a_page(few, run, text):
    "Not even where they are shorter, and end without a line's end"
    for name in ('README.md','experiment.toml'): (run/name).write_text(text)
    with pytest.raises(FileExistsError, match='is in the way'): run_experiment(EXP, few, run, overwrite=True)
    (run/'experiment.toml').write_text(EXP.to_toml())
    run_experiment(EXP, few, run, resume=True)
    assert (run/'README.md').read_text()==text

def test_tensors_of_another_kind_replace_nothing_of_a_run(few, run):
    from advtrain.files.tensors import save_tensors
    before,interp = contents(run),Run(run).interpretation
    with pytest.raises(FileExistsError, match='is in the way'): interp.save(run/'predictions.safetensors')
    with pytest.raises(ValueError, match='ends in .safetensors'): save_tensors({}, run/'metrics.json')
    assert contents(run)==before
    interp.save(run/'mine.safetensors')
    run_experiment(EXP.replace(seed=1), few, run, overwrite=True)
    assert (run/'mine.safetensors').exists()

def other_data(few, folder):
    "The same folders with other images"
    shutil.copytree(few, folder)
    for f in folder.rglob('*.png'): Image.open(f).point(lambda v: 255-v).save(f)
    return folder

def test_a_finished_run_is_not_that_of_other_data(few, run, tmp_path):
    other = other_data(few, tmp_path/'other')
    with pytest.raises(ValueError, match='other images than the run'): run_experiment(EXP, other, run, resume=True)
    with pytest.raises(ValueError, match='other images than the run'): run_many([EXP], other, run.parent)
    shutil.copytree(few, tmp_path/'moved')
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert run_experiment(EXP, tmp_path/'moved', run, resume=True).problems=={}
    assert torch.equal(state, torch.get_rng_state()) # the check doesn't reseed this session

def test_a_search_with_a_database_elsewhere_makes_its_folder(few, tmp_path):
    from advtrain.launch.search import search
    best = search(EXP, dict(norm=['layer','batch']), few, tmp_path/'new'/'search', trials=1,
        storage=f"sqlite:///{tmp_path/'other.db'}")
    assert best.problems=={} and (tmp_path/'new'/'search'/'index.html').is_file()
    assert not (tmp_path/'new'/'search'/'study.db').exists()

def test_a_run_goes_on_where_its_data_lie_now(few, tmp_path, monkeypatch):
    "And its page finds them"
    shutil.copytree(few, tmp_path/'data')
    with monkeypatch.context() as m:
        m.setattr('advtrain.launch.runner.Runner.finish', lambda *args: 1/0)
        with pytest.raises(ZeroDivisionError): run_experiment(EXP, tmp_path/'data', tmp_path/'run')
    (tmp_path/'data').rename(tmp_path/'moved')
    run_experiment(EXP, tmp_path/'moved', tmp_path/'run', resume=True)
    assert len(Run(tmp_path/'run').interpretation.pixels([0]))==1

def test_one_odd_folder_stops_no_other_run(few, run, tmp_path):
    "A damaged record, and a file of somebody else"
    (run/HOME/'files.json').write_text('{"run": {')
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'experiment.toml').write_text('physics = 3')
    with pytest.warns(UserWarning, match='files.json, the record'):
        runs = run_many([EXP.replace(name=o) for o in ('mine','b')] + [EXP.replace(width=5)], few, tmp_path)
    assert runs.table.state['b']=='finished' and (tmp_path/'mine'/'experiment.toml').read_text()=='physics = 3'
    for name in ('index.html','Figures','.advtrain'):
        with pytest.raises(ValueError, match="can't be named"): run_many([EXP.replace(name=name)], few, tmp_path)

def test_an_open_run_does_not_mix_with_the_one_that_replaced_it(few, run, monkeypatch):
    opened = Run(run)
    assert opened.metrics['epochs']==1
    run_experiment(EXP.replace(seed=9), few, run, overwrite=True)
    with pytest.raises(ValueError, match='open it again'): len(opened.history)
    monkeypatch.chdir(run.parent)
    near = Run('run')
    monkeypatch.chdir('/')
    assert near.experiment.seed==9

def test_a_run_without_its_record_is_read_and_left_alone(few, run):
    "One that was copied without its hidden folder"
    shutil.rmtree(run/HOME)
    before = contents(run)
    assert run_experiment(EXP, few, run, resume=True).problems=={}
    with pytest.raises(FileExistsError, match='holds no run of advtrain'): run_experiment(EXP, few, run, overwrite=True)
    assert contents(run)==before

def test_relative_data_are_found_from_elsewhere(few, tmp_path, monkeypatch):
    shutil.copytree(few, tmp_path/'data')
    monkeypatch.chdir(tmp_path)
    folder = run_experiment(EXP, 'data', 'run').folder.resolve()
    monkeypatch.chdir('/')
    assert Run(folder).interpretation.pixels([0]).shape==(1,8,8,3)
    write_report(folder)

# One at a time, and what cannot work

def test_a_run_leaves_nothing_beside_its_folder(few, tmp_path):
    "The folder above may be one where nothing can be written"
    (tmp_path/'mine').mkdir()
    run_experiment(EXP, few, tmp_path/'mine')
    assert [o.name for o in tmp_path.iterdir()]==['mine']

@pytest.mark.parametrize('make', ['link','empty','.'])
def test_an_empty_folder_is_a_place_for_a_run(few, tmp_path, monkeypatch, make):
    (tmp_path/'disk').mkdir()
    if make=='link': (tmp_path/'run').symlink_to(tmp_path/'disk')
    monkeypatch.chdir(tmp_path/'disk')
    out = {'link': tmp_path/'run', 'empty': tmp_path/'disk', '.': Path('.')}[make]
    assert run_experiment(EXP, few, out).problems=={} and (tmp_path/'disk'/'report.html').is_file()

def test_that_nothing_can_be_written_is_said_first(shell, few, tmp_path):
    (tmp_path/'file').write_text('')
    for out in (tmp_path/'file', tmp_path/'file'/'run'):
        code,lines,err = shell('quickstart', '--data', few, '--out', out)
        assert code==1 and len(err)==1 and 'cannot write to' in err[0] and len(lines)==1
    learn = resnet_learner(image_dls(few, size=8, bs=4), width=4)
    with learn.no_bar(), pytest.raises(OSError, match='cannot write to'):
        learn.fit(1, cbs=Checkpoint(tmp_path/'file'))
    assert not len(learn.history)

def test_a_colleagues_run_is_read_where_nothing_can_be_written(run, monkeypatch):
    "It is not at work, and not damaged"
    from advtrain.runs.folder import Runs
    def refused(*args, **kwargs): raise PermissionError(13, 'Permission denied')
    for module in (own_files, locks): monkeypatch.setattr(module, 'FileLock', refused)
    assert not is_locked(run) and Runs(run.parent).table.state.tolist()==['finished']

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='a second process is forked')
def test_a_second_training_in_a_folder_is_refused(few, tmp_path):
    from advtrain.dist import run_forked
    from advtrain.train.callbacks import RunCallback
    said = []
    def other():
        with (learn := resnet_learner(image_dls(few, size=8, bs=4), width=4)).no_bar():
            learn.fit(1, cbs=Checkpoint(tmp_path))
    class Meanwhile(RunCallback):
        "Another process begins before the first epoch, and after it"
        passive = True
        def before_train(self): said.extend(run_forked(other, 1))
    with (learn := resnet_learner(image_dls(few, size=8, bs=4), width=4)).no_bar():
        learn.fit(2, cbs=[Checkpoint(tmp_path), Meanwhile()])
    assert len(said)==2 and all('another process is working' in str(o) for o in said)
    assert [o.name for o in checkpoints(tmp_path)]==['checkpoint-0001.safetensors','checkpoint-0002.safetensors']
    assert not is_locked(tmp_path)

def test_two_trainings_of_one_process_are_refused(few, tmp_path):
    "In threads, and twice in one fit"
    from threading import Thread
    from advtrain.files.run_lock import run_lock
    said = []
    def other():
        try:
            with run_lock(tmp_path): pass
        except BlockingIOError as e: said.append(str(e))
    with run_lock(tmp_path):
        (thread := Thread(target=other)).start()
        thread.join()
    assert len(said)==1
    learn = resnet_learner(image_dls(few, size=8, bs=4), width=4)
    with pytest.raises(ValueError, match='two callbacks write checkpoints into'):
        learn.fit(1, cbs=[Checkpoint(tmp_path/'x'), Checkpoint(tmp_path/'x')])

NONSENSE = [None, 5, b'a', 'a\0b', 'x'*5000, [], 1.5]
CALLS = { # what is called with nonsense
    'out of run_experiment': lambda data, o: run_experiment(EXP, data, o),
    'out of run_many': lambda data, o: run_many([EXP], data, o),
    'exp': lambda data, o: run_experiment(o, data, 'never'),
    'experiments': lambda data, o: run_many(o, data, 'never'),
    'resume': lambda data, o: run_experiment(EXP, data, 'never', resume=o),
    'overwrite': lambda data, o: run_experiment(EXP, data, 'never', overwrite=o),
    'log': lambda data, o: run_experiment(EXP, data, 'never', log=o if o!=[] else 5),
    'Run': lambda data, o: Run(o),
    'write_report': lambda data, o: write_report(o),
    'Checkpoint': lambda data, o: Checkpoint(o),
    'every': lambda data, o: Checkpoint('never', every=o),
    'comparison': lambda data, o: write_comparison([Run(data.parent/'run')]*1, o),
}

@pytest.mark.parametrize('name', CALLS)
def test_nonsense_ends_in_one_line(few, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for o in NONSENSE:
        if (name,o)==('every',5): continue # that will do
        with pytest.raises((ValueError,TypeError,OSError)) as e: CALLS[name](few, o)
        assert '\n' not in str(e.value) and '/advtrain/' in str(e.traceback[-1].path), (name, o, e.value)
    assert not list(tmp_path.iterdir())

# Ctrl-C

INTERRUPTED = '''
import os,signal,sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class CtrlC:
    def find_spec(self, name, *args):
        if name!={name!r}: return
        sys.meta_path.remove(self)
        os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
sys.argv = ['advtrain_run', 'quickstart', '--out', {out!r}]
from advtrain.cli.shell import advtrain_run
sys.exit(advtrain_run())
'''

@pytest.mark.parametrize('name', ['advtrain.cli.commands','fastcore.docments','torch','fastai.learner'])
def test_ctrl_c_while_modules_are_imported(tmp_path, name):
    res = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', INTERRUPTED.format(name=name, out=str(tmp_path/'run'))],
        capture_output=True, text=True)
    assert (res.returncode,res.stderr.count('\n'))==(130,1) and 'advtrain_run: interrupted' in res.stderr, res.stderr

def test_a_second_ctrl_c_is_one_line_as_well(monkeypatch, capsys):
    from advtrain.cli import commands,shell
    def pressed_twice():
        try: raise KeyboardInterrupt
        except KeyboardInterrupt: raise KeyboardInterrupt # noqa: B904 - pressed again, not raised from it
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(commands, 'advtrain_run', pressed_twice)
    try: assert shell.advtrain_run()==130
    finally: signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err=='advtrain_run: interrupted\n'
