"""Claim: the margins of a training run find wrong labels as well as cross-validation does, which costs four more runs.

A part of the training labels is changed on purpose, each seed another part, and we look for them:

    aum        the mean margin over the epochs of one run: `learn.life.suspects`
    loss       the loss of that run's final network
    cleanlab   its self-confidence and its normalised margin, from five more runs that each predict a fifth of the
               images: `pip install cleanlab`

Printed are the area under the ROC curve, and the precision of as many images as labels were changed, which is also
their recall; by chance, these are 0.5 and the share of changed labels. Then how many images each rule names by itself,
with precision and recall: ours (`learn.life.suspects()`), the one of Pleiss et al. (2020) from one more run, in
which some images have an extra class, and that of cleanlab.

With `--memorise`, networks train without augmentation and weight decay, at a constant rate, until they know all
labels.

    python benchmarks/suspects.py --out suspects
    python benchmarks/suspects.py --out suspects_cifar --data cifar10.tgz --planted 0.1 --seeds 1 --width 8 \
        --epochs 15 --bs 128 --name suspects_cifar
    python benchmarks/suspects.py --out suspects_memorised --planted 0.1 --seeds 1 --epochs 40 --memorise \
        --name suspects_memorised
"""
import argparse,statistics,time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from keep import keep,over,with_save

from advtrain.all import EXPERIMENTS,fashion_sample,make_learner
from advtrain.console import silenced
from advtrain.look.image_life import SUSPECT

FOLDS = 5
MEMORISE = dict(augs='none', wd=0, schedule='constant')

def trained(exp, data):
    "Train, and return the learner and the seconds it took"
    start = time.perf_counter()
    with silenced():
        learn = make_learner(exp, data)
        with learn.no_bar(): learn.fit(exp.epochs)
    return learn,time.perf_counter()-start

def table_of(learn):
    "List all images with their labels, the changed ones among them, and their splits"
    life = learn.life
    test = learn.interpret('test').table.rename(columns=dict(actual='label'))
    parts = dict(train=life.table, valid=life.valid.table, test=test)
    return pd.concat([o[['path','label']].assign(split=k) for k,o in parts.items()], ignore_index=True)

def with_extra_class(table, rng):
    "Give some training images a class that doesn't exist: as many as a class has"
    train = table.index[table.split=='train']
    n = len(train)//(table.label.nunique()+1)
    res = table.copy()
    res.loc[rng.choice(train, n, replace=False), 'label'] = 'extra class'
    return res

def cross_validated(exp, table, rng):
    "Predict each training image with a network that didn't see it: logits, and the seconds of training"
    table = table[table.split!='test']
    train = table.index[table.split=='train'].to_numpy()
    fold = np.arange(len(train))%FOLDS
    rng.shuffle(fold)
    found,seconds = None,0
    for k in range(FOLDS):
        part = table.copy()
        part.loc[train[fold==k], 'split'] = 'test'
        learn,s = trained(exp, part)
        interp = learn.interpret('test')
        places = pd.Series(np.arange(len(train)), table.path[train]).loc[interp.table.path].to_numpy()
        if found is None: found = np.zeros((len(train),len(learn.dls.vocab)), np.float32)
        found[places] = interp.logits.softmax(1).numpy()
        seconds += s
    return found,seconds

def files(o, exp, planted, seed):
    "Train what one part of the table needs, or read it: margins, losses, and what the peers need"
    file = o.out/f'{planted}-{seed}.npz'
    if not file.exists():
        learn,seconds = trained(exp, o.data)
        life = learn.life
        folder = learn.dls.source if learn.dls.source.is_dir() else learn.dls.source.parent
        changed = {str(folder/p) for p in learn.dls.flipped_labels.path}
        table = table_of(learn)
        plain = exp.replace(flip_labels=0)
        rng = np.random.default_rng(seed)
        extra = trained(plain, with_extra_class(table, rng))[0].life.table
        extra = extra.set_index('path').loc[life.table.path]
        p,cv_seconds = cross_validated(plain, table, rng)
        np.savez(file, margins=life.margins, changed=life.table.path.isin(changed), p=p, seconds=seconds,
            labels=learn.dls.train.labels().numpy(), loss=learn.interpret('train').losses.numpy(),
            extra_aum=extra.aum, is_extra=extra.label=='extra class', cv_seconds=cv_seconds,
            aum=life.table.aum, confidence=life.table.confidence, accuracy=learn.history.train_acc.iloc[-1])
    return np.load(file)

