"""Claim: verdicts on a choice keep what they promise, for 2, 3, 5 and 10 seeds.

We simulate grids of two values whose accuracies are those of 500 test images, and whose seeds spread as they do in
runs of the quickstart on the Fashion-MNIST sample: by 0.8 points with layer, group and batch norm, eight seeds each.

- Without an effect, how many verdicts are wrong? 5 % should be.
- With or without one, how often is it in the interval? In 95 % of the grids, it should be.
- A grid that can't tell gets more seeds until the interval is half as wide. How far off was the forecast? And how far
  the forecast of the seeds that would decide, against the seeds that really need the spread and the effect?

    python benchmarks/verdicts.py [--sd 0.8] [--grids 2000] [--save]
"""
import argparse,statistics
from math import sqrt

import numpy as np
from advtrain.stats import paired_difference,pairs_needed
from keep import keep,with_save
from scipy import stats

IMAGES = 500 # of the sample's test set
SEEDS = 2,3,5,10
EFFECTS = 0,.5,1.,2. # in standard deviations over seeds
MOST = 400 # most seeds that a grid gets

def accuracies(rng, o, effect, seeds):
    "Simulate the accuracies of two values, shape (2, seeds), each a number of images"
    x = rng.normal(.8, o.sd/100, (2,seeds))
    x[1] += effect*o.sd/100
    return np.round(IMAGES*x)/IMAGES

def judged(x): return paired_difference(*x, step=1/IMAGES)

def seeds_until(x, width, n):
    "Count the seeds after which the interval is as narrow as `width`, from `n` on"
    for k in range(n, x.shape[1]+1):
        r = judged(x[:,:k])
        if r['high']-r['low']<=width: return k
    return x.shape[1]

def ratio(a, b): return max(a/b, b/a)

def halved(r, x, n):
    "Compare the forecast of seeds that halve the interval with those that did"
    width = (r['high']-r['low'])/2
    return ratio(pairs_needed(width/2, r['sd'], n), seeds_until(x, width, n))

def decided(r, effect, sd, n):
    "Compare the forecast of seeds that decide with those that the true spread and effect need; `None` if it's none"
    forecast = pairs_needed(abs(r['difference']), r['sd'], n)
    k = np.arange(2, 10_000)
    needed = k[(stats.t.ppf(.975, k-1)*sqrt(2)*sd/np.sqrt(k) <= effect*sd).argmax()]
    return forecast and forecast/max(needed, n)

def simulate(o, n, effect):
    "Judge many grids with `n` seeds, and compare forecasts with what more seeds would have shown"
    rng = np.random.default_rng([n, int(100*effect)])
    grids = [accuracies(rng, o, effect, MOST if i<o.forecasts else n) for i in range(o.grids)]
    found = [judged(x[:,:n]) for x in grids]
    significant = [r['p']<.05 for r in found]
    true = effect*o.sd/100
    covered = [r['low']<=true<=r['high'] for r in found]
    res = dict(seeds=n, effect=effect, significant=statistics.fmean(significant), covered=statistics.fmean(covered))
    open_ = [i for i,s in enumerate(significant) if not s]
    res['halved_ratio'] = statistics.median(halved(found[i], grids[i], n) for i in open_ if i<o.forecasts)
    if effect:
        ratios = [d for i in open_ if (d := decided(found[i], effect, o.sd, n))]
        res['decided_ratio'] = statistics.median(ratios)
    return res

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--sd', type=float, default=.8, help='standard deviation over seeds, in points')
    p.add_argument('--grids', type=int, default=2000, help='number of grids')
    p.add_argument('--forecasts', type=int, default=300, help='number of grids that get more seeds')
    o = with_save(p).parse_args()
    lines = [simulate(o, n, effect) for n in SEEDS for effect in EFFECTS]
    for r in lines:
        decided_ratio = f", {r['decided_ratio']:.2f} of the seeds that decide" if 'decided_ratio' in r else ''
        print(f"{r['seeds']:2} seeds, effect {r['effect']} sd: significant {r['significant']:.1%}, covered "
            f"{r['covered']:.1%}; forecast off by {r['halved_ratio']:.2f} for half the interval{decided_ratio}",
            flush=True)
    keep(o.save, dict(lines=lines, sd=o.sd, grids=o.grids, images=IMAGES), 'scipy')

if __name__=='__main__': main()
