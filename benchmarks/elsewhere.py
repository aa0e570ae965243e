"""Claim: the overlap of the top fifth of the pixels of two runs' heat maps tells other rounding, another norm and
another seed apart, better than their rank correlation.

`quickstart` on the Fashion-MNIST sample is trained with three seeds, and again with

    rounding   the same seed and other convolution kernels (oneDNN turned off), which changes rounding alone
    norm       batch norm instead of LayerNorm
    augs       no augmentation, or also crops

All in fp32. For each pair of runs, we take GradCAM's maps at the last layer for the actual class of all 500 test
images, and the median of two measures of similarity: rank correlation, and overlap of the top fifth of the pixels.
Printed are the mean over pairs and its range. Two runs with the same seed start from the same weights and see images
in the same order, so changes are compared with and without another seed. `different images` is what is left if the
maps are those of two images of the same class and run.

A measure is good if it tells kinds of pairs apart. So we divide the gap between two kinds by their pooled standard
deviation. The library's default is the measure with the larger mean gap between rounding, norm and seed. Finished runs
are not run again.

    python benchmarks/elsewhere.py --out elsewhere
"""
import argparse,contextlib,io,statistics
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from keep import keep,with_save

from advtrain.all import EXPERIMENTS,SIMILARITIES,Comparison,Run,fashion_sample,map_similarity,run_experiment
from advtrain.launch.runner import is_done
from advtrain.runs.run_figures import DRAW

SEEDS = 1,2,3
BASE = EXPERIMENTS['quickstart'].replace(precision='fp32', life=False, n_images=1)
GROUPS = {
    'base': {},
    'rounding': {},
    'norm batch': dict(norm='batch'),
    'augs none': dict(augs='none', hole=None),
    'augs crop_flip_cutout': dict(augs='crop_flip_cutout'),
}

def trained(group, seed, out):
    "Train a run, or read it if it's finished"
    exp = BASE.replace(name=f'{group}, seed {seed}', seed=seed, **GROUPS[group])
    folder = Path(out)/exp.name
    if is_done(exp, folder, fashion_sample()): run = Run(folder)
    else:
        with torch.backends.mkldnn.flags(enabled=group!='rounding'),contextlib.redirect_stdout(io.StringIO()):
            run = run_experiment(exp, fashion_sample(), folder)
    print(f"{exp.name}: {run.metrics['test_accuracy']:.1%}, {run.metrics['seconds']:.0f} s", flush=True)
    return run

def kinds_of_pairs():
    "List pairs of runs, each a group and a seed, by what differs"
    same = {f'{o}, same seed': [(('base',s),(o,s)) for s in SEEDS] for o in list(GROUPS)[1:]}
    seeds = {'another seed': [(('base',s),('base',t)) for s,t in permutations(SEEDS, 2) if s<t]}
    both = {f'{o}, another seed': [(('base',s),(o,t)) for s,t in permutations(SEEDS, 2)] for o in list(GROUPS)[2:]}
    return same | seeds | both

def median_of(comparison, keys, a, b, measure):
    "The median similarity of two runs, over all test images"
    n = len(comparison.right[0])
    return float(comparison.similarity(range(n), keys.index(a), keys.index(b), measure).median())

def of_other_images(run, measure):
    "The median similarity of the maps of different images of a class"
    t = run.interpretation.table
    maps = run.interpretation.gradcam(t, targets='actual', raw=True)[0]
    parts = [torch.from_numpy(np.flatnonzero(t.actual==o)) for o in t.actual.unique()]
    return float(np.nanmedian([v for o in parts for v in map_similarity(maps[o], maps[o.roll(1)], measure)]))

def summary(values): return dict(mean=statistics.fmean(values), low=min(values), high=max(values), pairs=values)

def gap(x, y):
    "The difference of two means over the pooled standard deviation"
    df = len(x)+len(y)-2
    pooled = (statistics.variance(x)*(len(x)-1)+statistics.variance(y)*(len(y)-1))/df
    return (statistics.fmean(x)-statistics.fmean(y))/pooled**.5

STEPS = [('rounding, same seed','norm batch, same seed'),('norm batch, same seed','another seed'),
    ('rounding, same seed','another seed')]
MORE = [('another seed',f'{o}, another seed') for o in list(GROUPS)[2:]]

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--out', default='runs/elsewhere', help='folder for the runs')
    o = with_save(p).parse_args()
    DRAW.clear() # we don't look at the runs' figures
    runs = {(group,seed): trained(group, seed, o.out) for seed in SEEDS for group in GROUPS}
    keys = list(runs)
    comparison = Comparison(list(runs.values()))
    numbers = dict(images=len(comparison.right[0]), accuracy={
        group: [runs[group,s].metrics['test_accuracy'] for s in SEEDS] for group in GROUPS}, measures={})
    for measure in SIMILARITIES:
        found = {k: [median_of(comparison, keys, *pair, measure) for pair in pairs]
            for k,pairs in kinds_of_pairs().items()}
        found['different images'] = [of_other_images(runs['base',s], measure) for s in SEEDS]
        gaps = {f'{a} / {b}': gap(found[a], found[b]) for a,b in STEPS+MORE}
        mean_gap = statistics.fmean(gap(found[a], found[b]) for a,b in STEPS)
        numbers['measures'][measure] = dict(
            similarity={k: summary(v) for k,v in found.items()}, gaps=gaps, mean_gap=mean_gap)
        print(f'\n{measure}')
        for k,v in found.items(): print(f'    {k:36} {statistics.fmean(v):.2f} ({min(v):.2f} to {max(v):.2f})')
        for k,v in gaps.items(): print(f'    gap {k:56} {v:.1f} standard deviations')
        print(f'    mean of the first three {mean_gap:.1f}')
    keep(o.save, numbers, 'fastai')

if __name__=='__main__': main()
