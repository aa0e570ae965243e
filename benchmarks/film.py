"""Claim: the film of a run costs at most 3 % of its training, and shows when heat maps settle.

`cost` trains a run with its film, and times the film and the live page within it. Printed are their shares of the
training, and the size of the film's file and of the run's page.

    python benchmarks/film.py cost --out film_cost
    python benchmarks/film.py cost --out film_cifar --data cifar10.tgz --width 8 --epochs 15 --bs 128 --lr 0.05 \
        --fraction 0.2 --name film_cost_cifar

`settle` films all validation images of the Fashion-MNIST sample after each epoch, with several seeds, the quickstart
with 40 epochs. Printed are the rank correlation of the maps with those of the last epoch, and of each epoch's with the
epoch before, the epoch at which maps settle, for images that are right and wrong in the end, and what happens at drops
of the learning rate.

    python benchmarks/film.py settle --out film_settle
"""
import argparse,statistics
from pathlib import Path

import numpy as np

from keep import keep,timed,with_save

from advtrain.all import EXPERIMENTS,Film,FilmLog,LivePage,fashion_sample,make_learner,paired_difference
from advtrain.all import run_experiment
from advtrain.console import silenced
from advtrain.look.map_similarity import rank_correlations
from advtrain.stats import mean_interval

# The cost of a film

def cost(o):
    "Train a run, and time its film"
    seconds,live = [],[]
    FilmLog.__call__ = timed(FilmLog.__call__, seconds)
    LivePage.__call__ = timed(LivePage.__call__, live)
    choices = {k: getattr(o, k) for k in ('width','epochs','bs','lr','fraction')}
    run = run_experiment(EXPERIMENTS['quickstart'].replace(**choices), o.data, o.out, overwrite=True)
    total = run.history.seconds.sum()
    numbers = dict(share=sum(seconds)/total, live_share=sum(live)/total, seconds=total,
        frames=len(run.film.epochs), epochs=o.epochs, images=len(run.film.paths),
        film_bytes=(o.out/'film.safetensors').stat().st_size, page_bytes=(o.out/'report.html').stat().st_size)
    print(f"{numbers['frames']} frames of {numbers['images']} images in {o.epochs} epochs: "
        f"{numbers['share']:.2%} of the training, the live page {numbers['live_share']:.2%}; "
        f"file {numbers['film_bytes']/1e6:.2f} MB, page {numbers['page_bytes']/1e6:.2f} MB")
    return numbers

# When maps settle

def film_of(o, seed):
    "Film all validation images after each epoch, or read the film"
    file = o.out/f'{seed}.safetensors'
    if not file.exists():
        exp = EXPERIMENTS['quickstart'].replace(seed=seed, epochs=o.epochs, film=10**6)
        with silenced():
            learn = make_learner(exp, fashion_sample())
            with learn.no_bar(): learn.fit(exp.epochs)
        learn.film.save(file, learn.dls.source)
    return Film.load(file)

def successive(film):
    "Compute the mean rank correlation of each epoch's maps with those of the epoch before"
    maps = film.maps[film.layers[-1]][:,:,1]
    return [float(np.nanmean(rank_correlations(a, b))) for a,b in zip(maps, maps[1:])]

def drops_of(film): return [i for i in range(1, len(film.lr)) if film.lr[i]<film.lr[i-1]]

def settle(o):
    "Film several seeds, and summarise"
    o.out.mkdir(parents=True, exist_ok=True)
    films = [film_of(o, seed) for seed in range(1, o.seeds+1)]
    tables = [f.table for f in films]
    right = [t.actual==t.predicted for t in tables]
    with_last = np.mean([np.nanmean(f.similarity(), 1) for f in films], 0)
    last = [f.maps[f.layers[-1]][-1,:,1] for f in films]
    others = statistics.fmean(float(np.nanmean(rank_correlations(m, np.roll(m, 1, 0)))) for m in last)
    steps = [successive(f) for f in films]
    drops = [(s, i-1) for s,f in zip(steps, films) for i in drops_of(f)[:1]] # the first of each seed
    means = {k: [float(t.settled[r==k].mean()) for t,r in zip(tables, right)] for k in (True,False)}
    numbers = dict(
        epochs=films[0].epochs, with_last=with_last.tolist(), others=others,
        settled={str(q): float(np.nanquantile(np.concatenate([t.settled for t in tables]), q)) for q in (.25,.5,.75)},
        right=mean_of(means[True]), wrong=mean_of(means[False]),
        wrong_later=paired_difference(means[True], means[False]),
        n_right=int(sum(map(sum, right))), n_wrong=int(sum(map(len, right))-sum(map(sum, right))),
        drop_epochs=[films[k].epochs[drops_of(f)[0]] for k,f in enumerate(films) if drops_of(f)],
        before_drop=mean_of([statistics.fmean(s[max(i-3, 0):i]) for s,i in drops]),
        at_drop=mean_of([s[i] for s,i in drops]),
        after_drop=mean_of([statistics.fmean(s[i+1:i+4]) for s,i in drops if s[i+1:i+4]]))
    show(numbers)
    return numbers

def mean_of(values):
    "Compute the mean over seeds, with its interval (from 0 to 1 for correlations, in epochs otherwise)"
    if not values: return None
    if max(values)<=1: mean,_,low,high = mean_interval(values)
    else:
        d = paired_difference([0]*len(values), values)
        mean,low,high = d['difference'],d['low'],d['high']
    return dict(mean=mean, low=low, high=high, n=len(values))

def words(r): return f"{r['mean']:.2f} ({r['low']:.2f} to {r['high']:.2f})" if r else 'none'

def show(r):
    "Print the summary"
    for e,c in zip(r['epochs'], r['with_last']): print(f'  epoch {e:2}: correlation with the last epoch {c:.2f}')
    d = r['wrong_later']
    print(f"maps of different images: {r['others']:.2f}")
    quarter,half,most = (f'{r["settled"][q]:.0f}' for q in ('0.25','0.5','0.75'))
    print(f'settled: a quarter by epoch {quarter}, half by {half}, three quarters by {most}')
    print(f"right in the end ({r['n_right']}): epoch {words(r['right'])}; wrong ({r['n_wrong']}): {words(r['wrong'])}; "
        f"wrong images settle {d['difference']:.2f} epochs later ({d['low']:.2f} to {d['high']:.2f})")
    print(f"from one epoch to the next: before the first drop {words(r['before_drop'])}, at it {words(r['at_drop'])}, "
        f"after it {words(r['after_drop'])}; drops before epochs {r['drop_epochs']}")

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('what', choices=('cost','settle'))
    p.add_argument('--out', type=Path, required=True, help='folder for runs and films, to go on after a stop')
    p.add_argument('--data', default=str(fashion_sample()), help='folder of classes, or an archive')
    quick = EXPERIMENTS['quickstart']
    for k in ('width','bs'): p.add_argument(f'--{k}', type=int, default=getattr(quick, k))
    for k in ('lr','fraction'): p.add_argument(f'--{k}', type=float, default=getattr(quick, k))
    p.add_argument('--epochs', type=int)
    p.add_argument('--seeds', type=int, default=5, help='number of seeds')
    p.add_argument('--name', help='name of the file of results')
    o = with_save(p).parse_args()
    o.epochs = o.epochs or (quick.epochs if o.what=='cost' else 40)
    if o.what=='settle': FilmLog._is_due = lambda self: True # after each epoch
    numbers = cost(o) if o.what=='cost' else settle(o)
    keep(o.save, numbers, name=o.name or f'film_{o.what}')

if __name__=='__main__': main()
