"""Whatever stops training, validation or a look at a learner, it is as before, and nothing enters the next step."""
import contextlib,copy,io,shutil

import pytest
import torch
from fastai.callback.core import Callback,CancelEpochException,event
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.hook import ActivationStats
from fastai.callback.mixup import MixUp
from fastai.callback.progress import CSVLogger
from fastai.callback.training import GradientAccumulation
from fastai.imports import noop
from fastai.learner import Learner
from torch import nn

from advtrain.all import Checkpoint,RunCallback,image_dls,resnet_learner,set_seed
from advtrain.train.cleanup import _autocast_depth

class Net(nn.Module):
    "A network of a few numbers, with dropout and a batch norm"
    def __init__(self, n_out, norm):
        super().__init__()
        self.conv,self.norm,self.fc,self.fails = nn.Conv2d(3, 4, 3, 2),nn.BatchNorm2d(4),nn.Linear(4, n_out),noop

    def forward(self, x):
        x = self.norm(self.conv(x)).relu()
        self.fails() # with autocast on
        return self.fc(nn.functional.dropout(x.mean((2,3)), .1, self.training))

@pytest.fixture(scope='module')
def make(few):
    "Make a learner; two are the same"
    def _make(**kwargs):
        set_seed(1)
        dls = image_dls(few, size=8, bs=45, device='cpu')
        return resnet_learner(dls, Net, precision='bf16', ema=.5, grad_clip=1, warmup=1, **kwargs)
    return _make

def quiet(f, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()): return f(*args, **kwargs)

STOPS = {'error': ValueError, 'Ctrl-C': KeyboardInterrupt}
EVENTS = [o for o in vars(event) if not o.startswith('_') and 'cancel' not in o and o!='after_create']

class Stop(RunCallback):
    "Raise at an event, last of all callbacks, after it has passed some times"
    order,passive = 2000,True
    in_lr_find = in_predictions = True
    def __init__(self, where, error, passes=0): self.where,self.error,self.passes = where,error,passes
    def happens(self, name):
        if name!=self.where: return
        self.passes -= 1
        if self.passes==-1: raise self.error('stopped here')

for name in EVENTS: setattr(Stop, name, lambda self, name=name: self.happens(name))

def in_second_epoch(name):
    "How often an event passes in an epoch of three batches, one more to validate with, and a batch"
    if name.endswith('_fit'): return 0
    if name in ('before_batch','after_pred','after_loss','after_batch'): return 4+1
    return 3+1 if 'backward' in name or 'step' in name else 1

def lent(learn):
    "What a learner may lend"
    modules = list(learn.model.modules())
    names = 'logger create_mbar one_batch loss_func loss_grad scaler model model_dir training _do_fit'.split()
    res = {k: vars(learn).get(k) for k in names}
    res |= dict(locked=learn.lock.locked(), callbacks=[(type(o), o.run, hasattr(learn, o.name)) for o in learn.cbs])
    res |= dict(modes=[m.training for m in modules])
    res |= dict(hooks=[len(m._forward_hooks)+len(m._forward_pre_hooks) for m in modules])
    res |= dict(gradients=[k for k,p in learn.model.named_parameters() if p.grad is not None])
    res |= dict(bars=vars(learn.progress).get('mbar'), forward=vars(learn.model).get('forward'))
    res |= dict(autocast=torch.is_autocast_enabled('cpu'), depth=_autocast_depth())
    return res | dict(grad=torch.is_grad_enabled(), benchmark=torch.backends.cudnn.benchmark)

def weights(learn): return torch.cat([o.flatten().float() for o in learn.model.state_dict().values()])

def stops(learn, error, f, *args, **kwargs):
    "Call `f`, which `error` stops; the learner is as it was"
    before = lent(learn)
    with pytest.raises(error): quiet(f, *args, **kwargs)
    after = lent(learn)
    assert not {k: (before[k],after[k]) for k in before if before[k]!=after[k]}

@pytest.fixture(scope='module')
def whole(make):
    "A learner that was never disturbed"
    quiet((learn := make()).fit, 3)
    return learn

