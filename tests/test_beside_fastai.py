"""A learner of advtrain with what people use beside it: fastai's callbacks, other losses and targets, odd batches."""
import contextlib,io

import pytest
import torch
from fastai.callback.core import Callback,FetchPredsCallback
from fastai.callback.progress import ShowGraphCallback
from fastai.callback.tracker import EarlyStoppingCallback,SaveModelCallback
from fastai.callback.training import GradientAccumulation
from fastai.data.core import DataLoaders
from fastai.learner import load_learner
from fastai.losses import BCEWithLogitsLossFlat,MSELossFlat
from fastai.metrics import F1Score
from torch import nn

from advtrain.all import (
    OPTS,Checkpoint,EpochLog,FiniteLoss,PlateauLR,Precision,RunCallback,RunLearner,image_dls,resnet_learner,set_seed)
from advtrain.train.checkpoint import checkpoints
from advtrain.files.tensors import load_tensors,save_tensors
from advtrain.train.state import pack,unpack

@pytest.fixture(scope='module')
def make(few):
    "Make a learner; two are the same"
    def _make(bs=45, size=8, **kwargs):
        set_seed(1)
        dls = image_dls(few, size=size, bs=bs, device='cpu')
        return resnet_learner(dls, **dict(width=4, lr=.05, precision='fp32') | kwargs)
    return _make

def quiet(f, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()): return f(*args, **kwargs)

def weights(learn): return torch.cat([o.flatten().float() for o in learn.model.state_dict().values()])

class Stop(RunCallback):
    "Interrupt after the first epoch"
    order,passive = 2000,True
    def after_epoch(self): raise KeyboardInterrupt

def resumed(make, folder, cbs, n=2):
    "A run that was interrupted after its first epoch, and resumed by another learner"
    with pytest.raises(KeyboardInterrupt): quiet(make().fit, n, cbs=[*cbs(), Checkpoint(folder), Stop()])
    quiet((learn := make()).resume, n, folder, cbs=cbs())
    return learn

MORE = {
    'accumulated gradients': lambda: [GradientAccumulation(90)],
    'callbacks that move': lambda: [FetchPredsCallback()],
    'several that move': lambda: [EarlyStoppingCallback(), FetchPredsCallback()],
}

@pytest.mark.parametrize('cbs', MORE.values(), ids=MORE)
def test_a_resumed_run_is_the_same_run(cbs, make, tmp_path):
    quiet((whole := make(ema=.5, warmup=1)).fit, 2, cbs=cbs())
    part = resumed(lambda: make(ema=.5, warmup=1), tmp_path, cbs)
    assert torch.equal(weights(part), weights(whole)) and part.plateau_lr.best==whole.plateau_lr.best
    assert part.history.drop(columns='seconds').equals(whole.history.drop(columns='seconds'))
    assert whole.history.valid_n.tolist()==[15,15] # what a callback fetches is not counted

def test_gradients_are_in_a_checkpoint_only_while_they_wait(make, tmp_path):
    cbs = [GradientAccumulation(90), Checkpoint(tmp_path/'some'), Stop()]
    with pytest.raises(KeyboardInterrupt): quiet(make().fit, 1, cbs=cbs)
    quiet(make().fit, 1, cbs=Checkpoint(tmp_path/'none'))
    held = [any('.gradients.' in k for k in load_tensors(checkpoints(tmp_path/o)[-1])[0]) for o in ('some','none')]
    assert held==[True,False]

