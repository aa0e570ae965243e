"""What single choices do to `quickstart` on the Fashion-MNIST sample, and how networks of torchvision and timm do with
three norms.

A line compares the same recipe without and with one choice, over the same seeds. The sample has 1,800 training, 200
validation and 500 test images, and runs are short, so this shows what a choice does there, not what it's worth on your
data. Finished runs are not run again.

    python benchmarks/choices.py [--out runs/choices] [--seeds 3] [--jobs 1] [--save]
"""
import argparse,statistics

from keep import keep,with_save

from advtrain.data.sources import fashion_sample
from advtrain.launch.many import run_many
from advtrain.runs.presets import EXPERIMENTS

CROP = dict(augs='crop_cutout')
LONGER = dict(epochs=18)
SHUFFLE = dict(arch='torchvision/shufflenet_v2_x0_5', epochs=3)
LINES = [ # choices on both sides, the choice
    ({}, dict(mix='mixup')), ({}, dict(mix='cutmix')),
    ({}, dict(augs='trivial', hole=None)), ({}, dict(augs='rand', hole=None)),
    (CROP, dict(border='reflect')),
    ({}, dict(class_weights='balanced')), ({}, dict(flip_labels=.1)),
    (LONGER, dict(stop_after=4)),
    (SHUFFLE, dict(stem='original')), (SHUFFLE, dict(weight_std=False))]
NETWORKS = 'resnet18','torchvision/shufflenet_v2_x0_5','timm/mobilenetv3_small_050','timm/test_convnext'
NORMS = 'layer','group','batch'
NETWORK_SEEDS = 1,2

def words(choices): return ', '.join(f'{k}={v!r}' for k,v in choices.items() if v is not None)

def with_seeds(choices, seeds):
    "Make the experiments of some choices"
    name = words(choices).replace('/', '_').replace("'", '') or 'quickstart'
    base = EXPERIMENTS['quickstart'].replace(**choices, n_images=2)
    return [base.replace(seed=s, name=f'{name}, seed {s}') for s in seeds]

def accuracies(runs, experiments): return [runs[o.name].metrics['test_accuracy'] for o in experiments]

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--out', default='runs/choices', help='folder for the runs')
    p.add_argument('--seeds', type=int, default=3, help='number of seeds')
    p.add_argument('--jobs', type=int, default=1, help='number of runs at once')
    o = with_save(p).parse_args()
    seeds = range(1, o.seeds+1)
    lines = [(both, choice, with_seeds(both, seeds), with_seeds(both | choice, seeds)) for both,choice in LINES]
    nets = {(a,n): with_seeds(dict(arch=a, norm=n, epochs=3), NETWORK_SEEDS) for a in NETWORKS for n in NORMS}
    wanted = [e for *_,a,b in lines for e in (*a,*b)] + [e for es in nets.values() for e in es]
    wanted = list({e.name: e for e in wanted}.values())
    runs = {r.experiment.name: r for r in run_many(wanted, fashion_sample(), o.out, jobs=o.jobs)}
    if missing := [e.name for e in wanted if e.name not in runs]:
        raise SystemExit(f"not finished: {'; '.join(missing)}; {o.out}/index.html shows why")
    numbers = dict(
        seeds=o.seeds,
        lines=[dict(both=words(both), choice=words(choice), without=accuracies(runs, a), with_it=accuracies(runs, b),
                    epochs=[runs[e.name].metrics['epochs'] for e in b])
               for both,choice,a,b in lines],
        networks=[dict(arch=a, norm=n, accuracy=accuracies(runs, es), parameters=runs[es[0].name].metrics['parameters'],
                       seconds=[runs[e.name].metrics['seconds'] for e in es])
                  for (a,n),es in nets.items()],
        test_images=next(iter(runs.values())).metrics['test_images'])
    for r in numbers['lines']:
        means = [f'{statistics.fmean(r[k]):.1%}' for k in ('without','with_it')]
        print(f"{r['choice']:30} {' -> '.join(means)} ({r['both']})")
    for r in numbers['networks']: print(f"{r['arch']:32} {r['norm']:6} {statistics.fmean(r['accuracy']):.1%}")
    keep(o.save, numbers, 'torchvision', 'timm', 'fastai')

if __name__=='__main__': main()
