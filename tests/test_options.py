"""Each optimiser and each schedule, with all that a training can be."""
import contextlib,io,subprocess,sys

import pytest
import torch

from advtrain.all import OPTS,SCHEDULES,Checkpoint,RunCallback,Schedule,image_dls,resnet_learner,set_seed

class Stop(RunCallback):
    "Interrupt after the first epoch"
    order,passive = 2000,True
    def after_epoch(self): raise KeyboardInterrupt

def quiet(f, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()): return f(*args, **kwargs)

@pytest.fixture(scope='module')
def make(few):
    def _make(**kwargs):
        set_seed(1)
        dls = image_dls(few, size=8, bs=45, device='cpu')
        return resnet_learner(dls, width=4, lr=.003, precision='fp32', ema=.5, warmup=1, grad_clip=1, **kwargs)
    return _make

def state(learn):
    opt = learn.opt.state_dict()['state']
    return [*learn.model.state_dict().values(), *(o for p in opt.values() for o in p.values() if torch.is_tensor(o))]

EACH = [dict(opt=o, schedule='one_cycle') for o in OPTS] + [dict(opt='adamw', schedule=o) for o in SCHEDULES]

@pytest.mark.parametrize('options', EACH, ids=lambda o: f"{o['opt']} {o['schedule']}")
def test_a_resumed_run_is_the_same_run(options, make, tmp_path):
    if options['opt']=='muon' and not hasattr(torch.optim, 'Muon'): pytest.skip('this PyTorch has no Muon')
    quiet((whole := make(**options)).fit, 3)
    with pytest.raises(KeyboardInterrupt): quiet(make(**options).fit, 3, cbs=[Checkpoint(tmp_path), Stop()])
    quiet((part := make(**options)).resume, 3, tmp_path)
    assert all(map(torch.equal, state(part), state(whole))) and len(state(part))==len(state(whole))
    assert part.history.drop(columns='seconds').equals(whole.history.drop(columns='seconds'))
    assert part.recorder.lrs==whole.recorder.lrs and len(part.recorder.lrs)==9

def test_a_schedule_is_for_a_number_of_epochs(make, tmp_path):
    "And for one curve: what is refused leaves the learner as it was"
    with pytest.raises(KeyboardInterrupt):
        quiet(make(schedule='cosine').fit, 3, cbs=[Checkpoint(tmp_path), Stop()])
    learn = make(schedule='cosine')
    before = [o.clone() for o in learn.model.state_dict().values()]
    with pytest.raises(ValueError,
            match='^the schedule of this run is for 3 epochs: resume with n_epoch lowered by 1$'):
        quiet(learn.resume, 4, tmp_path)
    learn.schedule.shape = lambda done: 1-done
    with pytest.raises(ValueError,
            match='^this schedule differs from the schedule of the run: at 1 % of training, the learn'):
        quiet(learn.resume, 3, tmp_path)
    assert all(map(torch.equal, before, learn.model.state_dict().values()))
    learn.remove_cb(Schedule)
    with pytest.raises(ValueError, match='callback.schedule is only in the checkpoint'):
        quiet(learn.resume, 3, tmp_path)

def test_a_schedule_that_differs_later_is_another_one(make, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quiet(make(schedule='step').fit, 4, cbs=[Checkpoint(tmp_path), Stop()])
    for other in (dict(schedule='step', factor=2), dict(schedule='constant')):
        with pytest.raises(ValueError,
                match='^this schedule differs from the schedule of the run: at 50 % of training, the lea'):
            quiet(make(**other).resume, 4, tmp_path)

def test_a_constant_rate_may_go_on_for_longer(make, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quiet(make(schedule='constant').fit, 2, cbs=[Checkpoint(tmp_path), Stop()])
    quiet((learn := make(schedule='constant')).resume, 3, tmp_path)
    assert learn.recorder.lrs[-6:]==[.003]*6

@pytest.mark.parametrize('schedule', SCHEDULES)
def test_a_learner_can_be_validated_before_it_trains(schedule, make):
    learn = make(schedule=schedule)
    assert len(quiet(learn.validate))==2
    quiet(learn.fit, 1)
    assert len(learn.recorder.lrs)==3

@pytest.mark.parametrize('name', ['fit_one_cycle','fine_tune'])
def test_two_schedules_are_one_too_many(name, make):
    with pytest.raises(ValueError,
            match='^ParamScheduler and Schedule both set the learning rate: remove one, for example'):
        quiet(getattr(make(schedule='cosine'), name), 1)

OWN = '''
import sys
from advtrain.all import *
from fastai.optimizer import OptimWrapper
from torch import nn
import torch

if __name__=='__main__':
    NORMS['scaled'] = lambda c: nn.GroupNorm(2, c, eps=1e-3)
    AUGS['upside_down'] = lambda size: A.Compose([A.VerticalFlip(p=.5)])
    OPTS['adagrad'] = lambda params, lr, wd: OptimWrapper(params, torch.optim.Adagrad, lr=lr, weight_decay=wd)
    SCHEDULES['linear'] = lambda: Schedule(lambda done: 1-done)
    class Small(nn.Module):
        def __init__(self, n_out, norm):
            super().__init__()
            self.layer1,self.fc = nn.Sequential(nn.Conv2d(3, 4, 3), NORMS[norm](4), nn.ReLU()),nn.Linear(4, n_out)
        def forward(self, x): return self.fc(self.layer1(x).mean((2,3)))
    ARCHS['small'] = Small
    exp = Experiment('own', width=4, size=16, bs=45, epochs=1, n_images=1, layers=['layer1'])
    own = dict(norm='scaled', augs='upside_down', opt='adagrad', schedule='linear', arch='small')
    runs = run_many([exp.replace(**own, name='all'), exp.replace(name='none')], sys.argv[1], sys.argv[2], jobs=2)
    print(runs.table.state.tolist(), {k: getattr(runs.statuses[0].exp, k) for k in own}==own, runs.failed)
'''

def test_own_parts_in_other_processes(few, tmp_path):
    "A norm, an augmentation, a network, an optimiser and a schedule of a script or a notebook"
    (tmp_path/'mine.py').write_text(OWN)
    out = subprocess.run([sys.executable, '-W', 'ignore', tmp_path/'mine.py', few, tmp_path/'runs'],
        check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[-1]=="['finished', 'finished'] True {}"
