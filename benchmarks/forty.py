"""Forty epochs on CIFAR-10, decided in three rounds on the validation split.

1. Yardsticks: `layernorm-40-ws` with LayerNorm and with batch norm, each with the plateau and with one cycle of the
   learning rate (batch norm keeps standardised weights); and `layernorm-40-best`, the recipe without them, at three
   rates.
2. Single changes to `layernorm-40-ws`.
3. All changes that gained at least 0.2 points, together. One seed can't tell such a gain from luck, so the recipe with
   and without them is trained with three seeds. Also with batch norm; and the other presets.

Each run has its own process, and starts only if it can end in time. Repeat the same call to do the others. A run whose
training failed isn't tried again unless you delete its folder. Finished runs are put into an archive without weights,
checkpoints and figures, one for each scale. On a CPU, `--scale proxy` compares narrower networks after 16 epochs.
`--save` keeps the table.

    python benchmarks/forty.py --data cifar10.tgz --out runs/forty --seconds 3600 [--jobs 2] [--scale proxy] [--save]
"""
import argparse,gzip,io,json,os,shutil,tarfile,time
from functools import partial
from pathlib import Path

from fastcore.basics import noop
import pandas as pd

from keep import keep,with_save

from advtrain.files.atomic import atomic_write
from advtrain.launch.runner import Runner
from advtrain.runs.presets import EXPERIMENTS
from advtrain.runs.experiment import Experiment
from advtrain.runs.grid import name_after
from advtrain.stats import mcnemar
from advtrain.train.checkpoint import checkpoints,wait_for_checkpoints

import apart

RECIPE = EXPERIMENTS['layernorm-40-ws']

def changed(changes, exp=RECIPE): return exp.replace(name=name_after(exp, changes), **changes)

ONE_CYCLE = dict(schedule='one_cycle')
YARDSTICKS = [{}, dict(norm='batch'), dict(norm='batch') | ONE_CYCLE, ONE_CYCLE]
CHANGES = [dict(last_stride=1), dict(mix='cutmix'), dict(augs='trivial'), dict(wd=1e-3), dict(label_smoothing=0),
    dict(hole=8), dict(lr=.2), dict(factor=5), dict(min_delta=.02), dict(border='reflect'), dict(lr=.05),
    dict(wd=2e-4), dict(ema=.99), dict(ema=.9995), dict(bs=256)]
GAIN = .002 # in validation accuracy, for a change to be taken into the third round
LAYERNORM_ONLY = [changed(o, EXPERIMENTS['layernorm-40-best']) for o in ({}, dict(lr=.05), dict(lr=.01))]
SEEDS = {},dict(seed=1),dict(seed=2)
REFERENCES = 'layernorm-40','cutout-50','layernorm-40-8x8','resnet18-20','layernorm-40-modules'
LIMIT = 15e6 # bytes in the archive
SEAL = 'SHA256SUMS' # the file that a finished run has
FAILED = 'stopped.json' # the file that a failed run has

def best_changes(accuracies):
    "Join the changes that beat the recipe on the validation images, the best one of each field"
    recipe = accuracies[RECIPE.name]
    gains = {i: accuracies[changed(o).name]-recipe for i,o in enumerate(CHANGES) if accuracies.get(changed(o).name)}
    res = {}
    for i in sorted(gains, key=gains.get): # the best comes last, and replaces others of its field
        if gains[i]>=GAIN: res |= CHANGES[i]
    return res

def rounds(
    ended=(), # Name of a run that has ended -> its validation accuracy, `None` if it failed
): # Experiments, the most valuable first
    "List the experiments to run; the third round follows once the first two have ended"
    ended = dict(ended)
    res = [*map(changed, YARDSTICKS), *LAYERNORM_ONLY, *map(changed, CHANGES)]
    if any(o.name not in ended for o in res): return res
    best = best_changes(ended) if ended[RECIPE.name] else {}
    layernorm_only = max(LAYERNORM_ONLY, key=lambda o: ended[o.name] or 0)
    together = [best | norm | o for norm in ({}, dict(norm='batch')) for o in SEEDS]
    res += [changed(o) for o in together + [best | dict(watch='test')]] # watching the test set leaves 50,000 images
    res += [changed(o, exp) for exp in (RECIPE, layernorm_only) for o in SEEDS[1:]]
    res += [changed(dict(watch='test'), EXPERIMENTS[o]) for o in REFERENCES]
    return list({o.name: o for o in res}.values()) # without changes that helped, the recipe is listed twice

TINY = dict(width=4, epochs=2, size=16, bs=32, fraction=.2, n_images=4)
SCALES = {'full': {}, 'proxy': dict(width=32, epochs=16), 'tiny': TINY} # name -> what it changes

