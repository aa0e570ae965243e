"""The main job from end to end."""
import contextlib,io,json,os,re,shlex,shutil,signal,subprocess,sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from conftest import little_drawn,tiny
from PIL import Image
from processes import Started

from advtrain.all import (
    CIFAR10_STATS,Checkpoint,EXPERIMENTS,Experiment,FIGURES,Run,cifar10,class_files,image_dls,image_stats,
    make_learner,run_experiment,scan_images)
from advtrain.cli.commands import advtrain_compare,advtrain_predict,advtrain_run
from advtrain.runs.checksums import CHECKSUMS

DRAWN = FIGURES.keys()-{'lr_find'} # figures of a run whose learning rate is a number

def test_page_and_readme_show_every_figure(tiny_run):
    from advtrain.pages.report import AFTER_GALLERY,BEFORE_GALLERY
    page,readme = ((tiny_run.folder/n).read_text() for n in ('report.html','README.md'))
    shown = [n for names in (BEFORE_GALLERY | AFTER_GALLERY).values() for n in names]
    assert [n for n in shown if f'id="{n}"' not in page]==['lr_find'] # the finder wasn't asked for
    assert not [o for o in tiny_run.folder.rglob('lr_find*')]
    assert not re.search(r'(src|href)="https?:', page)
    for name in DRAWN:
        assert f'figures/{name}.png' in readme
        with Image.open(tiny_run.folder/'figures'/f'{name}.png') as im: assert min(im.size) > 100
    assert f"{tiny_run.metrics['test_accuracy']:.2%}" in page and len(page) < 5e6
    # meanings come from the source
    assert '# Normalisation layer, a name in `NORMS`' in (tiny_run.folder/'experiment.toml').read_text()

def test_metrics_agree_with_predictions(tiny_run):
    t,m,h = tiny_run.predictions,tiny_run.metrics,tiny_run.history
    assert m['test_correct']==(t.actual==t.predicted).sum() and m['test_images']==len(t)==200
    assert m['best_epoch']==h.sort_values(['valid_acc','valid_loss'], ascending=[False,True]).epoch.iloc[0]
    assert np.allclose(h.train_acc, h.train_correct/h.train_n) and (h.train_n==540).all()

READ = {
    'experiment.toml': 'experiment', 'environment.json': 'environment', 'metrics.json': 'metrics',
    'history.csv': 'history', 'model.csv': 'model', 'predictions.csv': 'predictions',
    'predictions.safetensors': 'interpretation', 'life.safetensors': 'life', 'film.safetensors': 'film'}
FAULTS = {
    'missing': lambda f: f.unlink(),
    'cut': lambda f: f.write_bytes(f.read_bytes()[:-20]),
    'edited': lambda f: f.write_bytes(f.read_bytes().replace(b'1', b'2')),
    'empty': lambda f: f.write_bytes(b'')}

def same(a, b):
    "Are two things that a run gives equal?"
    if hasattr(a, 'margins'): return a.table.equals(b.table) and a.valid.table.equals(b.valid.table)
    if hasattr(a, 'maps'):
        return a.table.equals(b.table) and all(np.array_equal(a.maps[k], b.maps[k]) for k in a.layers)
    if hasattr(a, 'logits'): return torch.equal(a.logits, b.logits) and a.table.equals(b.table)
    return a.equals(b) if hasattr(a, 'equals') else a==b

@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('name', [*READ, 'weights.safetensors', 'figures/curves.png', CHECKSUMS])
def test_damaged_run_is_named_and_gives_the_rest(tiny_run, tmp_path, name, fault):
    shutil.copytree(tiny_run.folder, folder := tmp_path/'run')
    FAULTS[fault](folder/name)
    with pytest.warns(UserWarning, match=f'{re.escape(name)} (is missing|was cut or edited)'): run = Run(folder)
    assert list(run.problems)==[name]
    for file,attribute in READ.items():
        if file==name:
            with pytest.raises(ValueError, match=re.escape(str(folder/name))): getattr(run, attribute)
        else: assert same(getattr(run, attribute), getattr(tiny_run, attribute))
    assert len(run.figures())==len(DRAWN) - (name=='figures/curves.png')
    assert str(folder) in repr(run)