def test_checkpoints_without_gradients_are_read(make, tmp_path):
    "As version 0.0.1 wrote them"
    quiet((whole := make(ema=.5)).fit, 2)
    with pytest.raises(KeyboardInterrupt): quiet(make(ema=.5).fit, 2, cbs=[Checkpoint(tmp_path), Stop()])
    file, = checkpoints(tmp_path)
    tensors,meta = load_tensors(file)
    state = unpack(meta['state'], tensors)
    del state['gradients']
    ema = dict(state['callbacks'])['ema']
    for k,v in ema['averaged'].items(): # the average was beside the weights
        state['model'][k],ema['averaged'][k] = v,state['model'][k].clone()
    ema['swapped'] = False
    del ema['seen']
    packed,tensors = pack(state, 'state')
    save_tensors(tensors, file, meta | dict(state=packed))
    quiet((learn := make(ema=.5)).resume, 2, tmp_path)
    assert torch.equal(weights(learn), weights(whole))

def test_what_is_saved_was_validated(make, tmp_path):
    "With averaged weights: by fastai's callbacks, by hand, and for use elsewhere"
    learn = make(ema=.5)
    learn.path = tmp_path
    quiet(learn.fit, 3, cbs=[SaveModelCallback(), EarlyStoppingCallback(patience=3)])
    loss = quiet(learn.validate)[0]
    assert abs(loss-learn.history.valid_loss.min())<1e-5
    learn.export()
    assert torch.equal(weights(load_learner(tmp_path/'export.pkl')), weights(learn))
    learn.save('mine')
    (other := make()).path = tmp_path
    assert abs(quiet(other.load('mine').validate)[0]-loss)<1e-5

def test_weights_that_were_loaded_are_trained(make, capsys):
    "Not those that the average was put in place of"
    class First(Callback):
        def before_batch(self):
            if self.training and self.train_iter==0: self.seen = self.model.fc.weight.detach().clone()
    learn,other = make(ema=.5),make()
    quiet(learn.fit, 1)
    aside = learn.ema.averaged['fc.weight'].clone()
    quiet(learn.fit, 1, cbs=(first := First())) # nothing was loaded
    assert torch.equal(first.seen, aside)
    learn.model.load_state_dict(other.model.state_dict())
    learn.fit(1, cbs=first)
    assert torch.equal(first.seen, other.model.fc.weight) and 'averaging starts again' in capsys.readouterr().out

def test_ctrl_c_leaves_the_average(make):
    class InStep(Callback):
        def after_step(self):
            if self.epoch==1: raise KeyboardInterrupt
    learn = make(ema=.5)
    with pytest.raises(KeyboardInterrupt): quiet(learn.fit, 2, cbs=InStep())
    assert learn.ema.swapped and torch.equal(learn.ema.averaged_weights()['fc.weight'], learn.model.fc.weight)

@pytest.mark.parametrize('terminal', [True,False])
def test_a_graph_is_for_terminals(terminal, make, monkeypatch):
    drawn = []
    bar = 'fastprogress.fastprogress.ConsoleMasterBar.update_graph'
    monkeypatch.setattr(bar, lambda self, *args, **kwargs: drawn.append(args))
    out = io.StringIO()
    out.isatty = lambda: terminal
    with contextlib.redirect_stdout(out): make().fit(2, cbs=ShowGraphCallback())
    assert len(drawn)==2*terminal

@pytest.mark.parametrize('opt', OPTS)
def test_hyperparameters_are_numbers(opt, make):
    "TensorBoard and others write them as such"
    if opt=='muon' and not hasattr(torch.optim, 'Muon'): pytest.skip('this PyTorch has no Muon')
    learn = make(opt=opt)
    learn.create_opt()
    assert all(isinstance(v, (int,float)) for h in learn.opt.hypers for v in h.values())

@pytest.mark.parametrize('norm, size, bs', [('batch',8,134), ('instance',8,45), ('group',8,134)])
def test_a_norm_of_one_value(norm, size, bs, make):
    "135 images in batches of 134 leave one; three halvings make one pixel of eight"
    with pytest.raises(ValueError, match='a norm got one value per channel, in an input of shape .*: choose') as e:
        quiet(make(bs, size, norm=norm).fit, 1)
    assert '\n' not in str(e.value)
    if norm=='instance':
        with pytest.raises(ValueError, match='a norm got one value'): quiet(make(bs, size, norm=norm).validate)

