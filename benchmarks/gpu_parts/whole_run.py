"""How long a complete run takes, and which parts of it: `run_experiment` of `layernorm-40-ws`, from data to page.

Callbacks before and after all others read the clock. Before and after training, we time the functions by wrapping
them.
"""
import sys,time
from contextlib import contextmanager

from advtrain.all import run_experiment
from advtrain.train.callbacks import RunCallback
from step import synchronize

import forty
from . import path

HOME = sys.modules[run_experiment.__module__]
STEPS = { # what happens before and after training -> place and name of the function
    'make learner': (HOME, 'make_learner'), 'find lr': (HOME.Runner, '_find_lr'), 'end': (HOME.Runner, 'finish'),
    'figures': (HOME, 'save_figures'), 'page': (HOME, 'repair_report')}
END = 15 # assumed seconds after the last epoch, until measured

class Clock:
    "Add up seconds by part of the run"
    def __init__(self): self.start,self.sums,self.since = time.perf_counter(),{},{}
    def now(self): return time.perf_counter()-self.start
    def begin(self, name): self.since[name] = self.now()
    def end(self, name):
        if name not in self.since: return
        synchronize()
        self.sums[name] = self.sums.get(name, 0)+self.now()-self.since.pop(name)

class Mark(RunCallback):
    "Call functions at events, at a position in the order of callbacks"
    passive = True
    def __init__(self, order, **events):
        self.order,self.events = order,events
    def __call__(self, event):
        super().__call__(event)
        if self.run and event in self.events: self.events[event]()

def marks(clock, tell):
    "Make callbacks that time the parts of an epoch; `tell` is called after each"
    def _begin(name): return lambda: clock.begin(name)
    def _end(name): return lambda: clock.end(name)
    def _train():
        clock.begin('training')
        if 'first batch' not in clock.sums: clock.begin('first batch')
    first = Mark(-10_000, before_train=_train, before_batch=_end('first batch'), before_validate=_begin('validation'))
    last = Mark(10_000, after_train=_end('training'), after_validate=_end('validation'), after_epoch=tell)
    return [first, Mark(999, after_epoch=_begin('checkpoints')), Mark(1001, after_epoch=_end('checkpoints')), last]

@contextmanager
def timed(clock, tell):
    "Time the functions of `run_experiment`"
    real = {name: getattr(*place) for name,place in STEPS.items()}
    def _timed(name):
        def _call(*args, **kwargs):
            clock.begin(name)
            result = real[name](*args, **kwargs)
            clock.end(name)
            if name=='make learner': result.add_cbs(marks(clock, tell))
            return result
        return _call
    for name,place in STEPS.items(): setattr(*place, _timed(name))
    try: yield
    finally:
        for name,place in STEPS.items(): setattr(*place, real[name])

def run(o, note):
    exp = forty.plan('tiny' if o.tiny else 'full')[0]
    clock,ends = Clock(),[]
    def _tell():
        ends.append(clock.now())
        note(epochs=len(ends), seconds_at_epoch=ends, parts=clock.sums, seconds_a_run=ends[-1]*exp.epochs/len(ends)+END)
    with timed(clock, _tell): result = run_experiment(exp, path(o), f'{o.runs}/{exp.name}')
    took = clock.now()
    parts = dict(clock.sums)
    first = parts.pop('first batch')
    parts['test and the rest of the end'] = parts.pop('end')-parts['figures']
    parts['rest'] = took-sum(parts.values())
    note(parts=parts, first_batch=first, seconds=took, seconds_a_run=took)
    note(history_seconds=result.metrics['seconds'], test_accuracy=result.metrics['test_accuracy'])
    note.figure(f'{exp.epochs} epochs and the page', took, 's')
    for name,value in parts.items(): note.figure(f'of it {name}', value, 's')
    note.figure('of training the first batch', first, 's')
    note.figure('test accuracy', f"{result.metrics['test_accuracy']:.2%}")