def test_shell_warns_in_one_line(tiny_run, tmp_path, capsys):
    "What a damaged run still has can be compared; the file is named once"
    for o in ('same','edited'): shutil.copytree(tiny_run.folder, tmp_path/o)
    (tmp_path/'edited'/'model.csv').write_text('better')
    words = [str(tmp_path/o) for o in ('same','edited')] + ['--out', str(tmp_path/'page.html')]
    assert advtrain_compare(words)==0
    out,err = capsys.readouterr()
    assert err==(f"advtrain_compare: warning: {tmp_path/'edited'}: "
        'model.csv was cut or edited after the run finished\n')
    assert 'not significant' in out and 'p = 1,' in out
    assert advtrain_compare([*words, '--quiet'])==0 and capsys.readouterr()==('','')

def test_run_goes_on_with_its_learner(tiny_run, some):
    "With the data: the test set, and more epochs; without: other images"
    run = Run(tiny_run.folder)
    learn = run.learner(some)
    with learn.no_bar(): assert learn.interpret().table.predicted.tolist()==run.predictions.predicted.tolist()
    files = [some/o for o in run.predictions.path[:5]]
    with (alone := run.learner()).no_bar():
        assert alone.interpret(files).table.predicted.tolist()==run.predictions.predicted[:5].tolist()
    with learn.no_bar(): learn.fit(1)
    assert len(learn.history)==1

def test_a_run_keeps_its_fit(tmp_path, capsys):
    "Its learner without data and the shell prepare images that aren't square as the run did"
    for i in range(24): # bright at the ends, which a crop loses
        file = tmp_path/'data'/'ab'[i%2]/f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.effect_noise((48,16), 40)
        noise.paste([0,255][i%2], (0,0,12,16))
        noise.save(file)
    exp = tiny(fit='pad', bs=8, valid_pct=.3, precision='fp32')
    with little_drawn(): run = run_experiment(exp, tmp_path/'data', tmp_path/'runs')
    assert 'fit = "pad"' in (run.folder/'experiment.toml').read_text()
    files = [tmp_path/'data'/o for o in run.predictions.path]
    with (alone := run.learner()).no_bar(): table = alone.interpret(files).table
    np.testing.assert_allclose(table.p_predicted, run.predictions.p_predicted, atol=1e-3)
    capsys.readouterr()
    assert advtrain_predict([str(run.folder), *map(str, files), '--no-maps', '--json'])==0
    told = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose([o['probability'] for o in told], run.predictions.p_predicted, atol=1e-3)

def test_runs_from_before_a_choice_take_its_default():
    text = '\n'.join(o for o in Experiment().to_toml().splitlines() if not o.startswith('fit'))
    assert 'fit =' not in text and Experiment.from_toml(text)==Experiment() and Experiment().fit=='crop'

def test_other_data_are_refused(tiny_run, some, tmp_path):
    shutil.copytree(some, moved := tmp_path/'moved')
    assert len(Run(tiny_run.folder, data=moved).interpretation.pixels([0]))==1 # the same images elsewhere
    victim = moved/tiny_run.predictions.path[0]
    Image.open(victim).point(lambda v: 255-v).save(victim)
    there = tiny_run.environment['data']['fingerprint']['test']
    with pytest.raises(ValueError, match=f'other images than the run.*{there} then'):
        Run(tiny_run.folder, data=moved).interpretation.pixels([0])
    with pytest.raises(FileNotFoundError, match='no longer exists'):
        Run(tiny_run.folder, data=tmp_path/'gone').interpretation.pixels([0])