def scaled(exp, scale):
    "Make an experiment smaller, and adapt patience, `min_delta` and EMA to fewer epochs"
    if scale=='full': return exp
    shorter = SCALES[scale]['epochs']/exp.epochs
    patience = max(1, round(exp.patience*shorter))
    min_delta = min(exp.min_delta/shorter, .5)
    ema = exp.ema and exp.ema**(1/shorter)
    return exp.replace(**SCALES[scale], patience=patience, min_delta=min_delta, ema=ema)

def plan(scale, ended=()): return [scaled(o, scale) for o in rounds(ended)]

def cost(exp):
    "Estimate how long a run takes relative to `layernorm-40-ws`, from its epochs, its images and its last stage"
    return exp.epochs/40 * (50/45 if exp.watch=='test' else 1) * (1.5 if exp.last_stride==1 else 1)

def share_left(folder, exp):
    "Compute the share of a run's epochs that it still has to train"
    history = folder/'history.csv'
    trained = len(history.read_text(encoding='utf-8').splitlines())-1 if history.is_file() else 0
    return 1-trained/exp.epochs

def is_over(folder): return (Path(folder)/SEAL).is_file()

def ended_runs(runs):
    "List the folders of finished and failed runs, in the order in which they ended"
    ends = [o for name in (SEAL,FAILED) for o in Path(runs).glob(f'*/{name}')]
    return [o.parent for o in sorted(ends, key=lambda o: o.stat().st_mtime)]

def kept(runs):
    "List the files to keep: small ones of all runs that ended, predictions, and the page of the first run"
    folders = ended_runs(runs)
    files = [f for o in folders for f in sorted(o.iterdir()) if f.suffix in ('.toml','.json','.csv') or f.name==SEAL]
    def _all(name): return [f for o in folders if (f := o/name).is_file()]
    return files + _all('predictions.safetensors') + _all('report.html')[:1]

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

def run_one(text, data, folder, threads, kept_in=None):
    "Run an experiment, from its checkpoint if there is one; a copy of each checkpoint goes to the folder `kept_in`"
    import torch
    from advtrain.data.sources import fashion_sample
    torch.set_num_threads(threads)
    exp = Experiment.from_toml(text)
    on_epoch = partial(keep_checkpoint, Path(folder), Path(kept_in)/exp.name) if kept_in else noop
    Runner(exp, data or fashion_sample(), Path(folder), on_epoch=on_epoch).run(resume=True)

def keep_checkpoint(folder, to):
    "Copy the newest checkpoint, which the run will delete, and the choices"
    wait_for_checkpoints()
    to.mkdir(parents=True, exist_ok=True)
    for file in (checkpoints(folder)[-1], folder/'experiment.toml'):
        with atomic_write(to/file.name, to/f'.{file.name}.tmp') as aside: shutil.copyfile(file, aside)

def accuracy_of(folder):
    "Get a finished run's accuracy on the images that it watched; `None` for a failed run"
    return metrics_of(folder)['best_watched_accuracy'] if is_over(folder) else None

def metrics_of(folder): return json.loads((folder/'metrics.json').read_text(encoding='utf-8'))

