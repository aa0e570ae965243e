"""The layout of narrow networks stays away from a faulty kernel of PyTorch, and `auto` follows what PyTorch may use."""
import os,subprocess,sys

import pytest
import torch
from torch.overrides import TorchFunctionMode

from advtrain.all import image_dls,resnet18,resnet_learner

def is_channels_last(t):
    "Do the strides say that the channels come last? Those of a 1×1 weight can, although it is contiguous either way"
    least = 0
    for dim in (1,3,2,0):
        if t.size(dim)==0 or t.stride(dim)<least or (dim==0 and least==t.stride(1)): return False
        least = t.stride(dim)*max(t.size(dim), 1)
    return t.stride(1)!=0

@pytest.mark.parametrize('shape', [(4,8,1,1), (4,8,3,3), (2,4,16,16)])
def test_the_layout_is_read_from_the_strides(shape):
    t = torch.zeros(shape)
    assert not is_channels_last(t)
    assert is_channels_last(t.to(memory_format=torch.channels_last)) or shape[2:]==(1,1) # a 1×1 weight stays as it is
    assert is_channels_last(torch.zeros(shape[0], *shape[2:], shape[1]).permute(0,3,1,2))

class Convolutions(TorchFunctionMode):
    "Note the layouts of input and weight at each call of a narrow, strided 1×1 convolution"
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.conv2d: self._note(*args, **kwargs or {})
        return func(*args, **kwargs or {})

    def _note(self, input, weight, bias=None, stride=1, *args, **kwargs):
        strided = max(stride if isinstance(stride, tuple) else (stride,))>1
        if weight.shape[2:]!=(1,1) or not strided or weight.shape[1]>=16: return
        self.seen.append((is_channels_last(input), is_channels_last(weight)))

@pytest.mark.parametrize('norm', ['layer','layer2d'])
@pytest.mark.parametrize('width', [4,8])
@pytest.mark.parametrize('weight_std', [True,False])
@pytest.mark.parametrize('pre_act', [True,False])
def test_no_narrow_convolution_is_strided_with_channels_last(few, norm, width, weight_std, pre_act):
    "PyTorch 2.15 corrupts memory in its backward pass on a CPU"
    dls = image_dls(few, size=16, bs=128, device='cpu')
    learn = resnet_learner(dls, resnet18, norm, width=width, weight_std=weight_std, pre_act=pre_act)
    with learn.no_bar(), Convolutions() as calls: learn.fit(1)
    assert calls.seen and not any(sum(calls.seen, ()))

def test_auto_is_fp32_where_bf16_may_not_be_used():
    "An environment that keeps PyTorch and oneDNN to AVX2 makes a newer processor like an older one"
    env = {k: v for k,v in os.environ.items() if k!='ADVTRAIN_PRECISION'}
    env |= dict(ATEN_CPU_CAPABILITY='avx2', ONEDNN_MAX_CPU_ISA='AVX2')
    code = "import torch; from advtrain.precision import fast_dtype; print(fast_dtype(torch.device('cpu')))"
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, env=env)
    assert (res.stdout,res.returncode)==('fp32\n',0), res.stderr
