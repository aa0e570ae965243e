"""Forty epochs on CIFAR-10: the presets, and what single choices are worth, until the time is up.

The most valuable runs come first, each in its own process. A run starts only if it can end in time. Finished runs are
put into an archive without weights, checkpoints and figures. Repeat the same call to do the others.

    python benchmarks/forty.py --data cifar10.tgz --out runs/forty --seconds 3600 [--jobs 2]
"""
import argparse,gzip,io,os,tarfile,time
from pathlib import Path

from advtrain.runs.presets import EXPERIMENTS
from advtrain.runs.experiment import Experiment
from advtrain.runs.grid import name_after

import apart

RUNS = [ # preset, changes
    ('layernorm-40-ws', {}),
    ('layernorm-40-ws', dict(norm='batch')),
    ('layernorm-40-ws', dict(last_stride=1)),
    ('layernorm-40-ws', dict(hole=8)),
    ('layernorm-40-best', {}),
    ('layernorm-40', dict(watch='test')),
    ('cutout-50', dict(watch='test')),
    ('layernorm-40-8x8', dict(watch='test')),
    ('resnet18-20', dict(watch='test')),
    ('layernorm-40-modules', dict(watch='test')),
    ('layernorm-40-best', dict(seed=1)),
    ('layernorm-40-best', dict(seed=2)),
]
LIMIT = 15e6 # bytes in the archive
SEAL = 'SHA256SUMS' # the file that a finished run has

def experiments(tiny=False):
    "Make the experiments, or tiny ones for a rehearsal"
    small = dict(width=4, size=16, epochs=2, bs=32, fraction=.2, n_images=4) if tiny else {}
    def _experiment(exp, changes): return exp.replace(name=name_after(exp, changes), **small | changes)
    return [_experiment(EXPERIMENTS[preset], changes) for preset,changes in RUNS]

def cost(exp):
    "Estimate how long a run takes relative to `layernorm-40-ws`, from epochs, steps per epoch and the last stage"
    return exp.epochs/40 * 128/exp.bs * (1.5 if exp.last_stride==1 else 1)

def is_over(folder): return (Path(folder)/SEAL).is_file()

def kept(runs):
    "List the files of finished runs, the most valuable first and the page of the first run last"
    folders = sorted((o.parent for o in Path(runs).glob(f'*/{SEAL}')), key=lambda o: (o/SEAL).stat().st_mtime)
    files = [f for o in folders for f in sorted(o.iterdir()) if f.suffix in ('.toml','.json','.csv') or f.name==SEAL]
    large = [o/'predictions.safetensors' for o in folders] + [o/'report.html' for o in folders[:1]]
    return files + [o for o in large if o.is_file()]

def pack(runs, archive, limit=LIMIT):
    "Put finished runs into an archive of at most `limit` bytes"
    size,out = 0,io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:gz') as tar:
        for f in kept(runs):
            size_of_file = len(gzip.compress(f.read_bytes()))+1000
            if size+size_of_file>limit: continue
            size += size_of_file
            tar.add(f, f.relative_to(runs).as_posix())
    aside = archive.with_name(f'.{archive.name}.tmp')
    aside.write_bytes(out.getvalue())
    os.replace(aside, archive)

def unpack(archive, runs):
    "Extract the runs of an archive"
    if not archive.is_file(): return
    with tarfile.open(archive) as tar: tar.extractall(runs, filter='data')

def run_one(text, data, folder, threads):
    "Run an experiment, from its checkpoint if there is one"
    import torch
    from advtrain.all import fashion_sample,run_experiment
    torch.set_num_threads(threads)
    run_experiment(Experiment.from_toml(text), data or fashion_sample(), folder, resume=True)

class Queue:
    "Run the most valuable experiments first, several at once, until the time is up"
    function = 'forty:run_one'
    def __init__(self, # noqa: PLR0913 - five have a default
        exps, # `Experiment`s
        data, # Folder or archive of images; `None` for the sample
        runs:Path, # Folder for the runs, one folder each
        seconds:float, # Time limit
        jobs:int=1, # Number of runs at once
        estimate:float|None=None, # Seconds of a run with `cost` 1; `None` measures the first that ends
        log:Path|None=None, # File for the output of the runs
        done=lambda: None, # Called after each run
        say=print, # Called with a line about each run
    ):
        self.waiting = [o for o in exps if not is_over(runs/o.name)]
        self.data,self.runs,self.jobs,self.estimate = data and str(data),runs,jobs,estimate
        self.log,self.done,self.say = log,done,say
        self.ends,self.busy = time.monotonic()+seconds,[]

    def fits(self, exp):
        "Can it end in time? Unknown until the first one has ended"
        if self.estimate is None: return not self.busy
        return time.monotonic()+1.1*self.estimate*cost(exp)<self.ends

    def start(self):
        "Start the next runs that can end in time"
        threads = max(1, int(os.environ.get('OMP_NUM_THREADS', os.cpu_count()))//self.jobs)
        while len(self.busy)<self.jobs and (exp := next(filter(self.fits, self.waiting), None)):
            self.waiting.remove(exp)
            call = apart.Apart(self.function, exp.to_toml(), self.data, str(self.runs/exp.name), threads, log=self.log)
            self.busy.append((exp, call, time.monotonic()))
            self.say(f'{exp.name}: started')

    def take(self):
        "Handle the runs that have ended"
        for exp,call,start in [o for o in self.busy if o[1].over()]:
            self.busy.remove((exp, call, start))
            call.end()
            took = time.monotonic()-start
            if self.estimate is None and is_over(self.runs/exp.name): self.estimate = took/cost(exp)
            self.say(f'{exp.name}: {call.how()}, {took:.0f} s')
            self.done()

    def run(self):
        "Run until all are done or the time is up"
        try:
            while time.monotonic()<self.ends:
                self.take()
                self.start()
                if not self.busy: break
                time.sleep(.2)
            self.take()
        finally:
            for exp,call,_ in self.busy:
                call.end()
                self.say(f'{exp.name}: {call.how()}, unfinished')
        for exp in self.waiting: self.say(f'{exp.name}: not started, it would take too long')

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help='folder or archive of CIFAR-10; default: the Fashion-MNIST sample')
    p.add_argument('--out', type=Path, required=True, help='folder for the runs, one folder each, and runs.tar.gz')
    p.add_argument('--seconds', type=float, default=3600, help='time limit in seconds')
    p.add_argument('--jobs', type=int, default=1, help='number of runs at once')
    p.add_argument('--tiny', action='store_true', help='small networks for two epochs, to check that it works')
    o = p.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    apart.prepare()
    def done(): pack(o.out, o.out/'runs.tar.gz')
    Queue(experiments(o.tiny), o.data, o.out, o.seconds, o.jobs, log=o.out/'log.txt', done=done).run()

if __name__=='__main__': main()
