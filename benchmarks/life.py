"""Claim: recording the life of each image costs less than 1 % of the training, and two bytes per image and epoch.

The same training with `life=True` and `life=False`, epochs in turn: A B B A A B B A …, as `learn.fit` runs them. Quote
the median of the ratios within a round. Where epochs differ more than that from each other, the second number says
more: the time spent in the callback, as a share of its epochs. On a GPU, that's the time to start the work.

    python benchmarks/life.py            # a ResNet-18 of width 64 with batches of 128, as in the presets
    python benchmarks/life.py --width 16 --bs 32 --images 1800 --rounds 15 --name life_small      # small steps
"""
import argparse

import torch

from keep import keep,over,timed,with_save

from advtrain.all import cutout_augs,fashion_sample,image_dls,resnet_learner,set_seed
from advtrain.console import silenced
from advtrain.train.margin_log import MarginLog

def learner(o, life):
    "Make a learner that has trained for an epoch"
    set_seed(1)
    dls = image_dls(fashion_sample(), cutout_augs(), bs=o.bs, fraction=o.images/1800)
    learn = resnet_learner(dls, width=o.width, life=life)
    epoch(learn)
    return learn

def epoch(learn):
    "Train an epoch, and return its seconds"
    with learn.no_bar(),silenced(): learn.fit(1)
    return learn.history.seconds.iloc[-1]

def round_of(with_life, without, seconds):
    "Time four epochs in turn: the ratio of the sums, and the share of `seconds`, spent in the callback"
    seconds.clear()
    a,b,c,d = [epoch(o) for o in (with_life, without, without, with_life)]
    return (a+d)/(b+c),sum(seconds)/(a+d)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    for k,v in dict(width=64, bs=128, images=900, rounds=5).items(): p.add_argument(f'--{k}', type=int, default=v)
    p.add_argument('--name', help='name of the file of results')
    o = with_save(p).parse_args()
    seconds = []
    MarginLog.__call__ = timed(MarginLog.__call__, seconds)
    with_life,without = learner(o, True),learner(o, False)
    ratios,shares = zip(*[round_of(with_life, without, seconds) for _ in range(o.rounds)])
    log = with_life.margin_log
    n = sum(len(k[0]) for k in (log.train, log.valid))*len(log.train)
    kept = sum(m.nbytes for m in [*log.train,*log.valid])/n
    r,share = over(ratios),over(shares)
    print(f"with lives, an epoch takes {r['median']:.3f} times as long ({r['low']:.3f} to {r['high']:.3f}), "
        f"spends {share['median']:.2%} on them ({share['low']:.2%} to {share['high']:.2%}), "
        f'and keeps {kept:.1f} bytes per image and epoch')
    keep(o.save, dict(ratio=r, share=share, bytes=kept, width=o.width, bs=o.bs, threads=torch.get_num_threads()),
        name=o.name)

if __name__=='__main__': main()
