"""No gradient of a narrow, strided 1×1 convolution reaches the kernel of oneDNN that damages memory, whoever asks for
it.

oneDNN itself says what it computes, so these tests know nothing of how that is prevented.
"""
import re,shutil

import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from advtrain.all import Checkpoint,GradCAM,Precision,image_dls,resnet18,resnet_learner

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(),
    reason='this PyTorch was built without oneDNN')
LAST = torch.channels_last

def convolutions(text):
    "The lines in which oneDNN says that it computed a convolution"
    return [o for o in text.splitlines() if re.search(r'exec,cpu,(de)?convolution,', o)]

def harmful(line):
    "Is this the gradient of the weights of a 1×1 convolution with a stride, few channels and no padding?"
    if 'backward_weights' not in line: return False
    size = dict.fromkeys(('kh','sh'), 1) | {'ph': 0}
    size |= {k: int(v) for k,v in re.findall(r'(g|ic|oc|kh|kw|sh|sw|ph|pw)(\d+)', line.split(',')[-2])}
    channels = size['oc' if 'deconvolution' in line else 'ic'] // size.get('g', 1)
    return channels<16 and size['kh']==size['kw']==1 and max(size['sh'], size['sw'])>1 and size['ph']==size['pw']==0

@pytest.fixture
def onednn(capfd):
    "After the test, what oneDNN computed in it is looked at"
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON): yield
    lines = convolutions(capfd.readouterr().out)
    assert any('backward' in o for o in lines), 'oneDNN computed no gradient here'
    assert not [o for o in lines if harmful(o)]

# shape of the wide images, of the weights, groups, transposed; would the kernel do harm in channels-last layout?
KINDS = {
    'few':        ((2,3,16,16), (8,3,1,1), 1, False, True),
    'enough':     ((2,16,16,16), (8,16,1,1), 1, False, False),
    'grouped':    ((2,8,16,16), (8,4,1,1), 2, False, True),
    'transposed': ((2,3,16,16), (8,3,1,1), 1, True, True),
    'larger':     ((2,3,16,16), (8,3,2,2), 1, False, False),
}
@pytest.mark.parametrize('kind', KINDS)
def test_what_onednn_says_is_understood(capfd, kind):
    "Past what advtrain does, and in the default layout, where nothing is harmed"
    shape,filters,groups,transposed,harm = KINDS[kind]
    wide,weight,narrow = torch.randn(shape),torch.randn(filters),torch.randn(2,8,8,8)
    pair = (wide,narrow) if transposed else (narrow,wide)
    rest = None,[2,2],[0,0],[1,1],transposed,[int(transposed)]*2,groups,[False,True,False]
    pytorchs = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        torch.ops.aten.convolution_backward.default.redispatch(pytorchs, *pair, weight, *rest)
    assert any(map(harmful, convolutions(capfd.readouterr().out)))==harm

