"""Agreement with other ways of computing the same."""
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.learner import Recorder
from fastai.test_utils import synth_learner
from torch.nn import functional as F

from advtrain.all import GradCAM,PlateauLR,find_layer,resnet18,sgd

def plain_gradcam(model, layer, x, target):
    "GradCAM of one image with retained gradients and a whole backward pass"
    kept = []
    def keep(m, i, o):
        o.retain_grad()
        kept.append(o)
    hook = find_layer(model, layer).register_forward_hook(keep)
    model(x[None])[0,target].backward()
    hook.remove()
    a,g = kept[0][0].detach(),kept[0].grad[0]
    cam = F.relu(sum(g[k].mean()*a[k] for k in range(len(a))))
    return F.interpolate(cam[None,None], x.shape[-2:], mode='bilinear')[0,0]

@pytest.mark.parametrize('norm', ['layer','batch','group'])
@pytest.mark.parametrize('last_stride', [1,2])
def test_gradcam(norm, last_stride):
    torch.manual_seed(0)
    model = resnet18(norm=norm, last_stride=last_stride, width=8).eval()
    x,layers,targets = torch.randn(3,3,32,32),['layer1','layer2','layer3','layer4'],[1,5,9]
    maps = GradCAM(model, layers)(x, targets, raw=True)
    for i,layer in enumerate(layers):
        for j,t in enumerate(targets):
            expected = plain_gradcam(model, layer, x[j], t)
            assert (maps[i,j]-expected).abs().max() <= 1e-4*expected.max()

def advtrain_rates(losses, patience):
    "Rates after each epoch with `PlateauLR`"
    class Losses(Callback):
        order = Recorder.order+1
        def after_epoch(self): self.recorder.values[-1][1] = losses[self.epoch]
    class Rates(Callback):
        order = PlateauLR.order+1
        def after_epoch(self): rates.append(self.opt.hypers[-1]['lr'])
    rates,learn = [],synth_learner(n_trn=1)
    learn.opt_func = sgd
    with learn.no_bar(),learn.no_logging():
        learn.fit(len(losses), lr=.1, cbs=[Losses(), PlateauLR(patience=patience), Rates()])
    return rates

def torch_rates(losses, patience):
    "The same with PyTorch's scheduler, patience translated"
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        opt, patience=patience-1, factor=.1, threshold=0, threshold_mode='abs', eps=0)
    rates = []
    for o in losses:
        scheduler.step(o)
        rates.append(opt.param_groups[0]['lr'])
    return rates

@pytest.mark.parametrize('seed', range(10))
def test_plateau_agrees_with_torch(seed):
    rng = np.random.default_rng(seed)
    losses = (np.linspace(2, 1, 15) + rng.normal(0, .3, 15)).round(1)  # rounded, so that ties occur
    for patience in (1,3): assert np.allclose(advtrain_rates(losses, patience), torch_rates(losses, patience))
