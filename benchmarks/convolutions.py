"""Claim: on a CPU, PyTorch damages memory in the gradients of strided 1x1 convolutions with few channels, and advtrain
doesn't.

Each convolution runs in a separate process. There the C library checks each block of memory as it's freed, and we
compare the gradients with double precision in the default layout. Each convolution has two columns: PyTorch by itself,
and after `import advtrain`. Needs Linux and the C library's `libc_malloc_debug.so.0`.

    python benchmarks/convolutions.py
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/convolutions.py   # as an older processor would
"""
import importlib,os,signal,sys

CHECKED = dict(LD_PRELOAD='libc_malloc_debug.so.0', MALLOC_CHECK_='3', MALLOC_PERTURB_='165')
if not CHECKED.items()<=os.environ.items():
    os.execve(sys.executable, [sys.executable, '-W', 'ignore', *sys.argv], os.environ | CHECKED)
os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch
from torch.nn import functional as F

SHAPES = [ # batch, side of the images, kernel, stride, groups, transposed
    (3,16,1,2,1,False), (2,64,1,2,1,False), (2,128,1,2,1,False),
    (3,15,1,2,1,False), (3,16,1,1,1,False), (3,16,3,2,1,False),
    (3,16,1,2,2,False), (3,32,1,2,1,True)]

def gradients(x, weight, stride, groups, transposed):
    "Compute the gradients of input and weights, on leaves in their layout"
    x,weight = x.detach().requires_grad_(),weight.detach().requires_grad_()
    more = dict(output_padding=stride-1) if transposed else {}
    y = (F.conv_transpose2d if transposed else F.conv2d)(x, weight, stride=stride, groups=groups, **more)
    return torch.autograd.grad(y, (x, weight), torch.ones_like(y))

def right(channels, dtype, layout, shape):
    "Are the gradients right, twice?"
    batch,side,kernel,stride,groups,transposed = shape
    for _ in range(2):
        weight = torch.randn(8*groups, channels, kernel, kernel).to(dtype)
        x = torch.randn(
            batch, 8*groups if transposed else channels*groups, *[side//stride if transposed else side]*2).to(dtype)
        exact = gradients(x.double(), weight.double(), stride, groups, transposed)
        ours = gradients(x.to(memory_format=layout), weight.to(memory_format=layout), stride, groups, transposed)
        close = {torch.float32: 1e-3}.get(dtype, .1)
        if not all((a.double()-b).abs().max() <= close*b.abs().max() for a,b in zip(ours, exact)): return False
    return True

def outcome(*case):
    "Compute `case` in another process, and describe how that ends"
    if not (child := os.fork()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(60)
        os._exit(0 if right(*case) else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: 'right', 1: 'wrong'}.get(code) or signal.Signals(-code).name

def main():
    isa = os.environ.get('ONEDNN_MAX_CPU_ISA', torch.backends.cpu.get_cpu_capability())
    print(f'PyTorch {torch.__version__}, {isa}, threads: {torch.get_num_threads()}', flush=True)
    cases = [(c, d, f, s) for c in (1,4,7,8,15,16,24) for d in (torch.float32,torch.bfloat16)
             for f in (torch.channels_last,torch.contiguous_format) for s in SHAPES if f is torch.channels_last or c==4]
    before = [outcome(*o) for o in cases]
    importlib.import_module('advtrain.narrow_convolutions') # from here on, gradients are right
    after = [outcome(*o) for o in cases]
    for case,*what in zip(cases, before, after):
        if set(what)!={'right'}: print(*case, *what)
    print(len(cases), 'cases; not right:', *[sum(o!='right' for o in what) for what in (before,after)])

if __name__=='__main__': main()
