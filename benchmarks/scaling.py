"""Claim: a step of n processes takes as long as a model of five measured constants predicts. It also predicts other
machines.

ResNet-18, LayerNorm, 32x32 pixels, pad-and-crop, flip, rotation and cutout. The constants, each measured in one thread:

    draws     drawing the augmentations, which each process does for the whole batch     µs per image
    loader    gathering and augmenting                                                   µs per image
    compute   forward and backward                                                       µs per image
    fixed     cost of a step besides its images: Python, optimiser, small exchanges      ms
    link      all-reduce of the gradients, 2(n-1)/n times their bytes, over this         GB/s

The model: step = draws*batch + (loader + compute)*batch/n + fixed + 2(n-1)/n*bytes/link.

    python benchmarks/scaling.py                       # measure, predict two processes, and measure those
    python benchmarks/scaling.py --compute 25 --loader 2 --draws 1.5 --fixed 4 --link 450 --n 1 2 4 8  # another machine
"""
import argparse,contextlib,os,platform,statistics,time

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from keep import keep,over,with_save
import torch
import torch.distributed as dist

from advtrain.all import A,augment_batch,cutout_augs,fashion_sample,image_dls,resnet18,resnet_learner,set_seed
from advtrain.train.callbacks import RunCallback
from advtrain.dist import all_gather,run_forked,ranks_together

AUGS = A.Compose([A.HorizontalFlip(), *cutout_augs().transforms])
PARAMETERS = sum(p.numel() for p in resnet18().parameters())

class Clock(RunCallback):
    "Measure the seconds of each training step"
    order,passive = 99,True
    def before_fit(self): self.seconds = []
    def before_train(self): self.last = time.perf_counter()
    def after_batch(self):
        if not self.training: return
        now = time.perf_counter()
        self.seconds.append(now-self.last)
        self.last = now

def steps(bs, n=5):
    "Measure the seconds of a step: the median of `n` after a warm-up step, in the slowest process"
    set_seed(0)
    learn = resnet_learner(image_dls(fashion_sample(), AUGS, bs=bs, fraction=min(1, (n+1)*bs/1800))).add_cb(Clock())
    with learn.no_bar(), learn.distributed(), contextlib.redirect_stdout(None):
        learn.fit(1)
        return max(all_gather(statistics.median(learn.clock.seconds[1:n+1])))

def exchange():
    "Measure the seconds of an all-reduce of the gradients"
    with ranks_together():
        x = torch.ones(PARAMETERS)
        times = []
        for _ in range(6):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(x)
            times.append(time.perf_counter()-start)
        return max(all_gather(statistics.median(times[1:])))

def per_image(f, n, rounds=3):
    "Measure the microseconds per image of a call that handles `n` images"
    f()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter()-start)
    return 1e6*statistics.median(times)/n

def measured():
    "Measure the constants of this machine; call it in a separate process"
    dls = image_dls(fashion_sample(), AUGS, bs=128)
    x,rng = torch.zeros(1, 32, 32, 3, dtype=torch.uint8),np.random.default_rng(0)
    draws = per_image(lambda: augment_batch(AUGS, x, rng, (4096, np.array([0]))), 4096)
    loader = per_image(lambda: [None for _ in dls.train], len(dls.train.dataset))-draws
    few,many = steps(32),steps(128)
    slope = 1e6*(many-few)/(128-32)
    return dict(draws=draws, loader=loader, compute=slope-draws-loader, fixed=1000*many-slope*128/1000)

def model(c, n, bs):
    "Predict the milliseconds of a step"
    images = (c['draws']*bs + (c['loader']+c['compute'])*-(-bs//n))/1000
    return images + c['fixed'] + 2*(n-1)/n*PARAMETERS*4/(c['link']*1e9)*1000

def table(c, ns, bs, images=45000, epochs=40):
    "Print the predicted steps, speeds and times of a run"
    print(f"{'processes':>9} {'batch':>6} {'ms/step':>9} {'images/s':>9} {'efficiency':>10} {'40 epochs':>10}")
    for b in (bs, 1024, 4096):
        for n in ns:
            ms = model(c, n, b)
            print(f'{n:9} {b:6} {ms:9.2f} {1000*b/ms:9.0f} {model(c, 1, b)/ms/n:10.0%} '
                  f'{epochs*images/b*ms/60000:6.1f} min')

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    for k,unit in dict(
            draws='µs per image', loader='µs per image', compute='µs per image',
            fixed='ms per step', link='GB/s').items():
        p.add_argument(f'--{k}', type=float, help=f'{unit}; default: measured here')
    p.add_argument('--n', type=int, nargs='+', default=[1,2,4,8], help='numbers of processes to predict')
    p.add_argument('--bs', type=int, default=128, help='batch size, of all processes together')
    p.add_argument('--rounds', type=int, default=3, help='measurements of two processes and one, in turn')
    o = with_save(p).parse_args()
    given = {k: v for k in ('draws','loader','compute','fixed','link') if (v := getattr(o, k)) is not None}
    if len(given)==5: return table(given, o.n, o.bs)
    print(f'{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread per process, '
          f'torch {torch.__version__}, {PARAMETERS:,} parameters')
    constants, = run_forked(measured, 1, timeout=600)
    seconds = run_forked(exchange, 2)[0]
    constants |= dict(link=PARAMETERS*4/seconds/1e9) | given
    print(', '.join(f'{k} {v:.3g}' for k,v in constants.items()))
    ratio = over(
        run_forked(lambda: steps(o.bs), 2, timeout=600)[0]/run_forked(lambda: steps(o.bs), 1, timeout=600)[0]
        for _ in range(o.rounds))
    says = model(constants, 2, o.bs)/model(constants, 1, o.bs)
    print(f"two processes / one, ms per step at a batch of {o.bs}: measured {ratio['median']:.3f} "
          f"(from {ratio['low']:.3f} to {ratio['high']:.3f}), the model {says:.3f}")
    keep(o.save, dict(constants=constants, two_processes_against_one=ratio, model=says))
    table(constants, o.n, o.bs)

if __name__=='__main__': main()