class Functional(nn.Module):
    "A user's network; its shortcut is a function"
    def __init__(self, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.shortcut = nn.Parameter(torch.randn(8, channels, 1, 1))
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.conv2d(self.conv(x).relu(), self.shortcut, stride=2)
        return self.fc(x.relu().mean((2,3)))

def images(n=3, c=3): return torch.randn(n, c, 16, 16).to(memory_format=LAST)

@pytest.mark.parametrize('weight_std', [True,False])
@pytest.mark.parametrize('pre_act', [True,False])
@pytest.mark.parametrize('width', [4,8])
def test_our_networks(onednn, weight_std, pre_act, width):
    "Weights whose layout was not asked for count as well: those that come out of a computation"
    for norm in ('layer','layer2d','batch'):
        net = resnet18(width=width, norm=norm, weight_std=weight_std, pre_act=pre_act)
        net(images().contiguous()).sum().backward()
        net.to(memory_format=LAST)(images()).sum().backward()

@pytest.mark.parametrize('precision', [
    {}, dict(dtype='fp32'), dict(dtype='bf16'), dict(dtype='fp32', channels_last=False)])
def test_a_users_network_in_a_learner(onednn, precision):
    batch = images(),torch.arange(3)
    net = Functional().to(memory_format=LAST)
    learn = Learner(DataLoaders([batch], [batch]), net, CrossEntropyLossFlat(), lr=.01,
        cbs=Precision(**precision) if precision else None)
    with learn.no_bar(),learn.no_logging(): learn.fit(1)

def test_a_run_that_is_resumed(onednn, few, tmp_path):
    for train in (lambda o: o.fit(1, cbs=Checkpoint(tmp_path/'run')), lambda o: o.resume(2, tmp_path/'run')):
        learn = resnet_learner(image_dls(few, size=16, bs=64, device='cpu'), resnet18, width=4, weight_std=True)
        with learn.no_bar(): train(learn)
    assert learn.precision.reorder

def test_heat_maps(onednn):
    net = resnet18(width=4).to(memory_format=LAST)
    GradCAM(net, ['layer1','layer2'])(images(), [0,1,2])
    net(images()).sum().backward()

def compiled(net):
    if not (shutil.which('g++') or shutil.which('clang++')): pytest.skip('there is no C++ compiler')
    return torch.compile(net)

WAYS = {
    'compiled':         compiled,
    'traced':           lambda net: torch.jit.trace(net, images()),
    'exported':         lambda net: torch.export.export(net, (images(),)).module(),
    'recomputed':       lambda net: lambda x: checkpoint(net, x, use_reentrant=False),
    'each image alone': lambda net: torch.func.vmap(lambda x: net(x[None])[0]),
    'other weights':    lambda net: lambda x: torch.func.functional_call(
        net, {k: 2*v for k,v in net.named_parameters()}, x),
}
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('way', WAYS)
def test_other_ways_to_run_a_network(onednn, way):
    net = Functional().to(memory_format=LAST)
    WAYS[way](net)(images()).sum().backward()
    assert net.shortcut.grad.abs().sum()>0

CONVOLUTIONS = { # function, channels that come in, shape of the weights, options
    'few':        (F.conv2d, 3, (8,3,1,1), dict(stride=2)),
    'fifteen':    (F.conv2d, 15, (8,15,1,1), dict(stride=4)),
    'one way':    (F.conv2d, 4, (8,4,1,1), dict(stride=(1,2))),
    'dilated':    (F.conv2d, 4, (8,4,1,1), dict(stride=2, dilation=3)),
    'grouped':    (F.conv2d, 32, (8,4,1,1), dict(stride=2, groups=8)),
    'line':       (F.conv1d, 4, (8,4,1), dict(stride=2)),
    'transposed': (F.conv_transpose2d, 8, (8,4,1,1), dict(stride=2, output_padding=1)),
    'wide gap':   (F.conv_transpose2d, 8, (8,4,1,1), dict(stride=2, output_padding=2, dilation=3)),
    'sides':      (F.conv2d, 4, (8,4,3,1), dict(stride=2)),
    'padded':     (F.conv2d, 4, (8,4,1,1), dict(stride=2, padding=1)),
    'wide':       (F.conv2d, 16, (8,16,1,1), dict(stride=2)),
}
def tensors_of(name):
    "Input, weights and bias; input of odd and even sides, in both layouts"
    conv,channels,shape,kwargs = CONVOLUTIONS[name]
    n_out = 4 if conv is F.conv_transpose2d else shape[0]
    for side in (8,9):
        x = torch.randn(3, channels, *[side]*(len(shape)-2))
        for o in [x] if x.ndim==3 else [x, x.to(memory_format=LAST)]: yield o,torch.randn(shape),torch.randn(n_out)

def derivatives(name, tensors):
    "Gradients, and gradients of their squares"
    conv,*_,kwargs = CONVOLUTIONS[name]
    tensors = [o.detach().requires_grad_() for o in tensors]
    first = torch.autograd.grad(conv(*tensors, **kwargs).sin().mean(), tensors, create_graph=True)
    return *first,*torch.autograd.grad(sum(o.square().sum() for o in first), tensors)

@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_gradients_are_those_of_double_precision(name):
    for tensors in tensors_of(name):
        exact = derivatives(name, [o.double().contiguous() for o in tensors])
        for ours,theirs in zip(derivatives(name, tensors), exact):
            assert ours.shape==theirs.shape and (ours-theirs).abs().max()<=1e-3*theirs.abs().max()

@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_every_narrow_convolution(onednn, name):
    for tensors in tensors_of(name): derivatives(name, tensors)
    net = nn.Conv2d(3, 8, 3).to(memory_format=LAST) # what oneDNN computes for certain
    net(images()).sum().backward()

def test_a_loss_with_a_convolution(onednn):
    "It is computed after the forward pass, and out of its reach"
    net,weight = nn.Conv2d(3, 4, 3, padding=1).to(memory_format=LAST),torch.randn(8,4,1,1, requires_grad=True)
    F.conv2d(net(images()), weight, stride=2).square().mean().backward()
    torch.nn.grad.conv2d_weight(images(c=4), (8,4,1,1), torch.randn(3,8,8,8), stride=2)