class Queue:
    "Run the most valuable experiments first, several at once, until the time is up"
    function = 'forty:run_one'
    def __init__(self, # noqa: PLR0913 - six have a default
        plan, # Function from the validation accuracies of the runs that have ended, by name, to `Experiment`s
        data, # Folder or archive of images; `None` for the sample
        runs:Path, # Folder for the runs, one folder each
        seconds:float, # Time limit
        jobs:int=1, # Number of runs at once
        estimate:float|None=None, # Seconds of a run with `cost` 1; `None` measures the first one, which runs alone
        kept_in:Path|None=None, # Folder for the checkpoints of all epochs; `None` keeps none
        log:Path|None=None, # File for the output of the runs
        done=noop, # Called after each run
        say=print, # Called with a line about each run
    ):
        self.plan,self.runs,self.jobs,self.estimate = plan,runs,jobs,estimate
        self.data,self.kept_in = data and str(data),kept_in and str(kept_in)
        self.log,self.done,self.say = log,done,say
        self.ends,self.busy = time.monotonic()+seconds,[]
        self.ended = {o.name: accuracy_of(o) for o in ended_runs(runs)}

    def waiting(self):
        "List the experiments that haven't been started"
        begun = {*self.ended, *(exp.name for exp,*_ in self.busy)}
        return [o for o in self.plan(self.ended) if o.name not in begun]

    def fits(self, exp):
        "Can it end in time? Unknown until the first one has ended"
        if self.estimate is None: return not self.busy
        left = share_left(self.runs/exp.name, exp)
        return time.monotonic()+1.1*self.estimate*cost(exp)*left<self.ends

    def start(self):
        "Start the next runs that can end in time"
        threads = max(1, int(os.environ.get('OMP_NUM_THREADS', os.cpu_count()))//self.jobs)
        while len(self.busy)<self.jobs and (exp := next(filter(self.fits, self.waiting()), None)):
            args = exp.to_toml(), self.data, str(self.runs/exp.name), threads, self.kept_in
            call = apart.Apart(self.function, *args, log=self.log)
            self.busy.append((exp, call, time.monotonic()))
            self.say(f'{exp.name}: started')

    def take(self):
        "Handle the runs that have ended"
        for exp,call,start in [o for o in self.busy if o[1].over()]:
            self.busy.remove((exp, call, start))
            call.end()
            took = time.monotonic()-start
            self.ended[exp.name] = accuracy_of(self.runs/exp.name)
            if self.estimate is None and self.ended[exp.name]:
                trained = metrics_of(self.runs/exp.name)['seconds'] # longer than it took, if it was resumed
                self.estimate = max(took, trained)/cost(exp)
            why = '' if self.ended[exp.name] else f'; {self.log.name} says why'
            self.say(f'{exp.name}: {call.how()}, {took:.0f} s{why}')
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
        for exp in self.waiting(): self.say(f'{exp.name}: not started, it would take too long')

def against_recipe(folder):
    "Compare the predictions for the test images with those of the recipe in the same folder"
    tables = [pd.read_csv(o/'predictions.csv') for o in (folder.with_name(RECIPE.name), folder)]
    return mcnemar(*(o.actual==o.predicted for o in tables))

def line_of(folder):
    "Gather what is kept of a finished run"
    m = metrics_of(folder)
    keys = 'best_watched_accuracy watched best_epoch test_accuracy train_images seconds'.split()
    line = {k: m[k] for k in keys}
    compared = folder.name!=RECIPE.name and is_over(folder.with_name(RECIPE.name))
    return line | (dict(against_recipe=against_recipe(folder)) if compared else {})

def numbers_of(runs, exps, ended):
    "Gather what is kept: a line for each finished run, in the order of the rounds"
    over = [runs/o.name for o in exps if is_over(runs/o.name)]
    data = [json.loads((o/'environment.json').read_text(encoding='utf-8'))['data']['name'] for o in over[:1]]
    decided = all(changed(o).name in ended for o in [{}, *CHANGES]) and ended[RECIPE.name]
    lines = {o.name: line_of(o) for o in over}
    return dict(data=data[0] if data else None, lines=lines, best=best_changes(ended) if decided else None)

def show(numbers):
    "Print a line for each run, and the changes that go into the third round"
    for name,o in numbers['lines'].items():
        watched = f"{o['best_watched_accuracy']:.2%} of the {o['watched']} images in epoch {o['best_epoch']}"
        line = f"{name:50} {watched}, {o['test_accuracy']:.2%} of the test images"
        d = o.get('against_recipe')
        print(line + (f", {d['difference']:+.2%} ({d['low']:+.2%} to {d['high']:+.2%}) to the recipe" if d else ''))
    if numbers['best'] is not None: print('changes that helped:', numbers['best'] or 'none')

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help='folder or archive of CIFAR-10; default: the Fashion-MNIST sample')
    p.add_argument('--out', type=Path, required=True, help='folder for the runs, a folder for each scale')
    p.add_argument('--seconds', type=float, default=3600, help='time limit in seconds')
    p.add_argument('--jobs', type=int, default=1, help='number of runs at once')
    p.add_argument('--estimate', type=float, help='seconds of the first run while others run; default: it runs alone')
    p.add_argument('--scale', choices=SCALES, default='full', help='proxy: width 32, 16 epochs; tiny: a check')
    p.add_argument('--kept', type=Path, help='folder for the checkpoints of all epochs, for dynamics.py: '
        'full size takes 5 GB a run')
    o = with_save(p).parse_args()
    if o.jobs<1: p.error('--jobs: at least 1')
    if o.data and not Path(o.data).exists(): p.error(f'--data: no such file or folder: {o.data}')
    runs = o.out/o.scale
    runs.mkdir(parents=True, exist_ok=True)
    apart.prepare()
    _plan = partial(plan, o.scale)
    def _done(): pack(runs, o.out/f'{o.scale}.tar.gz')
    estimate = o.estimate and o.estimate/cost(_plan()[0])
    kept_in = o.kept and o.kept/o.scale
    queue = Queue(_plan, o.data, runs, o.seconds, o.jobs, estimate, kept_in, o.out/'log.txt', _done)
    queue.run()
    first,*_ = exps = _plan(queue.ended)
    size = {k: getattr(first, k) for k in 'width epochs patience min_delta ema'.split()}
    numbers = numbers_of(runs, exps, queue.ended) | size
    show(numbers)
    keep(o.save, numbers, 'fastai', name='forty' if o.scale=='full' else f'forty_{o.scale}')

if __name__=='__main__': main()