@pytest.mark.parametrize('name', EXPERIMENTS)
def test_every_preset_takes_a_step(name, sample):
    exp = EXPERIMENTS[name].replace(width=4, bs=50)
    learn = make_learner(exp, sample)
    x,y = learn.dls.one_batch()
    loss = learn.loss_func(learn.model(x), y)
    loss.backward()
    assert x.shape==(50,3,exp.size,exp.size) and torch.isfinite(loss)

@pytest.mark.parametrize('fast,workers', [(True,0),(False,0),(False,2)])
def test_same_seed_same_run(few, fast, workers):
    def weights(seed):
        learn = make_learner(
            EXPERIMENTS['quickstart'].replace(width=4, bs=15, epochs=1, seed=seed), few, fast=fast, num_workers=workers)
        with learn.no_bar(): learn.fit(1)
        return torch.cat([p.flatten() for p in learn.model.parameters()])
    first = weights(1)
    assert torch.equal(first, weights(1)) and not torch.equal(first, weights(2))

def test_a_line_an_epoch_where_there_is_no_screen(few, capsys):
    learn = make_learner(tiny(bs=15), few)
    learn.fit(2)
    out = capsys.readouterr().out
    assert [o.split(':')[0].split(' ')[0] for o in out.splitlines()]==['training','Epoch','Epoch','Best']
    assert '\r' not in out and '█' not in out and '\x1b' not in out

class Screen(io.StringIO):
    "A terminal"
    def isatty(self): return True

def test_bars_in_a_terminal(few, tmp_path):
    "There are bars above which the lines are printed, also in a run that is resumed"
    for n,train in ((1, lambda o: o.fit(1, cbs=Checkpoint(tmp_path))), (3, lambda o: o.resume(3, tmp_path))):
        with contextlib.redirect_stdout(Screen()) as out: train(make_learner(tiny(bs=15), few))
        shown = out.getvalue()
        assert '█' in shown and re.search(rf'Epoch {n}/{n} : .*\d+/\d+ \d\d:\d\d<\d\d:\d\d', shown)
        assert re.search(rf'Epoch {n}/{n}: Train Loss .*Best Valid', shown, re.S)

SMALL = 'quickstart --width 4 --size 16 --bs 15 --epochs 3 --n-images 1 --layers layer4'.split()

def command(*words):
    "Run the shell command in a process that Ctrl-C can stop, even if pytest runs in the background"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(advtrain_run(words))

def test_ctrl_c_says_how_to_go_on(few, tmp_path):
    "A run interrupted from the keyboard exits with 130; the command it names finishes it as if nothing had happened"
    words = [*SMALL, '--data', str(few)]
    whole = Started(command, *words, '--out', str(tmp_path/'b'))
    held = Started(command, *words, '--out', str(tmp_path/'a'), hold='a')
    held.wait_until_held()
    os.kill(held.pid, signal.SIGINT)
    code,err = held.exit_code(),held.read('err')
    assert code==130 and err.count('\n')==1
    assert re.search(
        r'advtrain_run: stopped in epoch 2 of 3\. The checkpoint of epoch 1, .*, is complete\. '
        r'Resume with: advtrain_run ', err)
    program,*rest = shlex.split(err.split('Resume with: ')[1])
    assert [program, *rest]==['advtrain_run', *words, '--out', str(tmp_path/'a'), '--resume']
    Started(command, *rest).ended()
    whole.ended()
    a,b = (Run(tmp_path/o) for o in 'ab')
    assert a.history.drop(columns='seconds').equals(b.history.drop(columns='seconds'))
    assert a.predictions.equals(b.predictions)
    assert sorted(o.name for o in (tmp_path/'a').glob('*.safetensors'))==[
        'checkpoint-0003.safetensors','film.safetensors','life.safetensors','predictions.safetensors','weights.safetensors']
    assert np.array_equal(a.life.margins, b.life.margins, equal_nan=True)
    assert same(a.film, b.film)

