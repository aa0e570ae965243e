"""Claim: a network trains the same on the fast path as item by item.

ResNet-18 on the embedded Fashion-MNIST sample, several seeds on each path, in turn. The same seed gives the same
weights and the same order of images; the augmentations are drawn from the same distributions, in another order. We
compare the validation accuracy after the last epoch: mean, standard deviation, and Welch's t-test.

    python benchmarks/same_training.py [--seeds 5] [--epochs 15] [--width 16]
"""
import argparse,contextlib,io,platform,time

import numpy as np
import torch
from keep import keep,with_save
from advtrain.data.augment import cutout_augs
from advtrain.data.sources import fashion_sample
from advtrain.data.image_dls import image_dls
from advtrain.train.resnet_learner import resnet_learner
from advtrain.train.state import set_seed
from scipy.stats import ttest_ind

def accuracy(seed, fast, epochs, width):
    "Train, and get the validation accuracy after the last epoch and the seconds"
    set_seed(seed)
    dls = image_dls(fashion_sample(), cutout_augs(hole=8), bs=50, fast=fast)
    learn = resnet_learner(dls, width=width, norm='layer', lr=.02)
    start = time.perf_counter()
    with learn.no_bar(),learn.no_logging(),contextlib.redirect_stdout(io.StringIO()): learn.fit(epochs)
    return learn.recorder.values[-1][-1],time.perf_counter()-start

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--seeds', type=int, default=5, help='number of seeds')
    p.add_argument('--epochs', type=int, default=15, help='epochs of each run')
    p.add_argument('--width', type=int, default=16, help='channels of the first stage')
    o = with_save(p).parse_args()
    print(f'{platform.processor() or platform.machine()}, torch {torch.__version__}, '
          f'ResNet-18 of width {o.width}, {o.epochs} epochs, {o.seeds} seeds')
    found = {True: [], False: []}
    for seed in range(o.seeds):
        for fast in found: found[fast].append(accuracy(seed, fast, o.epochs, o.width))
    for fast,runs in found.items():
        acc,seconds = np.array(runs).T
        print(f"{'fast path' if fast else 'item by item':13} {acc.mean():.1%} ± {acc.std(ddof=1):.1%}  "
              f"({', '.join(f'{a:.1%}' for a in acc)}), {seconds.mean():.0f} s per run")
    p = float(ttest_ind(*[[a for a,_ in r] for r in found.values()], equal_var=False).pvalue)
    print(f'Welch t-test: p = {p:.2f}')
    keep(o.save,
        dict(accuracies={'fast path' if k else 'item by item': [a for a,_ in r] for k,r in found.items()}, p=p),
        'fastai', 'albumentations')

if __name__=='__main__': main()
