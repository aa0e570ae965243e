"""A training step in a plain loop, in `learn.fit` and with fastai's defaults; each norm; the loader by itself.

Peers take turns in one process. The clock is read when the GPU is done, and a round takes a second or more. The cost of
a norm in each layout and type is measured around the forward and backward pass of one batch.
"""
import math,time

import torch
from advtrain.all import DTYPES,NORMS,resnet18
from keep import over
from step import Few,bare,fastai_peer,ours,seconds,synchronize
from torch import nn
from torch.nn import functional as F

from . import in_turn,loaders,path,width

ONE_GROUP = 'GroupNorm(1, c)' # PyTorch's own norm, to compare with the default norm of the network

def peers(o, dls):
    "Make the calls that train for a number of steps"
    how = dict(path=None, steps=1, dls=dls, width=width(o))
    plain = {'bare, one batch': bare(fixed=True, **how), 'bare': bare(**how)}
    return plain | {'learn.fit': ours(**how), 'learn.fit with EMA': ours(ema=.998, **how)}

def steps_a_second(call, o):
    "Find a number of steps that take a second or more"
    return 2 if o.tiny else math.ceil(1.2*50/seconds(lambda: call(50)))

def compared(rounds, images, of):
    "Compute images per second of each peer, and how many times as fast as the others `of` is"
    rates = {name: over(images/r[name] for r in rounds) for name in rounds[0]}
    ratios = {f'{of} / {name}': over(r[name]/r[of] for r in rounds) for name in rates if name!=of}
    return dict(images_per_second=rates, ratios=ratios)

def race(o, note, bs):
    "Race `learn.fit` and plain loops at a batch size"
    dls = loaders(o, bs)
    calls = peers(o, dls)
    for f in calls.values(): f(1 if o.tiny else 50)
    steps = steps_a_second(calls['bare'], o)
    rounds = in_turn({name: lambda f=f: f(steps) for name,f in calls.items()}, 2 if o.tiny else 5)
    ms = {k: over(1e3*r[k]/steps for r in rounds) for k in calls}
    result = compared(rounds, steps*dls.train.bs, 'learn.fit') | dict(steps=steps, ms_a_step=ms)
    note(**{f'batch {bs}': result})
    note.figure(f'learn.fit, batch {bs}', result['images_per_second']['learn.fit'], 'images/s')
    note.figure(f'learn.fit / bare loop, batch {bs}', result['ratios']['learn.fit / bare'])

def against_fastai(o, note):
    "Race `learn.fit` and fastai's defaults, an epoch per round, in which fastai's workers start once"
    dls = loaders(o)
    theirs = fastai_peer(path(o), 1, bs=dls.train.bs, width=width(o))
    calls = {'learn.fit': ours(None, 1, dls=dls, width=width(o)), 'fastai': theirs}
    steps = 2 if o.tiny else len(dls.train)-1
    for f in calls.values(): f(2 if o.tiny else 20)
    rounds = in_turn({name: lambda f=f: f(steps) for name,f in calls.items()}, 2)
    result = compared(rounds, steps*dls.train.bs, 'learn.fit')
    note(against_fastai=result | dict(steps=steps))
    note.figure("learn.fit / fastai's defaults", result['ratios']['learn.fit / fastai'])

def milliseconds(f, o, n=20):
    "Measure median and range of five times, each the mean of `n` calls"
    n,rounds = (1,1) if o.tiny else (n,5)
    for _ in range(n//4+1): f()
    def _once():
        if o.device=='cpu': return 1e3*seconds(f)
        begin,end = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        begin.record()
        for _ in range(n): f()
        end.record()
        synchronize()
        return begin.elapsed_time(end)/n
    return over(_once() for _ in range(rounds))

def forward_backward(o, norm, bs, dtype, channels_last):
    "Make a call that computes the gradients of one batch"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = resnet18(norm=norm, width=16 if o.tiny else 64).to(o.device).to(memory_format=layout)
    x = torch.randn(bs, 3, 32, 32, device=o.device).contiguous(memory_format=layout)
    y = torch.arange(bs, device=o.device)%10
    def _gradients():
        with torch.autocast(o.device, DTYPES[dtype], enabled=dtype!='fp32'): out = model(x)
        F.cross_entropy(out.float(), y).backward()
        model.zero_grad()
    return _gradients

def norms(o, note, bs):
    "Measure forward and backward pass with each norm, layout and type"
    NORMS[ONE_GROUP] = lambda c: nn.GroupNorm(1, c)
    times = {}
    try:
        for norm in ('layer',ONE_GROUP,'layer2d','group','batch'):
            for dtype in ('bf16','fp32'):
                for channels_last in (True,False):
                    name = f"{norm}, {dtype}, {'channels-last' if channels_last else 'default layout'}"
                    times[name] = milliseconds(forward_backward(o, norm, 4 if o.tiny else bs, dtype, channels_last), o)
                    note(**{f'ms forward and backward, batch {bs}': times})
    finally: del NORMS[ONE_GROUP]
    for norm in ('layer',ONE_GROUP,'batch'):
        note.figure(f'forward and backward, {norm}, bf16, batch {bs}', times[f'{norm}, bf16, channels-last'], 'ms')

def benchmark_mode(o, note):
    "Measure what cuDNN's benchmark mode gains"
    times = {}
    for on in (False,True,False,True):
        torch.backends.cudnn.benchmark = on
        for bs in (128,512):
            ms = milliseconds(forward_backward(o, 'layer', 4 if o.tiny else bs, 'bf16', True), o)
            times.setdefault(f"{'on' if on else 'off'}, batch {bs}", []).append(ms)
    torch.backends.cudnn.benchmark = False
    note(cudnn_benchmark_ms=times)

def loader_alone(o, note):
    "Measure images per second of the loader and CPU time per batch, by how many images are augmented at once"
    dls,results = loaders(o),{}
    n = 2 if o.tiny else 300
    for at_once in (256,2048,8192):
        dls.train.at_once = at_once
        few = Few(dls.train, n)
        next(iter(few))
        cpu,took = time.process_time(),seconds(lambda few=few: [None for _ in few])
        results[at_once] = dict(images_per_second=n*few.bs/took, cpu_ms_a_batch=1e3*(time.process_time()-cpu)/n)
        note(loader=results)
        note.figure(f'loader alone, {at_once} at once', results[at_once]['images_per_second'], 'images/s')

def run(o, note):
    race(o, note, 128)
    against_fastai(o, note)
    norms(o, note, 128)
    loader_alone(o, note)
    race(o, note, 512)
    benchmark_mode(o, note)
    norms(o, note, 512)