@pytest.fixture(scope='module')
def begun(make, tmp_path_factory):
    "Checkpoints of one epoch of three"
    folder = tmp_path_factory.mktemp('begun')
    cbs = [Checkpoint(folder), Stop('before_train', KeyboardInterrupt, 1)]
    with pytest.raises(KeyboardInterrupt): quiet(make().fit, 3, cbs=cbs)
    return folder

@pytest.mark.parametrize('error', STOPS.values(), ids=STOPS)
def test_stopped_at_any_event(error, make, whole, begun, tmp_path):
    "And resumed with the same learner"
    learn = make()
    for name in EVENTS:
        stops(learn, error, learn.fit, 2, cbs=Stop(name, error, in_second_epoch(name)))
        shutil.copytree(begun, tmp_path/name)
        quiet(learn.resume, 3, tmp_path/name)
        assert torch.equal(weights(learn), weights(whole)), name

class Nth:
    "Raise at the nth call"
    def __init__(self, n, error): self.n,self.error = n,error
    def __call__(self, *args):
        self.n -= 1
        if self.n==0: raise self.error('stopped here')

@contextlib.contextmanager
def in_forward(learn, stop):
    learn.model.fails = stop
    try: yield
    finally: learn.model.fails = noop

@contextlib.contextmanager
def in_loader(learn, stop):
    dl,batches = learn.dls.train,type(learn.dls.train).__iter__
    def _batches(self):
        for b in batches(self):
            if self is dl: stop()
            yield b
    type(dl).__iter__ = _batches
    try: yield
    finally: type(dl).__iter__ = batches

@contextlib.contextmanager
def hooked(hook):
    try: yield
    finally: hook.remove()

PLACES = dict(forward=in_forward, loader=in_loader,
    loss=lambda learn, stop: hooked(learn.loss_func.func.register_forward_pre_hook(lambda *_: stop())),
    backward=lambda learn, stop: hooked(learn.model.conv.weight.register_hook(lambda g: stop())),
    step=lambda learn, stop: hooked(learn.opt.opt.register_step_pre_hook(lambda *_: stop())))

@pytest.mark.parametrize('place', PLACES)
def test_stopped_inside_a_step(place, make, whole, begun, tmp_path):
    learn = make()
    learn.create_opt()
    for i,error in enumerate(STOPS.values()):
        with PLACES[place](learn, Nth(2, error)): stops(learn, error, learn.fit, 2)
        shutil.copytree(begun, tmp_path/str(i))
        quiet(learn.resume, 3, tmp_path/str(i))
        assert torch.equal(weights(learn), weights(whole))

@pytest.mark.parametrize('look', ['lr_find','profile','compare_precision','validate','get_preds'])
def test_a_look_that_is_stopped_leaves_no_trace(look, make, whole):
    learn = make()
    learn.create_opt()
    for error in STOPS.values():
        with in_forward(learn, Nth(1, error)): stops(learn, error, getattr(learn, look))
        events = 'before_fit before_epoch before_batch after_loss after_batch'.split()
        for name in events if look!='compare_precision' else []: # which calls no callback
            with learn.added_cbs(Stop(name, error)): stops(learn, error, getattr(learn, look))
    if look in ('validate','get_preds'): quiet(getattr(learn, look)) # which waited for ever
    else:
        quiet(learn.fit, 3)
        assert torch.equal(weights(learn), weights(whole))
    assert not list(learn.path.glob('models'))

@pytest.mark.parametrize('more', [CSVLogger,MixUp,ActivationStats,GradientAccumulation])
def test_callbacks_of_fastai_give_back_too(more, make, tmp_path):
    learn = make()
    learn.path = tmp_path
    for name in ('before_fit','before_batch','after_loss','after_backward','after_train','after_epoch'):
        stops(learn, KeyboardInterrupt, learn.fit, 2, cbs=[cb := more(), Stop(name, KeyboardInterrupt)])
        if more is CSVLogger: assert cb.file.closed

