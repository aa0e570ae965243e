"""What each choice of `layernorm-40-ws` is worth: undo it, train again, and compare with the full recipe image by
image.

All runs are shorter and narrower than the preset and use a fraction of the training images. The validation split and
the test set are complete. A line is one changed choice, or a norm with and without standardised weights. It gives the
difference in test accuracy. With one seed, the 95 % interval is that of McNemar's table, which judges two trained
networks. With several seeds, it's that of `ablate`, which judges the choice. Finished runs are not run again. In runs
this short, the learning rate hardly ever drops, and there's little time to overfit. `--long` instead judges what needs
all forty epochs.

    python benchmarks/ablation.py --data cifar10.tgz [--out runs/ablation] [--width 16] [--images 20000]
                                  [--epochs 10] [--ema 0.99] [--seeds 1] [--jobs 1]
    python benchmarks/ablation.py --data cifar10.tgz --long --out runs/long --images 15000 --epochs 40
"""
import argparse
from pathlib import Path
from statistics import fmean

from keep import keep,with_save

from advtrain.runs.presets import EXPERIMENTS
from advtrain.runs.compare import compare_runs
from advtrain.runs.run import Run
from advtrain.stats import holm,p_words
from advtrain.data.sources import cifar10
from advtrain.runs.changes import RECIPE
from advtrain.launch.many import ablate

NORMS = 'layer','layer2d','group','batch','instance'
CHANGES = [*({'norm': n, 'weight_std': ws} for ws in (True,False) for n in NORMS),
    dict(weight_std=False, lr=.02), dict(pre_act=False), dict(pre_act=False, zero_init=True), dict(ema=None),
    dict(label_smoothing=0), dict(nesterov=False), dict(wd_norm_bias=True), dict(wd=1e-4), dict(warmup=0),
    dict(lr=.05), dict(lr=.2), dict(bs=64),
    dict(hole=8), dict(augs='crop_cutout'), dict(augs='flip_cutout'), dict(augs='none'), dict(last_stride=1)]
LONG = [dict(norm='batch'), dict(hole=8), dict(augs='flip_cutout'), dict(lr=.05), dict(wd=2e-3),
    dict(factor=5), dict(factor=10), dict(min_delta=.03), dict(patience=3, factor=10, min_delta=0)]

def line(pairs, effect):
    "Collect the accuracies and differences of one change"
    runs = [b for _,b in pairs]
    tested = [compare_runs([a.folder, b.folder]).pairs.iloc[0] for a,b in pairs]
    res = {k: [float(o[k]) for o in tested] for k in ('difference','low','high','p')}
    res |= dict(
        test_accuracy=[o.metrics['test_accuracy'] for o in runs],
        watched_accuracy=[o.watched_accuracy for o in runs],
        seconds=[o.metrics['seconds'] for o in runs])
    if len(pairs)>1: res['over_seeds'] = {k: effect[k] for k in ('difference','low','high','p_holm')}
    return res

def numbers_of(effects):
    "Gather what is kept: the recipe, and a line for each change"
    by_change = {b: [(x[0],y[0]) for x,y in pairs] for (_,b),pairs in effects.pairs.items()}
    lines = {r['b']: line(by_change[r['b']], r) for r in effects.table.to_dict('records')}
    if all(len(o['p'])==1 for o in lines.values()):
        for r,p_holm in zip(lines.values(), holm([r['p'][0] for r in lines.values()])): r['p_holm'] = float(p_holm)
    recipes = effects.values[RECIPE]
    first = Run(recipes[0].folder)
    recipe = dict(
        test_accuracy=[o.metrics['test_accuracy'] for o in recipes],
        watched_accuracy=[o.watched_accuracy for o in recipes],
        choices=first.experiment.to_toml())
    return dict(recipe=recipe, lines=lines, test_images=first.metrics['test_images'],
        train_images=first.metrics['train_images'], data=Path(first.environment['data']['name']).name)

def show(numbers):
    "Print the changes, the best first"
    recipe,lines = numbers['recipe'],numbers['lines']
    print(f"the recipe: {fmean(recipe['test_accuracy']):.2%} of {numbers['test_images']:,} test images")
    for name,r in sorted(lines.items(), key=lambda x: -fmean(x[1]['difference'])):
        over = r.get('over_seeds') or dict(low=r['low'][0], high=r['high'][0], p_holm=r.get('p_holm'))
        interval = f"95 % interval {100*over['low']:+.2f} to {100*over['high']:+.2f}"
        said = f"{interval}, p {p_words(over['p_holm'])} with Holm's correction"
        print(f"{name:40} {fmean(r['test_accuracy']):.2%}, {100*fmean(r['difference']):+.2f} points ({said})")

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--data', help='folder or archive of CIFAR-10')
    p.add_argument('--out', default='runs/ablation', help='folder for the runs')
    p.add_argument('--width', type=int, default=16, help='channels of the first stage')
    p.add_argument('--images', type=int, default=20000, help='number of training images')
    p.add_argument('--epochs', type=int, default=10, help='epochs of each run')
    p.add_argument('--ema', type=float, default=.99,
        help='decay of the averaged weights, for fewer steps than in the preset')
    p.add_argument('--seeds', type=int, default=1, help='number of seeds')
    p.add_argument('--jobs', type=int, default=1, help='number of runs at once')
    p.add_argument('--long', action='store_true', help='test the changes that need all forty epochs instead')
    o = with_save(p).parse_args()
    base = EXPERIMENTS['layernorm-40-ws'].replace(name='recipe', width=o.width, fraction=o.images/45000,
        epochs=o.epochs, ema=o.ema, flip_tta=False, n_images=2, seed=1)
    effects = ablate(base, LONG if o.long else CHANGES, cifar10(o.data), o.out, o.seeds, jobs=o.jobs)
    if effects.left_out: raise SystemExit(f'left out: {effects.left_out}; {o.out}/index.html shows why')
    if o.seeds>1: print(effects)
    numbers = numbers_of(effects) | dict(width=o.width, epochs=o.epochs, ema=o.ema)
    show(numbers)
    keep(o.save, numbers, 'fastai', name='ablation_long' if o.long else 'ablation')

if __name__=='__main__': main()
