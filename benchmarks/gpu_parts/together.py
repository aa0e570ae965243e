"""What CUDA graphs and compilation gain, and how many runs should train at once.

Each is compared with the plain step in turn. Processes that train at the same time start each round together; the round
ends with the last of them.
"""
import threading,time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from advtrain.all import EXPERIMENTS,Precision,resnet_learner,run_many
from keep import over
from step import Peer,bare,fitted,ours,seconds

from . import in_turn,loaders,path,width

def compared(o, note, name, plain, other, steps):
    "Measure how many times as fast as `plain` `other` is"
    first = seconds(lambda: other(steps))
    plain(steps)
    rounds = in_turn({'plain': lambda: plain(steps), name: lambda: other(steps)}, 2 if o.tiny else 5)
    ratio = over(r['plain']/r[name] for r in rounds)
    ms = {k: over(1e3*r[k]/steps for r in rounds) for k in rounds[0]}
    note(**{name: dict(steps=steps, first_seconds=first, ms_a_step=ms, ratio=ratio)})
    note.figure(f'{name} / plain step', ratio)

def graphed(model, x):
    "Capture the model as a CUDA graph for batches of the shape of `x`"
    dtype = Precision().choice(model)[0]
    with torch.autocast('cuda', torch.bfloat16, enabled=dtype=='bf16', cache_enabled=False):
        return torch.cuda.make_graphed_callables(model, (x,))

def graphs(o, note, dls):
    "Measure what CUDA graphs gain"
    if o.device=='cpu': return note(graph='not measured')
    how = dict(path=None, steps=1, dls=dls, fixed=True)
    compared(o, note, 'graph', bare(**how), bare(**how, change=graphed), 200)

def compiled(o, note, dls):
    "Measure `learn.fit` of a compiled model; its first steps take the time of compiling"
    learn = resnet_learner(dls, width=width(o))
    learn.model.compile(backend='eager' if o.device=='cpu' else 'inductor')
    compared(o, note, 'compiled', ours(None, 1, dls=dls, width=width(o)), fitted(learn, 1), 2 if o.tiny else 200)
    note.figure('seconds until compiled', note.results['numbers']['compiled']['first_seconds'])

@contextmanager
def used_memory(o):
    "Measure the peak of GPU memory in use, in MB, as a list of one; empty on a CPU"
    peak,done = [],threading.Event()
    def _watch():
        while not done.wait(.05):
            free,total = torch.cuda.mem_get_info()
            peak[:] = [max([(total-free)/1e6, *peak])]
    thread = threading.Thread(target=_watch)
    if o.device!='cpu': thread.start()
    try: yield peak
    finally:
        done.set()
        if o.device!='cpu': thread.join()

def side_by_side(o, note, bs):
    "Measure images per second of 1, 2 and 4 processes together, and how many are best"
    counts = (1,2) if o.tiny else (1,2,4)
    steps = 1 if o.tiny else 200
    def _peer(_): return Peer('advtrain', path(o), steps, bs, width(o))
    with ThreadPoolExecutor() as pool: peers = list(pool.map(_peer, range(counts[-1])))
    def _together(n):
        for p in peers[:n]: p.go()
        return n*bs*steps/max(p.seconds() for p in peers[:n])
    rates = {n: [] for n in counts}
    try:
        for _ in range(2 if o.tiny else 3):
            for n in counts: rates[n].append(_together(n))
    finally:
        for p in peers: p.end()
    rates = {n: over(v) for n,v in rates.items()}
    note_best(note, rates)

def note_best(note, rates):
    "Note the rates, the fewest runs at once within 5 % of the best, and how much longer each of them takes"
    most = max(r['median'] for r in rates.values())
    best = min(n for n,r in rates.items() if r['median']>=.95*most)
    note(images_per_second_together=rates, best_jobs=best, slowdown=best*rates[1]['median']/rates[best]['median'])
    for n,r in rates.items(): note.figure(f'{n} at once', r, 'images/s')
    note.figure('best number of runs at once', best)

def many(o, note):
    "Measure `run_many` with 1, 2 and 4 runs at once, including start and pages"
    small = dict(width=4, size=16, fraction=.1, bs=32, n_images=4) if o.tiny else dict(fraction=.5)
    base,found = EXPERIMENTS['layernorm-40-ws'].replace(epochs=1, **small),{}
    for jobs in (1,2) if o.tiny else (1,2,4):
        exps = [base.replace(name=f'{jobs} at once, {i}', seed=i) for i in range(jobs)]
        with used_memory(o) as peak:
            start = time.perf_counter()
            runs = run_many(exps, path(o), f'{o.work}/many', jobs=jobs)
        took = time.perf_counter()-start
        finished = list(runs)
        training = [r.metrics['train_images']/r.metrics['seconds'] for r in finished]
        found[jobs] = dict(seconds=took, finished=len(finished), images_per_second_of_each=training, peak_MB=peak)
        note(run_many=found)
        note.figure(f'run_many, {jobs} at once: a run each', took/jobs, 's')

def run(o, note):
    dls = loaders(o)
    graphs(o, note, dls)
    side_by_side(o, note, dls.train.bs)
    compiled(o, note, dls)
    many(o, note)
