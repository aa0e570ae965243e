"""What each choice of `layernorm-40-ws` is worth: undo it, train again, and compare with the full recipe image by
image.

All runs are shorter and narrower than the preset and use a fraction of the training images. The validation split and
the test set are complete. A line is one changed choice, or a norm with and without standardised weights. It gives the
difference in test accuracy, with the 95 % interval of McNemar's table, which judges two trained networks. With several
seeds, the mean and the range show the effect of the seed. Finished runs are not run again. In runs this short, the
learning rate hardly ever drops, and there's little time to overfit. `--long` instead judges what needs all forty
epochs.

    python benchmarks/ablation.py --data cifar10.tgz [--out runs/ablation] [--width 16] [--images 20000]
                                  [--epochs 10] [--ema 0.99] [--seeds 1] [--jobs 1]
    python benchmarks/ablation.py --data cifar10.tgz --long --out runs/long --images 15000 --epochs 40
"""
import argparse,statistics
from pathlib import Path

from keep import keep,with_save

from advtrain.runs.presets import EXPERIMENTS
from advtrain.runs.grid import name_after
from advtrain.runs.compare import compare_runs
from advtrain.stats import holm,p_words
from advtrain.data.sources import cifar10
from advtrain.launch.many import run_many

NORMS = 'layer','layer2d','group','batch','instance'
CHANGES = [*({'norm': n, 'weight_std': ws} for ws in (True,False) for n in NORMS),
    dict(weight_std=False, lr=.02), dict(pre_act=False), dict(pre_act=False, zero_init=True), dict(ema=None),
    dict(label_smoothing=0), dict(nesterov=False), dict(wd_norm_bias=True), dict(wd=1e-4), dict(warmup=0),
    dict(lr=.05), dict(lr=.2), dict(bs=64),
    dict(hole=8), dict(augs='crop_cutout'), dict(augs='flip_cutout'), dict(augs='none'), dict(last_stride=1)]
LONG = [dict(norm='batch'), dict(hole=8), dict(augs='flip_cutout'), dict(lr=.05), dict(wd=2e-3),
    dict(factor=5), dict(factor=10), dict(min_delta=.03), dict(patience=3, factor=10, min_delta=0)]

def experiments(base, changes, seeds):
    "Make the recipe and each change of it, for each seed, by the name of the change"
    res = {'the recipe': [base.replace(seed=s, name=f'recipe-seed-{s}') for s in seeds]}
    for o in changes:
        differs = {k: v for k,v in o.items() if getattr(base, k)!=v}
        if not differs: continue # same as the recipe
        res[', '.join(f"{k.replace('_', ' ')} {v}" for k,v in differs.items())] = [
            base.replace(**o, seed=s, name=name_after(base.replace(name='recipe'), o | {'seed': s})) for s in seeds]
    return res

def line(runs, recipes):
    "Collect the accuracies and differences of one change"
    pairs = [compare_runs([a, b]).pairs.iloc[0] for a,b in zip(recipes, runs)]
    return dict(
        test_accuracy=[o.metrics['test_accuracy'] for o in runs],
        watched_accuracy=[o.metrics['best_watched_accuracy'] for o in runs],
        seconds=[o.metrics['seconds'] for o in runs],
        difference=[float(o.difference) for o in pairs],
        low=[float(o.low) for o in pairs],
        high=[float(o.high) for o in pairs],
        p=[float(o.p) for o in pairs])

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
    base = EXPERIMENTS['layernorm-40-ws'].replace(width=o.width, fraction=o.images/45000, epochs=o.epochs, ema=o.ema,
        flip_tta=False, n_images=2)
    wanted = experiments(base, LONG if o.long else CHANGES, range(1, o.seeds+1))
    runs = {r.experiment.name: r for r in run_many(
        [e for es in wanted.values() for e in es], cifar10(o.data), o.out, jobs=o.jobs)}
    if missing := [e.name for es in wanted.values() for e in es if e.name not in runs]:
        raise SystemExit(f"not finished: {', '.join(missing)}; {o.out}/index.html shows why")
    found = {name: [runs[e.name] for e in es] for name,es in wanted.items()}
    recipes = found.pop('the recipe')
    lines = {name: line(rs, recipes) for name,rs in found.items()}
    if o.seeds==1:
        for r,p_holm in zip(lines.values(), holm([r['p'][0] for r in lines.values()])): r['p_holm'] = float(p_holm)
    mean = statistics.fmean
    print(f"the recipe: {mean(r.metrics['test_accuracy'] for r in recipes):.2%} "
          f"of {recipes[0].metrics['test_images']:,} test images")
    for name,r in sorted(lines.items(), key=lambda x: mean(x[1]['difference'])):
        sure = (
            f"95 % interval {100*r['low'][0]:+.2f} to {100*r['high'][0]:+.2f}, "
            f"p {p_words(r['p_holm'])} with Holm's correction"
            if o.seeds==1 else
            f"{100*min(r['difference']):+.2f} to {100*max(r['difference']):+.2f} in {o.seeds} seeds")
        print(f"{name:40} {mean(r['test_accuracy']):.2%}, {100*mean(r['difference']):+.2f} points ({sure})")
    numbers = dict(
        recipe=dict(
            test_accuracy=[r.metrics['test_accuracy'] for r in recipes],
            watched_accuracy=[r.metrics['best_watched_accuracy'] for r in recipes],
            choices=recipes[0].experiment.to_toml()),
        lines=lines,
        test_images=recipes[0].metrics['test_images'],
        train_images=recipes[0].metrics['train_images'],
        width=o.width,
        epochs=o.epochs,
        ema=o.ema,
        data=Path(recipes[0].environment['data']['name']).name)
    keep(o.save, numbers, 'fastai', name='ablation_long' if o.long else 'ablation')

if __name__=='__main__': main()
