"""Where a training step waits for the GPU, and how long the GPU is idle.

PyTorch warns of each call that waits; we note the innermost line of advtrain or fastai. The profiler counts the kernels
of some steps and adds up their time. The rest of a step, measured without the profiler, is idle time.
"""
import traceback,warnings
from collections import Counter
from pathlib import Path

import advtrain
import fastai
import torch
from advtrain.train.callbacks import RunCallback
from step import Few,fitted,seconds
from advtrain.all import resnet_learner
from torch.profiler import ProfilerActivity,profile

from . import loaders,width

BEFORE,STEPS,VALIDATION = 5,20,5
HOMES = [Path(o.__file__).parent for o in (advtrain,fastai)]

def place(stack):
    "Get the innermost line of advtrain or fastai, without the folders above them"
    for frame in reversed(stack):
        file = Path(frame.filename)
        for home in HOMES:
            if file.is_relative_to(home): return f'{file.relative_to(home.parent)}:{frame.lineno}'
    return f'{Path(stack[-1].filename).name}:{stack[-1].lineno}'

class Waits:
    "Count the places that wait"
    def __init__(self): self.places = Counter()
    def __call__(self, message, *args, **kwargs):
        if 'synchroniz' in str(message): self.places[place(traceback.extract_stack()[:-1])] += 1
    def take(self):
        found,self.places = self.places,Counter()
        return found

class Between(RunCallback):
    "Call a function before one batch and another after a later one, in training or validation"
    order,passive = -10_000,True
    in_lr_find = in_predictions = True
    def __init__(self, training, first, last, begin, end):
        self.of,self.first,self.last,self.begin,self.end = training,first,last,begin,end
    def before_batch(self):
        if self.training==self.of and self.iter==self.first: self.begin()
    def after_batch(self):
        if self.training==self.of and self.iter==self.last: self.end()

class After(Between): order = 10_000

def debug(mode):
    "Make PyTorch warn of calls that wait"
    if torch.cuda.is_available(): torch.cuda.set_sync_debug_mode(mode)

def watched(learn, training, first, last, begin, end):
    "Make the callbacks that `begin` before and `end` after everything else of a batch"
    return [Between(training, first, last, begin, lambda: None), After(training, first, last, lambda: None, end)]

def waits(o, note):
    "Count the places that wait in some steps of training and validation"
    learn,found,result = resnet_learner(loaders(o), width=width(o)),Waits(),{}
    learn.dls.loaders[:2] = [Few(learn.dls.train, BEFORE+STEPS), Few(learn.dls.valid, VALIDATION)]
    def _end(name, n):
        debug('default')
        result[name] = dict(places=dict(places := found.take()), a_step=sum(places.values())/n)
    cbs = [*watched(learn, True, BEFORE, BEFORE+STEPS-1, lambda: debug('warn'), lambda: _end('training', STEPS)),
           *watched(learn, False, 0, VALIDATION-1, lambda: debug('warn'), lambda: _end('validation', VALIDATION))]
    with warnings.catch_warnings(),learn.no_bar():
        warnings.simplefilter('always')
        warnings.showwarning = found
        learn.fit(1, cbs=cbs)
    if o.device=='cpu': return note(waits='not measured')
    note(waits=result)
    for name,r in result.items(): note.figure(f'waits a step, {name}', float(r['a_step']))

def kernels(prof, device, steps):
    "Get kernels per step, their µs per step, and the slowest; on a CPU, operators instead"
    kind = torch.autograd.DeviceType.CPU if device=='cpu' else torch.autograd.DeviceType.CUDA
    events = [e for e in prof.events() if e.device_type==kind and not getattr(e, 'is_user_annotation', False)]
    times,calls = Counter(),Counter()
    for e in events:
        times[e.name] += e.time_range.elapsed_us()/steps
        calls[e.name] += 1/steps
    slowest = [dict(name=name[:120], us_a_step=us, calls_a_step=calls[name]) for name,us in times.most_common(30)]
    return len(events)/steps,sum(times.values()),slowest

def profiled(o, note, steps=10):
    "Profile the kernels of `learn.fit`, and the share of a step in which none runs"
    train = fitted(learn := resnet_learner(loaders(o), width=width(o)), 2*steps)
    train()
    n = 2 if o.tiny else 200
    wall = 1e6*seconds(lambda: train(n))/n
    prof = profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA]*(o.device!='cpu'))
    def _end():
        if o.device!='cpu': torch.cuda.synchronize()
        prof.stop()
    cbs = watched(learn, True, steps, 2*steps-1, prof.start, _end)
    with learn.added_cbs(cbs): train(2*steps)
    count,us,slowest = kernels(prof, o.device, steps)
    idle = 'not measured' if o.device=='cpu' else 1-us/wall
    note(profile=dict(kernels_a_step=count, kernel_us_a_step=us, wall_us_a_step=wall, idle_share=idle, slowest=slowest))
    note.figure('kernels a step', count)
    note.figure('time of kernels a step', us/1e3, 'ms')
    note.figure('a step of learn.fit', wall/1e3, 'ms')
    note.figure('idle share', idle)

def run(o, note):
    waits(o, note)
    profiled(o, note)