def test_a_last_batch_of_one_image(make):
    "Is trained where a norm can take it"
    for norm,size in (('layer',8),('batch',24)):
        quiet((learn := make(134, size, norm=norm)).fit, 1)
        assert learn.history.train_n.tolist()==[135]

OTHER = {
    'several labels': (torch.zeros(6,2), 2, BCEWithLogitsLossFlat()),
    'one logit': (torch.zeros(6), 1, BCEWithLogitsLossFlat()),
    'numbers': (torch.zeros(6,1), 1, MSELossFlat()),
}

@pytest.mark.parametrize('task', OTHER)
def test_other_targets_are_refused_before_a_step(task):
    targets,n,loss = OTHER[task]
    batch = torch.randn(6,3,4,4),targets
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, n))
    learn = RunLearner(DataLoaders([batch], [batch], device='cpu'), model, loss, lr=.1, cbs=[EpochLog(), FiniteLoss()])
    before = weights(learn)
    says = r'^EpochLog knows which images .*learn.remove_cb\(EpochLog\)$'
    with learn.no_bar(),learn.no_logging(),pytest.raises(TypeError, match=says): learn.fit(1)
    assert torch.equal(weights(learn), before)
    learn.remove_cb(EpochLog)
    with learn.no_bar(),learn.no_logging(): learn.fit(1)
    assert not torch.equal(weights(learn), before)
    with pytest.raises(ValueError, match='dls has no classes'): resnet_learner(learn.dls)

def own(pred, targ): return (pred.softmax(1)-nn.functional.one_hot(targ, 3)).square().sum(1).mean()

LOSSES = {'function': nn.functional.cross_entropy, 'own': own, 'module': nn.CrossEntropyLoss(label_smoothing=.1)}

@pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)
def test_other_losses(loss, make, tmp_path):
    "In training, in a resumed run, and for the loss of each image"
    def _make():
        learn = make()
        learn.loss_func = loss
        return learn
    quiet((whole := _make()).fit, 2)
    assert torch.equal(weights(resumed(_make, tmp_path, list)), weights(whole))
    logits,targs,losses = quiet(whole.get_preds, with_loss=True, act=lambda o: o)
    assert torch.allclose(losses, torch.stack([loss(logits[i:i+1], targs[i:i+1]) for i in range(15)]), atol=1e-5)

@pytest.mark.parametrize('kind, monitor', [(EarlyStoppingCallback,'f1'), (SaveModelCallback,'acc'), (PlateauLR,'time')])
def test_what_is_not_recorded_cannot_be_watched(kind, monitor, make):
    learn = make()
    learn.remove_cb(PlateauLR)
    says = f'^{kind.__name__} watches .*: choose from train_loss, valid_loss, accuracy$'
    with pytest.raises(ValueError, match=says): quiet(learn.fit, 1, cbs=kind(monitor))

def test_other_metrics(make):
    learn = make()
    learn.metrics = [F1Score(average='macro')]
    quiet(learn.fit, 1)
    assert len(learn.recorder.values[0])==3
    learn.metrics = None
    quiet(learn.fit, 1)
    assert len(learn.recorder.values[0])==2

@pytest.mark.parametrize('cb', [EpochLog, PlateauLR, Precision, FiniteLoss])
def test_no_two_of_a_kind(cb, make):
    "Which would both change the training; and a class counts as a callback"
    learn = make()
    with pytest.raises(ValueError, match=f'this learner already has {cb.__name__}'): quiet(learn.fit, 1, cbs=cb)
    learn.remove_cb(cb)
    quiet(learn.fit, 1, cbs=cb)

def test_one_precision(make):
    with pytest.raises(ValueError, match='both set the precision'): quiet(make().to_fp16().fit, 1)
    quiet(make().to_fp32().fit, 1)
