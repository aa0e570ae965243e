"""What only a GPU shows. On the CPU, `--device cpu` rehearses it: the CPU then takes the paths of a GPU.

    pytest -m cuda tests/test_cuda.py                    # skipped where there is no GPU
    pytest -m cuda --device cpu tests/test_cuda.py
"""
import gc,json,math,os,signal,subprocess,sys,time
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback

from advtrain.all import (A,Checkpoint,GradCAM,Run,augment_batch,cutout_augs,image_dls,resnet_learner,run_experiment,
                          run_many,set_seed,write_report)
from advtrain.train.callbacks import RunCallback
from advtrain.norms import LayerNorm,LayerNorm2d
from conftest import tiny

pytestmark = pytest.mark.cuda

@pytest.fixture(autouse=True)
def exact(monkeypatch):
    "Convolutions in fp32, not TF32"
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)

@pytest.fixture
def only_gpu(device):
    if device.type=='cpu': pytest.skip('only a GPU shows it')

def learner(data, device, augmented=True, precision='fp32', lr=1e-3, **kwargs):
    "A learner of nine steps an epoch"
    set_seed(0)
    how = {k: kwargs.pop(k) for k in ('fast','num_workers') if k in kwargs}
    dls = image_dls(data, cutout_augs(16, 2, 4) if augmented else None, size=16, bs=15, device=device, **how)
    return resnet_learner(dls, width=16, lr=lr, precision=precision, **kwargs)

def fitted(learn, epochs=1, **kwargs):
    with learn.no_bar(): learn.fit(epochs, **kwargs)
    return learn

def record(learn): return learn.history.drop(columns='seconds').to_numpy(float)

def is_on(model, device): return {p.device.type for p in model.parameters()}=={device.type}

class Conv(Callback):
    "Type and layout of what the first convolution gives, and the scale of the loss"
    def before_fit(self): self.hook = self.model.conv1.register_forward_hook(self._see)
    def _see(self, m, i, o): self.dtype,self.last = o.dtype,o.is_contiguous(memory_format=torch.channels_last)
    def after_backward(self): self.scale = self.learn.scaler.get_scale()
    def after_fit(self): self.hook.remove()

@pytest.mark.parametrize('precision,options', [('bf16',{}), ('fp16',dict(grad_clip=1.)), ('fp32',{})],
    ids=['bf16','fp16','fp32'])
def test_each_precision(few, device, precision, options):
    learn = learner(few, device, precision=precision, **options)
    before = learn.model.conv1.weight.detach().cpu().clone()
    fitted(learn, 2, cbs=(seen := Conv()))
    assert seen.last
    assert str(seen.dtype)=={'bf16': 'torch.bfloat16', 'fp16': 'torch.float16', 'fp32': 'torch.float32'}[precision]
    assert (seen.scale>1)==(precision=='fp16')
    after = learn.model.conv1.weight.detach().cpu()
    assert after.isfinite().all() and not torch.equal(before, after)
    assert is_on(learn.model, device) and np.isfinite(record(learn)).all() and learn.history.train_n.tolist()==[135,135]

def test_image_by_image_with_workers(few, device):
    "Workers are forked from a process that has used the GPU"
    torch.ones(1, device=device).sum().item()
    fast,slow = learner(few, device, False),learner(few, device, False, fast=False, num_workers=2)
    for (x,y),(x2,y2) in zip(fast.dls.valid, slow.dls.valid):
        assert x.device.type==device.type and torch.equal(y, y2)
        assert (x-x2).abs().max()<1e-5
    assert np.isfinite(record(fitted(learner(few, device, fast=False, num_workers=2)))).all()

EXACT = [A.HorizontalFlip(), A.RandomCrop(16, 16, pad_if_needed=True), A.CoarseDropout((1,1), (4,4), (4,4), fill=128),
    A.ToGray(p=.3)]
ROUNDED = [A.Rotate((-15,15)), A.Affine(scale=(.8,1.2)), A.RandomBrightnessContrast()]