def test_json_and_quiet(few, tmp_path, shell):
    "One JSON object alone on the standard output, progress on the standard error; nothing at all when quiet"
    words = [*SMALL, '--data', few, '--epochs', 1, '--no-nesterov', '--out', tmp_path/'a']
    code,out,err = shell(*words, '--json')
    assert code==0 and len(out)==1 and any(o.startswith('Epoch 1/1: Train Loss') for o in err)
    result,run = json.loads(out[0]),Run(tmp_path/'a')
    assert (result['name'],result['id'])==('quickstart-width-4-size-16-epochs-1-bs-15-nesterov-False',run.experiment.id)
    assert result['test_correct']==run.metrics['test_correct'] and not run.experiment.nesterov
    assert shell(*words, '--resume', '--quiet')==(0,[],[])
    assert shell(*words, '--quiet')[2][0].endswith('or pass overwrite=True (--overwrite)')

def test_help_is_quick_and_complete():
    "No module that takes seconds; every choice is an option"
    code = ("import sys; from advtrain.cli.commands import advtrain_run\n"
        "try: advtrain_run(['--help'])\n"
        "except SystemExit: sys.exit(any(o in sys.modules for o in ('torch','fastai','albumentations','matplotlib')))")
    out = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout
    assert all(f"--{f.name.replace('_','-')}" in out for f in fields(Experiment)) and 'Weight decay: L2' in out

def test_damaged_checkpoint(some, tmp_path):
    "A damaged file is named, and the run goes on from the one before it where that is whole"
    exp = tiny(name='run', epochs=3)
    def _resume(how, folder):
        with little_drawn(), contextlib.redirect_stdout(io.StringIO()):
            return run_experiment(exp, some, folder, resume=how)
    with pytest.MonkeyPatch.context() as m: # it is killed before the end
        m.setattr('advtrain.launch.runner.Runner.finish', lambda *args: 1/0)
        with pytest.raises(ZeroDivisionError): _resume(False, tmp_path/'killed')
    shutil.copytree(tmp_path/'killed', folder := tmp_path/'a')
    whole,lost = folder/'checkpoint-0002.safetensors',folder/'checkpoint-0003.safetensors'
    lost.write_bytes(lost.read_bytes()[:-1])
    with pytest.raises(ValueError,
            match='checkpoint-0003.safetensors is damaged.*The checkpoint before it, of epoch 2, is intact'):
        _resume(True, folder)
    assert _resume('previous', folder).metrics['test_correct']==_resume(True, tmp_path/'killed').metrics['test_correct']
    for o in ('metrics.json',CHECKSUMS): (folder/o).unlink()
    (folder/'weights.safetensors').write_bytes(lost.read_bytes())
    with pytest.raises(ValueError, match="weights.safetensors isn't from this run"): _resume(True, folder)
    lost.rename(whole)
    with pytest.raises(ValueError, match='damaged, or another file took its place: it holds 3 epochs'):
        _resume(True, folder)

def test_cifar10_copy():
    if not os.environ.get('ADVTRAIN_CIFAR10'): pytest.skip('ADVTRAIN_CIFAR10 names no copy of CIFAR-10')
    path = cifar10()
    dls = image_dls(path, watch='test')
    assert [len(o.dataset) for o in dls.loaders]==[50000,10000,10000]
    dls = image_dls(path)
    assert [len(o.dataset) for o in dls.loaders]==[45000,5000,10000]
    files = class_files(path)
    stats = image_stats(scan_images(files)[['train' in f.parts for f in files]])
    assert np.allclose(stats, CIFAR10_STATS, atol=2e-3)

def test_a_damaged_file_is_not_taken_for_a_pickle(tmp_path):
    "The length of its header may begin with the byte that a pickle begins with"
    from advtrain.files.tensors import load_tensors,save_tensors
    for n in range(400):
        save_tensors({'a': torch.arange(9)}, file := tmp_path/'a.safetensors', {'text': 'x'*n})
        if (data := bytearray(file.read_bytes()))[0]==0x80: break
    assert data[0]==0x80
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match='is damaged'): load_tensors(file)
    file.write_bytes(b'\x80\x04' + bytes(40))
    with pytest.raises(ValueError, match='is a pickle'): load_tensors(file)