def rule(named, changed):
    "Count the images that a rule names, with precision and recall"
    hits = (named & changed).sum()
    return dict(named=int(named.sum()), precision=float(hits/max(named.sum(), 1)), recall=float(hits/changed.sum()))

def judged(o, planted, seed):
    "Compare the ways to find wrong labels in one training set"
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    how = MEMORISE if o.memorise else {}
    choices = dict(seed=seed, flip_labels=planted, width=o.width, epochs=o.epochs, bs=o.bs)
    exp = EXPERIMENTS['quickstart'].replace(**choices, **how)
    f = files(o, exp, planted, seed)
    changed,labels,p = f['changed'],f['labels'],f['p']
    scores = dict(aum=f['aum'], loss=-f['loss'])
    for way in ('self_confidence','normalized_margin'):
        scores[f'cleanlab {way}'] = get_label_quality_scores(labels, p, method=way)
    k = changed.sum()
    area = {n: float(roc_auc_score(changed, -s)) for n,s in scores.items()}
    first = {n: float(changed[np.argsort(s, kind='stable')[:k]].mean()) for n,s in scores.items()}
    limit = np.percentile(f['extra_aum'][f['is_extra']], 99)
    extra = (f['extra_aum']<=limit) & ~f['is_extra']
    rules = dict(ours=rule(f['confidence']<SUSPECT, changed), extra_class=rule(extra, changed & ~f['is_extra']),
        cleanlab=rule(find_label_issues(labels, p), changed))
    return dict(area=area, precision=first, rules=rules, cost=float(f['cv_seconds']/f['seconds']))

def summed(found):
    "Compute medians and ranges over seeds"
    res = {k: {n: over(o[k][n] for o in found) for n in found[0][k]} for k in ('area','precision')}
    res['rules'] = {n: {k: statistics.fmean(o['rules'][n][k] for o in found) for k in ('named','precision','recall')}
        for n in found[0]['rules']}
    return res | dict(cost=over(o['cost'] for o in found))

def show(planted, r):
    print(f'{planted:.0%} of the labels changed')
    for n,a in r['area'].items():
        p = r['precision'][n]
        print(f"  {n:27} area {a['median']:.3f} ({a['low']:.3f} to {a['high']:.3f}), "
            f"precision {p['median']:.1%} ({p['low']:.1%} to {p['high']:.1%})")
    print(f"  {'chance':27} area 0.500, precision {planted:.1%}")
    for n,v in r['rules'].items():
        print(f"  rule {n:22} names {v['named']:,.0f}: precision {v['precision']:.1%}, recall {v['recall']:.1%}")
    print(f"  cross-validation costs {r['cost']['median']:.1f} times the run\n")

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--out', type=Path, required=True, help='folder for what was trained, to go on after a stop')
    p.add_argument('--data', default=str(fashion_sample()), help='folder of classes, or an archive')
    p.add_argument('--planted', type=float, nargs='+', default=[.05,.1], help='shares of labels to change')
    p.add_argument('--seeds', type=int, default=5, help='number of seeds')
    for k in ('width','epochs','bs'):
        default = getattr(EXPERIMENTS['quickstart'], k)
        p.add_argument(f'--{k}', type=int, default=default, help=f'{k} of the quickstart, by default {default}')
    p.add_argument('--memorise', action='store_true', help='train until all labels are known')
    p.add_argument('--name', help='name of the file of results')
    o = with_save(p).parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    numbers = {}
    for planted in o.planted:
        numbers[f'{planted:g}'] = summed([judged(o, planted, seed) for seed in range(1, o.seeds+1)])
        show(planted, numbers[f'{planted:g}'])
    keep(o.save, numbers, 'cleanlab', name=o.name)

if __name__=='__main__': main()