@pytest.mark.parametrize('transforms,off', [(EXACT,0),(ROUNDED,.02)], ids=['exact','rounded'])
def test_augmentation_is_that_of_the_cpu(device, transforms, off):
    "The same draws give the same pixels; where they are interpolated, a few are a level off for each transform"
    x = torch.randint(256, (200,20,20,3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    cpu,gpu = [
        augment_batch(A.Compose(transforms), x.to(d), np.random.default_rng(1)).cpu().int() for d in ('cpu',device)]
    difference = (cpu-gpu).abs()
    assert (difference>0).float().mean()<=off and difference.max()<=(8 if off else 0)

class Follow(Callback):
    "Average the first weights by hand"
    n = 0
    def before_fit(self): self.avg = self.model.conv1.weight.detach().clone()
    def after_step(self):
        self.n += 1
        self.avg.lerp_(self.model.conv1.weight.detach(), 1-min(.9, (1+self.n)/(10+self.n)))

def test_average_plateau_and_warm_up(few, device):
    learn = learner(few, device, ema=.9, patience=1, min_delta=.9, warmup=1, factor=2)
    seen = []
    watch = Callback(after_step=lambda cb: seen.append(cb.opt.hypers[-1]['lr']))
    fitted(learn, 4, cbs=[follow := Follow(), watch])
    torch.testing.assert_close(learn.model.conv1.weight.detach(), follow.avg, rtol=1e-5, atol=1e-7)
    assert np.allclose(seen[:9], [1e-3*i/9 for i in range(1, 10)])
    assert learn.history.lr.iloc[-1]<learn.history.lr.max()

def test_a_loss_that_is_nan_stops_training(few, device, tmp_path):
    spoil = Callback(before_batch=lambda cb: (
        cb.model.conv1.weight.data.fill_(math.inf) if cb.training and (cb.epoch,cb.iter)==(1,2) else None))
    with pytest.raises(FloatingPointError,
            match=r'training loss became nan in epoch 2, batch 3 of 9.*checkpoint of epoch 1'):
        fitted(learner(few, device), 3, cbs=[spoil, Checkpoint(tmp_path)])
    assert [o.name for o in sorted(tmp_path.glob('*.safetensors'))]==[
        'checkpoint-0001.safetensors','weights.safetensors']

def test_a_full_disk_is_told(few, device, tmp_path, monkeypatch):
    "Also where a thread writes; weights without their checkpoint do not become the best"
    from advtrain.files.tensors import load_tensors
    from advtrain.train import checkpoint
    real = checkpoint.save_tensors
    def _full(tensors, file, meta):
        if file.name=='checkpoint-0002.safetensors': raise OSError(28, 'No space left on device')
        real(tensors, file, meta)
    monkeypatch.setattr(checkpoint, 'save_tensors', _full)
    with pytest.raises(OSError, match='No space left on device.*The checkpoint of epoch 1.*resume with learn.resume'):
        fitted(learner(few, device), 3, cbs=Checkpoint(tmp_path))
    assert load_tensors(tmp_path/'weights.safetensors')[1]['row']['epoch']==1

class Stop(RunCallback):
    "Raise an error in an epoch, counted from 0"
    passive = True
    def __init__(self, n): self.n = n
    def before_train(self):
        if self.epoch==self.n: raise ZeroDivisionError('on purpose')

def test_an_error_while_a_checkpoint_is_written(few, device, tmp_path, monkeypatch):
    "The checkpoint is there for whoever goes on at once, and the learner can be exported"
    whole = fitted(learner(few, device), 3)
    fsync = os.fsync
    monkeypatch.setattr('advtrain.files.atomic.os.fsync', lambda fd: (time.sleep(.5), fsync(fd)))
    learn = learner(few, device).add_cb(Checkpoint(tmp_path/'run'))
    with pytest.raises(ZeroDivisionError): fitted(learn, 3, cbs=Stop(2))
    with (resumed := learner(few, device)).no_bar(): resumed.resume(3, tmp_path/'run')
    assert np.allclose(record(resumed), record(whole), rtol=1e-4)
    learn.path = tmp_path
    learn.export()

@pytest.fixture
def ctrl_c():
    "Ctrl-C, also where a shell has started pytest in the background, which lets it be ignored"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)

def test_ctrl_c_while_a_checkpoint_is_written(few, device, tmp_path, monkeypatch, ctrl_c):
    fsync,written = os.fsync,[]
    def _interrupted(fd):
        written.append(fd)
        if len(written)==1: ctrl_c()
        time.sleep(.5)
        fsync(fd)
    monkeypatch.setattr('advtrain.files.atomic.os.fsync', _interrupted)
    with pytest.raises(KeyboardInterrupt) as raised: fitted(learner(few, device), 1, cbs=Checkpoint(tmp_path))
    assert 'The checkpoint of epoch 1' in str(raised.value) and 'resume with learn.resume(1' in str(raised.value)

def test_what_could_not_be_written_is_said_with_the_error(few, device, tmp_path, monkeypatch):
    def _full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('advtrain.files.atomic.os.fsync', _full)
    with pytest.raises((ZeroDivisionError,OSError)) as raised:
        fitted(learner(few, device), 3, cbs=[Checkpoint(tmp_path), Stop(1)])
    assert 'No space left on device' in ' '.join([str(raised.value), *getattr(raised.value, '__notes__', [])])

def test_the_curve_of_losses(few, device):
    import matplotlib.pyplot as plt
    learn = fitted(learner(few, device))
    learn.recorder.plot_loss()
    assert len(plt.gca().lines[0].get_xdata())==9-5
    plt.close()

def test_a_resumed_run_is_the_same(few, device, tmp_path):
    how = dict(ema=.9, warmup=1)
    whole = fitted(learner(few, device, **how), 3, cbs=Checkpoint(tmp_path/'whole'))
    for folder in ('gpu','cpu'): fitted(learner(few, device, **how), 1, cbs=Checkpoint(tmp_path/folder))
    def _resumed(name, device):
        learn = learner(few, device, **how)
        with learn.no_bar(): learn.resume(3, tmp_path/name)
        return record(learn)
    assert np.allclose(_resumed('gpu', device), record(whole), rtol=1e-4)
    on_cpu = _resumed('cpu', torch.device('cpu'))
    assert len(on_cpu)==3 and np.isfinite(on_cpu).all() and np.allclose(on_cpu[0], record(whole)[0], rtol=1e-4)

@pytest.fixture(scope='module')
def both(few, device):
    "A trained learner, and one with its weights on the CPU"
    learn,cpu = fitted(learner(few, device), 2),learner(few, torch.device('cpu'))
    cpu.model.load_state_dict(learn.model.state_dict())
    return learn,cpu

def test_predictions_and_maps_are_those_of_the_cpu(device, both):
    learn,cpu = both
    ours,theirs = learn.interpret(),cpu.interpret()
    assert (ours.logits-theirs.logits).norm()/theirs.logits.norm()<1e-3
    layers = ['layer1','layer4']
    maps = [o.gradcam(o.table, layers, raw=True) for o in (ours,theirs)]
    # a ReLU that is nearly 0 may be open in one and not in the other
    assert (maps[0]-maps[1]).norm()/maps[1].norm()<1e-2
    x = theirs.inputs(theirs.table).double()
    for method in ('gradcam','eigencam'):
        a,b = [GradCAM(o.model.double(), layers, method)(x.to(o.dls.device)).cpu() for o in both]
        assert (a-b).abs().max()<1e-3
    for o in both: o.model.float()

@pytest.mark.parametrize('norm', [LayerNorm,LayerNorm2d])
def test_norms_are_those_of_the_cpu(device, norm):
    torch.manual_seed(0)
    here,there = norm(32),norm(32).to(device)
    x = torch.randn(8, 32, 16, 16)*3+1
    weights = torch.randn_like(x)
    def _outcome(norm, device):
        a = x.to(device, memory_format=torch.channels_last).requires_grad_()
        norm.zero_grad()
        y = norm(a)
        (y*weights.to(device)).sum().backward()
        return [o.detach().cpu() for o in (y, a.grad, norm.weight.grad, norm.bias.grad)]
    for a,b in zip(_outcome(here, 'cpu'), _outcome(there, device)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    with torch.autocast(device.type, torch.bfloat16):
        y = there(x.to(device, torch.bfloat16, memory_format=torch.channels_last))
    assert y.dtype==torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)

@pytest.fixture(scope='module')
def run(few, device, tmp_path_factory):
    "A finished run"
    return run_experiment(tiny(), few, tmp_path_factory.mktemp('run')/'run', device=device)

def test_a_run_to_its_page(device, run):
    assert run.environment['device'].startswith(device.type) and ('gpu' in run.environment)==(device.type=='cuda')
    assert (run.folder/'report.html').stat().st_size>10_000 and not run.problems
    assert 0<=run.metrics['test_accuracy']<=1 and len(run.history)==2

def test_a_run_read_back(device, run):
    "Its network is where its images are"
    interp = Run(run.folder).interpretation
    assert is_on(interp.learn.model, device)
    rows = interp.table[:3]
    interp.plot_gradcam(rows, ['layer2','layer4'])
    table = interp.compare_methods(rows, ['gradcam','random'], 'layer4')
    assert len(table)
    write_report(run.folder)
    assert is_on(Run(run.folder).learner().model, device) # also without its data

def test_another_image_is_predicted(device, run, few, tmp_path, capsys):
    from advtrain.cli.commands import advtrain_predict
    file = next((few/'test').glob('*/*'))
    advtrain_predict([str(run.folder), str(file), '--out', str(tmp_path/'heat_maps')])
    assert file.name in capsys.readouterr().out

def test_onnx(run, tmp_path):
    for package in ('onnx','onnxruntime','onnxscript'): pytest.importorskip(package)
    assert run.to_onnx(tmp_path/'network.onnx').is_file() # it compares the logits

def test_what_looks_at_a_step(few, device):
    learn = learner(few, device)
    with learn.no_bar():
        assert 0<learn.lr_find(num_it=20, show_plot=False).valley<10
        profile = learn.profile(3)
        assert (profile.ms[['loader','forward','backward']]>0).all() and profile.attrs['images_per_second']>0
        assert learn.compare_precision(1).used.sum()==1

def test_no_step_waits(only_gpu, few, device):
    "Twenty steps after the first one"
    class Strict(RunCallback):
        order,passive = -1000,True
        in_lr_find = in_predictions = True
        def before_batch(self):
            torch.cuda.set_sync_debug_mode('error' if self.training and 1<=self.train_iter<=20 else 'default')
    learn = learner(few, device, precision='auto', ema=.9, warmup=1, grad_clip=1.)
    learn.dls.train.bs,learn.dls.train.at_once = 5,20 # batches are augmented four at a time
    try: fitted(learn, 1, cbs=Strict())
    finally: torch.cuda.set_sync_debug_mode('default')
    assert learn.train_iter>20

def test_memory_is_given_back(only_gpu, few, device):
    def _after(f):
        gc.collect()
        before = torch.cuda.memory_allocated()
        f()
        gc.collect()
        return torch.cuda.memory_allocated()-before
    def _fail():
        learn = learner(few, device)
        def _stop(*args): raise RuntimeError('stop')
        learn.model.fc.register_forward_hook(_stop)
        with pytest.raises(RuntimeError, match='stop'): fitted(learn)
    _after(lambda: fitted(learner(few, device))) # the images stay on the card, and so does what cuBLAS works with
    assert _after(lambda: fitted(learner(few, device)))<2e6
    assert _after(_fail)<2e6

def test_two_runs_at_once(few, device, tmp_path):
    exps = [tiny(name=n, epochs=1, seed=i) for i,n in enumerate(('one','two'))]
    runs = run_many(exps, few, tmp_path/'runs', jobs=2)
    assert runs.table.state.tolist()==['finished']*2
    about = [json.loads((tmp_path/'runs'/o.name/'environment.json').read_text()) for o in exps]
    assert all(o['device'].startswith(device.type) for o in about)

def test_two_processes_on_one_card(few, device):
    "They train as one does"
    one = record(fitted(learner(few, device, False), 2))
    launcher = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    here = Path(__file__)
    env = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(
        [str(here.parents[1]), *filter(None, [os.environ.get('PYTHONPATH')])]))
    res = subprocess.run([*launcher, here, few, device.type], capture_output=True, text=True, env=env)
    assert res.returncode==0, res.stderr
    rows = np.array(json.loads([o for o in res.stdout.splitlines() if o.startswith('[[')][0]))
    assert np.allclose(rows, one, rtol=1e-3)

def as_one_of_two(data, device):
    "Print the record of a training that two processes share"
    torch.backends.cudnn.allow_tf32 = False
    learn = learner(data, torch.device(device), False)
    with learn.no_bar(), learn.distributed(): learn.fit(2)
    if os.environ['RANK']=='0': print(json.dumps(record(learn).tolist()), flush=True)

if __name__=='__main__': as_one_of_two(*sys.argv[1:])
