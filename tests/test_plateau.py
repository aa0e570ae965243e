"""The plateau callback decides as PyTorch's scheduler does."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastai.optimizer import OptimWrapper,SGD
from hypothesis import given,settings,strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from advtrain.all import PlateauLR

VALUE = st.one_of(st.floats(-5, 5), st.floats(-1e6, 1e6), st.sampled_from([math.nan,math.inf,-math.inf,0.,1.,1.,.5]))
PLATEAU = st.tuples(VALUE, st.integers(1, 8)).map(lambda o: [o[0]]*o[1])
LOSSES = st.lists(st.one_of(VALUE.map(lambda v: [v]), PLATEAU), min_size=1, max_size=15).map(lambda o: sum(o, []))
RULE = st.fixed_dictionaries(dict(
    patience=st.integers(1, 4), factor=st.sampled_from([2.,4.,10.,1.5]), cooldown=st.integers(0, 3),
    relative=st.booleans(), min_delta=st.sampled_from([0.,1e-4,.1,1.]), min_lr=st.sampled_from([0.,1e-3,.02]),
    rising=st.booleans()))

def params(): return [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]

def of_torch(losses, rule, lrs):
    "The rates after each epoch with PyTorch's scheduler"
    opt = torch.optim.SGD([dict(params=[p], lr=lr) for p,lr in zip(params(), lrs)])
    scheduler = ReduceLROnPlateau(opt, 'max' if rule['rising'] else 'min', factor=1/rule['factor'],
        patience=rule['patience']-1, threshold=rule['min_delta'], threshold_mode='rel' if rule['relative'] else 'abs',
        cooldown=rule['cooldown'], min_lr=rule['min_lr'], eps=0)
    def _step(loss):
        scheduler.step(loss)
        return [g['lr'] for g in opt.param_groups]
    return [_step(o) for o in losses]

def of_ours(losses, rule, opt):
    "The rates after each epoch with the callback"
    cb = PlateauLR(comp=np.greater if rule['rising'] else np.less, **{k: v for k,v in rule.items() if k!='rising'})
    cb.learn = SimpleNamespace(opt=opt, recorder=SimpleNamespace(metric_names=['epoch','valid_loss'], values=[]))
    cb.before_fit()
    def _step(loss):
        cb.before_train()
        cb.recorder.values.append([loss])
        cb.after_epoch()
        return [h['lr'] for h in opt.hypers]
    return [_step(o) for o in losses]

OPTIMISERS = {
    'PyTorch': lambda lrs: OptimWrapper(
        [dict(params=[p], lr=lr) for p,lr in zip(params(), lrs)], torch.optim.SGD, convert_groups=False),
    'fastai':  lambda lrs: SGD([[p] for p in params()], lr=lrs),
}

@pytest.mark.parametrize('kind', OPTIMISERS)
@settings(max_examples=1000, deadline=None, derandomize=True)
@given(losses=LOSSES, rule=RULE, lrs=st.sampled_from([(.1,.1),(.01,.3)]))
def test_same_rates_as_torch(kind, losses, rule, lrs):
    "1,000 sequences with NaNs, infinities, plateaus and jumps, two parameter groups"
    opt = OPTIMISERS[kind](lrs)
    opt.set_hyper('lr', list(lrs))
    for i,(ours,theirs) in enumerate(zip(of_ours(losses, rule, opt), of_torch(losses, rule, lrs))):
        assert np.allclose(ours, theirs, rtol=1e-9, atol=0), f'after epoch {i+1}: {ours} instead of {theirs}'