@pytest.mark.filterwarnings('ignore')
def test_autocast_of_fastai_is_left(make):
    learn = make()
    learn.remove_cb(learn.precision)
    for name in ('before_batch','after_pred'):
        stops(learn, KeyboardInterrupt, learn.fit, 1, cbs=[MixedPrecision(), Stop(name, KeyboardInterrupt)])

def test_precision_is_left_after_a_cancelled_epoch(make):
    class Look(Callback):
        def before_validate(self): self.seen = torch.is_autocast_enabled('cpu')
        def before_epoch(self): self.seen = torch.is_autocast_enabled('cpu')
    for name in ('before_batch','after_pred','after_backward'):
        quiet((learn := make()).fit, 2, cbs=[Stop(name, CancelEpochException), look := Look()])
        assert not look.seen and not torch.is_autocast_enabled('cpu')
        assert len(learn.history)==1 # the other epoch was cancelled

def test_gradients_from_before_do_not_enter(make, whole):
    learn = make()
    for p in learn.model.parameters(): p.grad = torch.ones_like(p)
    quiet(learn.fit, 3)
    assert torch.equal(weights(learn), weights(whole))

def test_a_look_keeps_gradients(make):
    learn = make()
    learn.create_opt()
    for p in learn.model.parameters(): p.grad = torch.full_like(p, 3.)
    for look in ('lr_find','profile','compare_precision'):
        quiet(getattr(learn, look))
        assert all((p.grad==3).all() for p in learn.model.parameters())

def test_copies_after_an_interrupted_forward(make, whole):
    "Of the network, compiled, and of the whole learner"
    learn = make()
    with in_forward(learn, Nth(2, KeyboardInterrupt)): stops(learn, KeyboardInterrupt, learn.fit, 1)
    x = torch.randn(2, 3, 8, 8)
    y = learn.model.eval()(x)
    for same in (copy.deepcopy(learn.model), torch.compile(learn.model, backend='eager')):
        assert torch.equal(same(x), y)
    quiet((learn := make()).fit, 1)
    twin = copy.deepcopy(learn)
    state = torch.get_rng_state()
    for o in (learn,twin):
        torch.set_rng_state(state)
        quiet(o.fit, 1)
    assert torch.equal(weights(twin), weights(learn))

def test_a_forward_of_ones_own_stays(make):
    learn = make()
    own,calls = learn.model.forward,[]
    learn.model.forward = lambda x: calls.append(1) or own(x)
    learn.one_batch = lambda i, b: calls.append(2) or Learner.one_batch(learn, i, b)
    quiet(learn.fit, 1)
    quiet(learn.validate)
    assert calls==[2,1]*(3+1+1) and {'forward'}<=vars(learn.model).keys() and 'one_batch' in vars(learn)

class Fail(Callback):
    def before_fit(self): raise ValueError('stopped here')

def test_looking_at_a_plain_learner_gives_back(few):
    "fastai itself would keep its lock, and wait for it forever the next time"
    dls = image_dls(few, size=8, bs=45, device='cpu')
    learn = Learner(dls, Net(3, 'batch'), nn.CrossEntropyLoss(), cbs=Fail())
    before,errors = list(learn.cbs),[]
    for _ in range(2):
        with pytest.raises(ValueError, match='stopped here') as e: quiet(learn.interpret, 'valid')
        errors.append(e) # as Jupyter, which keeps the last one, and all that it knows
        assert list(learn.cbs)==before and not learn.lock.locked()
        assert quiet(learn.model_table).parameters.sum()>0 # it runs no callbacks
    learn.remove_cb(Fail)
    assert len(quiet(learn.interpret, 'valid').table)==15

class Seen(RunCallback):
    "What it remembers can't be held by a checkpoint"
    memory = ['seen']
    def __init__(self): self.seen = set()

def test_what_a_callback_names_is_saved_or_an_error(make, tmp_path):
    with pytest.raises(TypeError, match='^Seen.seen is a set, which a checkpoint cannot hold: keep it as numbers'):
        quiet(make(norm='batch').fit, 1, cbs=[Seen(), Checkpoint(tmp_path)])
