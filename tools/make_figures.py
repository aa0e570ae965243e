#!/usr/bin/env python3
"""Make the tables of measured results from the files in `benchmarks/results/`: `make figures`.

`benchmarks/README.md` gets all results. `nbs/index.ipynb` gets six, and `make readme` copies them into the README. A
result without a file is "not measured".
"""
import csv,json,statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT/'benchmarks/results'
INDEX = ROOT/'nbs/index.ipynb'
ALL = ROOT/'benchmarks/README.md'
GUIDE = ROOT/'nbs/docs/guide.md'
REFERENCE = 'reference_layernorm40.csv' # in RESULTS

def read(name):
    "A file of results; `None` if it doesn't exist"
    file = RESULTS/name
    return json.loads(file.read_text(encoding='utf-8')) if file.is_file() else None

def times(r, digits=1, peer=''):
    "A ratio over some rounds, in words"
    return (f"{r['median']:.{digits}f} times as fast{peer and f' as {peer}'} "
            f"({r['low']:.{digits}f} to {r['high']:.{digits}f} in {r['n']} rounds)")

def percent(v): return f'{100*v:.1f} %'

def code(text): return f'`{text}`' if text else ''

DATA = { # name of a run's data, with its digest -> what it is
    'fashion_sample-7028e603': 'of the Fashion-MNIST sample',
    'cifar10-b215d45e': 'of CIFAR-10 as JPEG files, quality 75',
}

def images(n, data): return f'{n:,} images {DATA.get(data, data)}'

def of_step(r):
    ratios,memory = r['numbers']['ratios'],r['numbers']['ratios']['bare']['memory']
    yield ("`learn.fit` of a ResNet-18 with LayerNorm, batches of 128, against fastai's defaults",
           times(ratios['fastai']['speed']))
    yield ('the same against a bare PyTorch loop with the same precision, layout, optimiser and augmentation',
           f"{times(ratios['bare']['speed'], 2)}, with {memory[0]:.2f} times the memory")

def of_pipeline(r):
    speeds,ratios = r['numbers']['images_per_second'],r['numbers']['ratios']
    yield ('augmented batches of CIFAR-10 (crop, flip, rotation, cutout, normalisation) from images decoded once, '
           'on one core, against fastai with the usual albumentations transform, which decodes each time',
           f"{times(ratios['fast / fastai with 0 workers'], 0)}: {speeds['advtrain, fast']['median']:,.0f} images/s")
    yield ('the same against the best of three peers with two workers',
           times(ratios['fast / best of the others with 2 workers']))

def of_transforms(r):
    n = r['numbers']
    presets = [f"at {size} pixels " + ', '.join(
        f"{o.removeprefix('preset ')} {v['ratio']['median']:.1f}" for o,v in of.items() if o.startswith('preset '))
        for size,of in n['sizes'].items()]
    below = [f"at {size} pixels {', '.join(names)}" for size,names in n['below'].items() if names]
    rounds = next(iter(n['sizes']['32'].values()))['ratio']['n']
    yield ('batches of 128 decoded images augmented at once, on one core, against albumentations image by image',
           f"times as fast, median of {rounds} rounds: {'; '.join(presets)}. Below 2: {'; '.join(below) or 'nothing'}")

def of_gradcam(r):
    for what,k in (('heat maps of 20 images at 4 layers, ResNet-18, fp32','four_layers'),
                   ('heat maps of 1,000 images at one layer','one_layer')):
        ratios = r['numbers'][k]['ratios']
        yield what,', '.join(
            times(ratios[f'advtrain, fp32 / {o}'], 1 if o=='pytorch-grad-cam' else 2, o)
            for o in ('pytorch-grad-cam','torch-cam'))
    peaks = r['numbers']['peak_MB']
    memory = ', '.join(f'{name} {v["1000"]:,.0f} MB' for name,v in peaks.items())
    yield 'peak memory for those 1,000 images, in batches of 128',memory

def of_interpret(r):
    n = r['numbers']
    yield ('confusion matrix, most confused, report, top losses and misclassified images of '
           f"{n['images']:,} predictions, against fastai",
           f"{times(n['ratio'])}, {'the same answers' if n['same_answers'] else 'other answers'}")

def of_report(r):
    n = r['numbers']
    yield (f"the page of a run with {n['predictions']:,} test predictions, {n['misclassified']:,} of them wrong",
           f"written in {n['write_report_s']['median']:.0f} s from the run's folder "
           f"(a run takes {n['inference_s']['median']:.0f} s for inference, and then "
           f"{n['after_training_beyond_inference_s']:.0f} s for its figures, files and page); "
           f"{n['page_MB']:.1f} MB; "
           f"{'opens in {median:.1f} s'.format(**n['opens_s']) if n['opens_s'] else 'opening it: not measured'}")

def of_memory(r):
    n = r['numbers']
    first,again = [v['seconds'] for v in list(n['steps'].values())[:2]]
    yield (f"decoding {n['images']:,} images of CIFAR-10 at the first start, and mapping them at the next",
           f"{first:.2g} s and {again:.2g} s; an array of {n['array_MB']:.0f} MB")

def of_scaling(r):
    n = r['numbers']
    ratio = n['two_processes_against_one']
    yield ('a step of two processes on two cores against one process',
           f"{ratio['median']:.2f} times as long ({ratio['low']:.2f} to {ratio['high']:.2f}); "
           f"[the model](../nbs/docs/scaling.md) says {n['model']:.2f}")

def of_ablation(r):
    n = r['numbers']
    lines = sorted((statistics.fmean(v['difference']), k) for k,v in n['lines'].items())
    gained = [o for o in lines[:-4:-1] if o[0]>0]
    worst,best = ('; '.join(f'{name}: {100*v:+.1f}' for v,name in o) for o in (lines[:3], gained))
    seeds = len(n['recipe']['test_accuracy'])
    yield ('changes to `layernorm-40-ws` that cost or gained most, in points of test accuracy '
           f"(width {n['width']}, {n['epochs']} epochs, `ema` {n['ema']}, {images(n['train_images'], n['data'])}, "
           f"{seeds} seed{'s'*(seeds>1)})",
           f'cost: {worst}; gained: {best}')

def of_forty(r):
    "The accuracy of the runs of `forty.py` on the images that they watched, the recipe first"
    n = r['numbers']
    size = (f"width {n['width']}, {n['epochs']} epochs, patience {n['patience']}, `min_delta` {n['min_delta']:g}, "
        f"`ema` {n['ema']:.3f}")
    first,*rest = n['lines'].items()
    def _told(name, o):
        short = name.removeprefix(first[0]).strip('-') or name
        watched = '' if o['watched']=='valid' else ' of the test images, which it watched'
        d = o.get('against_recipe')
        compared = f" ({of_difference(d)} on the test images)" if d else ''
        return f"{short} {percent(o['best_watched_accuracy'])}{watched}{compared}"
    yield (f"`{first[0]}` and changes to it, {size}, {images(first[1]['train_images'], n['data'])}, one seed each: "
           'accuracy on 5,000 validation images',
           f"{percent(first[1]['best_watched_accuracy'])}; {'; '.join(_told(*o) for o in rest)}")

def of_difference(d): return f"{100*d['difference']:+.1f} points, {100*d['low']:+.1f} to {100*d['high']:+.1f}"

def of_dynamics(r):
    "How training went in the runs that `dynamics.py` measured"
    for name,run in r['numbers'].items():
        *rows,last = run['rows']
        halves = rows[:len(rows)//2],rows[len(rows)//2:]
        def _mean(of, key): return statistics.fmean(sum(o[key].values()) for o in of)
        scales = [_mean(o, 'noise')/_mean(o, 'gradient') for o in halves]
        steps = [statistics.median(v for o in half for v in o['relative_step'].values()) for half in halves]
        curvatures = [statistics.fmean(o['step_lr']*o['curvature'] for o in half) for half in halves]
        choices = run['choices']
        yield (f"`{name}` (width {choices['width']}, {choices['epochs']} epochs, learning rate {choices['lr']:g}), "
            'measured at its checkpoints, in the first and in the second half of the epochs',
            f"gradient noise scale {scales[0]:,.0f} and {scales[1]:,.0f} images; a step moves the weights of a "
            f"convolution by {100*steps[0]:.2g} and {100*steps[1]:.2g} %; rate times curvature {curvatures[0]:.2f} and "
            f"{curvatures[1]:.2f}; after {last['epoch']} epochs "
            f"{percent(last['clean_train_acc'])} of the training images without augmentation and "
            f"{percent(last['valid_acc'])} of the validation images")

def of_same_training(r):
    n = r['numbers']
    means = ' and '.join(
        f'{percent(statistics.fmean(v))} ± {100*statistics.stdev(v):.1f}'
        for v in (n['accuracies'][o] for o in ('fast path','item by item')))
    yield ("the same training, augmented by batch and by image: accuracy on the sample's validation images",
           f"{means}, mean ± standard deviation of {len(n['accuracies']['fast path'])} seeds; "
           f"Welch's t-test: p = {n['p']:.2f}")

SOURCES = dict(files='a folder of files', parquet='Parquet', webdataset='tar shards') # kinds of `growth.py`
LIBRARIES = dict(fastai='fastai', torchvision='torchvision', webdataset='WebDataset', huggingface='`datasets`')

def median(of, key, unit='', digits=0):
    "The median of a quantity with its unit; empty if it wasn't measured"
    return f"{of[key]['median']:,.{digits}f}{unit}" if key in of else ''

def of_set(kind, n, found):
    "What `growth.py` measured of one data set"
    ours = found['advtrain']
    peers = {name: found[k] for k,name in LIBRARIES.items() if k in found}
    def _peers(key, unit, digits=0):
        told = [f'{name} {o}' for name,v in peers.items() if (o := median(v, key, unit, digits))]
        return f"; {', '.join(told)}" if told else ''
    if 'first_start_to_decoder' in ours:
        yield (f'first start on {n:,} made images of 32 pixels in 1,000 classes, as {SOURCES[kind]}',
               f"{median(ours, 'first_start_s', ' s')}: {median(ours, 'first_start_to_decoder', digits=2)} times the "
               'speed of Pillow alone over all cores')
    yield ('the second start, to the first batch',
           median(ours, 'second_to_batch_s', ' s', 1)+_peers('second_to_batch_s', ' s', 1))
    yield ('resident memory of training, with worker processes',
           median(ours, 'loading_MB', ' MB')+_peers('loading_MB', ' MB'))
    share = median(ours, 'images_per_s_to_reference', ' times that on 60,000 images', 2)
    yield ('speed of the training loader; peers decode in each epoch and augment less',
           median(ours, 'images_per_s', ' images/s')+(share and f', {share}')+_peers('images_per_s', ' images/s'))

def of_limit(kind, n, free, limited):
    "What training with little memory took"
    speeds = [o['loading']['images_per_s'] for o in (limited,free)]
    return (f"training loader on {n:,} images ({limited['map_MB']:,.0f} MB decoded) with {limited['limit_GB']:g} GB of "
            f'memory, {SOURCES[kind]}', f"{speeds[0]:,.0f} images/s; {speeds[1]:,.0f} without a limit")

def of_look(n, r):
    "What interpretation and page of many predictions took"
    opens = f"opens in {r['opens_s']['median']:.1f} s" if isinstance(r['opens_s'], dict) else "didn't open in time"
    return (f"{r['predictions']:,} predictions with 1,000 classes: five questions, and the page from the run's folder",
            f"{sum(r['questions_s'].values()):.1f} s; {r['write_report_s']:.0f} s, {r['page_MB']:.1f} MB, {opens}; "
            f"at most {r['peak_MB']:,.0f} MB of memory")

def of_growth(r):
    numbers = r['numbers']
    for kind,sets in numbers['sets'].items():
        n,found = max(((int(n), o) for n,o in sets.items() if 'advtrain' in o), default=(0, None))
        if found: yield from of_set(kind, n, found)
    for kind,sets in numbers.get('with_limit', {}).items():
        for n,o in sets.items(): yield of_limit(kind, int(n), numbers['without_limit'][kind][n], o)
    for kind,sets in numbers.get('killed', {}).items():
        for n,o in sets.items():
            yield (f'the first start on {int(n):,} images, killed {o["kills"]} times, {SOURCES[kind]}',
                   f"{o['lost']} blocks lost, {o['different']} of {o['compared']:,} images differ")
    looked = [(int(n), o) for sets in numbers.get('look', {}).values() for n,o in sets.items()]
    if looked: yield of_look(*max(looked, key=lambda o: o[0]))
    if (RESULTS/'growth.png').is_file():
        yield 'starts, memory and speed over the number of images','[picture](results/growth.png)'

def of_order(r):
    n = r['numbers']
    full,*blocks = n['lines']
    told = '; '.join(
        f"blocks of {o['rows']} images: {100*statistics.fmean(o['difference']):+.1f} "
        f"({100*min(o['difference']):+.1f} to {100*max(o['difference']):+.1f})" for o in blocks)
    recipe = f"width {n['width']}, {n['epochs']} epochs, {len(full['accuracy'])} seeds, in points"
    yield ('validation accuracy if CIFAR-10, listed class by class, is shuffled in blocks: '
           f"a group has {n['group']:.0%} of the images; {recipe}",
           f"all images shuffled: {percent(statistics.fmean(full['accuracy']))}; {told}")

def of_verdicts(r):
    n = r['numbers']
    seeds = list(dict.fromkeys(o['seeds'] for o in n['lines']))
    wrong = ', '.join(f"{o['significant']:.1%}" for o in n['lines'] if not o['effect'])
    covered = [o['covered'] for o in n['lines']]
    ratios = [o['halved_ratio'] for o in n['lines']]
    yield (f"verdicts on {n['grids']:,} simulated grids of two values, with {', '.join(map(str, seeds))} seeds",
           f"wrong verdicts without an effect {wrong}; the interval has the truth in {min(covered):.1%} to "
           f"{max(covered):.1%}, with effects of 0 to 2 standard deviations; "
           f"the forecast of seeds that halve it is off by a factor of at most {max(ratios):.2f} in the median")

def of_area(n, score):
    "An area under the ROC curve, with its range"
    r = n['area'][score]
    return f"{r['median']:.3f}" + (f" ({r['low']:.3f} to {r['high']:.3f})" if r['n']>1 else '')

def of_suspects(r):
    for share,n in r['numbers'].items():
        area,k = n['area'],n['area']['aum']['n']
        cleanlab = max((o for o in area if o.startswith('cleanlab')), key=lambda o: area[o]['median'])
        precision = {o: percent(n['precision'][o]['median']) for o in ('aum','loss',cleanlab)}
        ours,extra = n['rules']['ours'],n['rules']['extra_class']
        data = 'CIFAR-10 as JPEG files, quality 75' if 'cifar10' in r['command'] else 'the Fashion-MNIST sample'
        known = ', in a training that memorises all labels' if '--memorise' in r['command'] else ''
        yield (f"finding {float(share):.0%} wrong labels among the training images of {data}, planted with "
            f"{k} {'seed' if k==1 else 'seeds'}{known}",
            f"area under the ROC curve {of_area(n, 'aum')} from the margins of the run; {of_area(n, 'loss')} from "
            f"its final losses; {of_area(n, cleanlab)} with cleanlab and five-fold cross-validation, which costs "
            f"{n['cost']['median']:.1f} times the run; chance 0.5. Precision and recall of as many images as labels: "
            f"{precision['aum']}, {precision['loss']}, {precision[cleanlab]}; chance {float(share):.0%}. "
            f"`life.suspects()` names {ours['named']:,.0f}, precision {percent(ours['precision'])}, recall "
            f"{percent(ours['recall'])}; the extra class of Pleiss et al. {extra['named']:,.0f}, "
            f"{percent(extra['precision'])} and {percent(extra['recall'])}")

def of_life(r):
    n = r['numbers']
    yield (f"an epoch that records the life of each image, ResNet-18 of width {n['width']}, batches of {n['bs']}, "
        'against one that does not', f"{n['ratio']['median']:.3f} times as long ({n['ratio']['low']:.3f} to "
        f"{n['ratio']['high']:.3f} in {n['ratio']['n']} rounds), {100*n['share']['median']:.2f} % of its time "
        f"spent on it, {n['bytes']:.1f} bytes per image and epoch")

MAPS = { # kinds of pairs in `elsewhere.py` -> what differs
    'rounding, same seed': 'rounding',
    'another seed': 'seed',
    'norm batch, same seed': 'norm',
    'norm batch, another seed': 'norm and seed',
    'augs none, same seed': 'no augmentation',
    'augs none, another seed': 'no augmentation, and seed',
    'augs crop_flip_cutout, same seed': 'crops',
    'augs crop_flip_cutout, another seed': 'crops, and seed',
    'different images': 'nothing, but the maps are of other images of the class',
}

def of_elsewhere(r):
    n = r['numbers']
    words = dict(rank='rank correlation', top='overlap of the top fifth of the pixels')
    seeds = len(n['accuracy']['base'])
    for measure,of in n['measures'].items():
        values = '; '.join(f"{what} {of['similarity'][k]['mean']:.2f} ({of['similarity'][k]['low']:.2f} to "
            f"{of['similarity'][k]['high']:.2f})" for k,what in MAPS.items())
        yield (f'{words[measure]} of the last heat maps of two runs, `quickstart`, {seeds} seeds, median over '
            f"{n['images']} test images: what differs between the runs",
            f"{values}. Mean gap between rounding, norm and seed: {of['mean_gap']:.1f} standard deviations")

def of_film(r):
    n = r['numbers']
    data = 'CIFAR-10 as JPEG files, quality 75' if 'cifar10' in r['command'] else 'the quickstart'
    yield (f"the film of a run, {n['frames']} frames of {n['images']} images in {n['epochs']} epochs of {data}",
        f"{percent(n['share'])} of the training (the live page {percent(n['live_share'])}), a file of "
        f"{n['film_bytes']/1e6:.2f} MB, a page of {n['page_bytes']/1e6:.1f} MB")

def of_interval(r, digits=2): return f"{r['mean']:.{digits}f} ({r['low']:.{digits}f} to {r['high']:.{digits}f})"

def of_settle(r):
    n = r['numbers']
    yield (f"when heat maps settle, {n['right']['n']} seeds of the quickstart with 40 epochs, filmed after each epoch",
        f"half of the {n['n_right']+n['n_wrong']:,} maps by epoch {n['settled']['0.5']:.0f}, three quarters by epoch "
        f"{n['settled']['0.75']:.0f}; those of images that are right in the end at epoch {of_interval(n['right'], 1)} "
        f"on average, of wrong ones at {of_interval(n['wrong'], 1)}, "
        f"{n['wrong_later']['difference']:.1f} epochs later ({n['wrong_later']['low']:.1f} to "
        f"{n['wrong_later']['high']:.1f}). Rank correlation with the epoch before: {of_interval(n['before_drop'])} in "
        f"the three epochs before the learning rate first drops, {of_interval(n['at_drop'])} at the drop, "
        f"{of_interval(n['after_drop'])} in the three after it; maps of different images {n['others']:.2f}")

SCRIPTS = dict(
    step=of_step,
    pipeline=of_pipeline,
    transforms=of_transforms,
    gradcam=of_gradcam,
    interpret=of_interpret,
    report=of_report,
    memory=of_memory,
    scaling=of_scaling,
    same_training=of_same_training,
    ablation=of_ablation,
    ablation_long=of_ablation,
    forty=of_forty,
    forty_proxy=of_forty,
    dynamics=of_dynamics,
    dynamics_full=of_dynamics,
    dynamics_half_rate=of_dynamics,
    growth=of_growth,
    order=of_order,
    verdicts=of_verdicts,
    suspects=of_suspects,
    suspects_cifar=of_suspects,
    suspects_memorised=of_suspects,
    life=of_life,
    life_small=of_life,
    film_cost=of_film,
    film_cost_cifar=of_film,
    film_settle=of_settle,
    elsewhere=of_elsewhere)

def duration(seconds):
    "A time in seconds, minutes or hours"
    if seconds<100: return f'{seconds:.0f} s'
    return f'{seconds/60:.1f} min' if seconds<6000 else f'{seconds/3600:.1f} h'

def of_run(folder):
    "What a kept run reached"
    m,about = json.loads((folder/'metrics.json').read_text()),json.loads((folder/'about.json').read_text())
    chosen = ('the test set, as the references did' if m['watched']=='test' else
        f"{m['valid_images']:,} validation images")
    flip = (f"; {percent(m['test_accuracy_flip'])} averaged with their mirror images"
        if 'test_accuracy_flip' in m else '')
    trained = duration(m['seconds'])
    where = about.get('gpu') or ('1 thread' if about['threads']==1 else f"{about['threads']} threads")
    what = f"`{folder.name}`: {m['epochs']} epochs on {images(m['train_images'], about['data'])}, one seed"
    return what,(f"**{percent(m['test_accuracy'])}** of {m['test_images']:,} test images{flip}; "
        f"epoch {m['best_epoch']}, chosen on {chosen}; {trained} of training on {where}")

def best_of_reference():
    "Accuracy and number of the best epoch in a solution's log"
    rows = csv.DictReader((RESULTS/REFERENCE).read_text(encoding='utf-8').splitlines())
    best = max(rows, key=lambda o: int(o['test_correct']))
    return percent(int(best['test_correct'])/10000),best['epoch']

def of_reference():
    "The best epoch of a solution's log"
    accuracy,epoch = best_of_reference()
    return ('for comparison, the log of a solution of the same exercise: LayerNorm, 40 epochs on CIFAR-10',
        f'{accuracy} of 10,000 test images; epoch {epoch}, chosen on the test set')

ON_GPU = { # part of `gpu.py` -> its figures that the table has
    'step': ['learn.fit / bare loop, batch 128', "learn.fit / fastai's defaults"],
    'whole_run': ['40 epochs and the page', 'test accuracy'],
    'maps': ['heat maps, four layers: advtrain, fp32 / pytorch-grad-cam'],
}

def on_gpu():
    "What, result and file of each figure that `gpu.py` saved"
    for part,labels in ON_GPU.items():
        file = f'gpu/{part}.json'
        figures = (read(file) or {}).get('figures', {})
        for label in labels:
            if label in figures: yield f'on a GPU, {label}',figures[label],file

def kept(name):
    "The files of a script, named as `keep` names them: processors with bf16 first"
    return [f'{name}{kind}.json' for kind in ('','-avx512','-avx2','-default')]

def kind(machine):
    "The kind of processor, in a word: its numbers differ from those of another kind"
    return machine.get('gpu') or machine['instructions']

def rows():
    "What, result, kind of processor, command, file"
    for folder in sorted((RESULTS/'runs').glob('*/')):
        about = json.loads((folder/'about.json').read_text())
        yield *of_run(folder),kind(about),about['command'],f'runs/{folder.name}/metrics.json'
    if (RESULTS/REFERENCE).is_file(): yield *of_reference(),'','',REFERENCE
    for name,tell in SCRIPTS.items():
        for file in kept(name):
            r = read(file)
            for what,result in tell(r) if r else []: yield what,result,kind(r['machine']),r['command'],file
    for what,result,file in on_gpu(): yield what,result,kind(read(file)['machine']),read(file)['command'],file

GOALS = { # runs that the table names even if they have no file: name -> what it is
    'layernorm-40-ws': 'LayerNorm and standardised weights, 40 epochs on CIFAR-10',
    'layernorm-40-best': 'the recipe of `layernorm-40-ws` without standardised weights, at a lower learning rate, '
        '40 epochs on CIFAR-10',
    'layernorm-40': "the settings of a solution (`layernorm-40`), 40 epochs on CIFAR-10",
}

def table():
    "All results, as Markdown"
    lines = ['| what | result | processor | command | file |','|---|---|---|---|---|']
    lines += [
        f'| {what} | {result} | {processor} | {code(command)} | [{Path(file).name}](results/{file}) |'
        for what,result,processor,command,file in rows()]
    lines += [
        f'| {what} | not measured | | `advtrain_run {name}` | |'
        for name,what in GOALS.items() if not (RESULTS/'runs'/name).is_dir()]
    if not any('gpu' in o['machine'] for o in files()): lines.append('| anything on a GPU | not measured | | | |')
    return '\n'.join(lines)

def files():
    "The results of all scripts"
    names = [file for o in SCRIPTS for file in kept(o)] + [f'gpu/{part}.json' for part in ON_GPU]
    return [r for file in names if (r := read(file))]

def machine():
    "A sentence about the machine and the versions"
    about = [
        f"{o['cores']} cores of {o['cpu']}{', '+o['gpu'] if 'gpu' in o else ' without a GPU'}"
        for o in (r['machine'] for r in files())]
    return (f"Measured on {'; '.join(sorted(set(about)))}, shared with other jobs; "
            f"PyTorch {', '.join(sorted({r['versions']['torch'] for r in files()}))}.")

def value(file, *keys):
    "A number in a file of results; `None` if the file doesn't exist"
    found = (read(file) or {}).get('numbers')
    for key in keys: found = found[key] if found else None
    return found

def both(file, unit, keys, ours, peer):
    "Our median and the peer's, with their unit"
    pair = [value(file, *keys, o, 'median') for o in (ours,peer)]
    return [f'{o:,.0f} {unit}' if o else 'not measured' for o in pair]

def ratio(file, *keys, digits=1):
    "A median ratio, as `2.9×`; empty if it wasn't measured"
    found = value(file, *keys, 'median')
    return f'{found:.{digits}f}×' if found else ''

def accuracy_rows():
    "The accuracy of forty epochs, next to that of the reference"
    run = read('runs/layernorm-40-ws/metrics.json')
    ours = f"**{percent(run['test_accuracy'])}**" if run else 'not measured'
    theirs = best_of_reference()[0] if (RESULTS/REFERENCE).is_file() else 'not measured'
    yield ('test accuracy after 40 epochs of CIFAR-10, LayerNorm only',
        ours,f'{theirs}, a solution to the exercise (a)','','advtrain_run layernorm-40-ws --data cifar10.tgz')

def speed_rows():
    "Five speeds on a CPU: what, advtrain, peer, ratio, command"
    speeds = 'images_per_second',
    step = 'step.json'
    ours,theirs = both(step, 'images/s', speeds, 'advtrain', 'fastai')
    older = ratio('step-avx2.json', 'ratios', 'fastai', 'speed')
    yield ('training a ResNet-18',ours,f"{theirs}, fastai's defaults",
        ratio(step, 'ratios', 'fastai', 'speed')+(older and f' (without bf16: {older})'),'python benchmarks/step.py')
    ours,theirs = both(step, 'images/s', speeds, 'advtrain', 'bare')
    yield ('the same',ours,f'{theirs}, a bare PyTorch loop with the same choices',
        ratio(step, 'ratios', 'bare', 'speed', digits=2),'python benchmarks/step.py')
    ours,theirs = both('pipeline.json', 'images/s', speeds, 'advtrain, fast', 'fastai, tutorial transform, 0 workers')
    best = ratio('pipeline.json', 'ratios', 'fast / best of the others with 2 workers', digits=0)
    yield ('augmented batches, one core, decoded once',ours,f'{theirs}, fastai with albumentations, decoding each time',
        ratio('pipeline.json', 'ratios', 'fast / fastai with 0 workers', digits=0)
        +(best and f' ({best} against the fastest of 3 peers with 2 workers)'),'python benchmarks/pipeline.py')
    ours,theirs = both('gradcam.json', 'ms', ('four_layers','ms'), 'advtrain, fp32', 'pytorch-grad-cam')
    torch_cam = ratio('gradcam.json', 'four_layers', 'ratios', 'advtrain, fp32 / torch-cam', digits=2)
    yield ('heat maps of 20 images at 4 layers, fp32',ours,f'{theirs}, pytorch-grad-cam',
        ratio('gradcam.json', 'four_layers', 'ratios', 'advtrain, fp32 / pytorch-grad-cam')
        +(torch_cam and f' (torch-cam: {torch_cam})'),'python benchmarks/gradcam.py')
    ours,theirs = both('interpret.json', 's', ('seconds',), 'advtrain', 'fastai')
    yield ('five questions about 10,000 predictions, such as top losses',ours,f'{theirs}, fastai',
        ratio('interpret.json', 'ratio'),'python benchmarks/interpret.py')

def notes():
    "What the six results mean"
    gpu = '' if any('gpu' in o['machine'] for o in files()) else ' **Nothing was measured on a GPU.**'
    return (f'{machine()} Speeds are medians of two or more rounds.{gpu}\n\n'
        '(a) The exercise: a ResNet-18 with no norm but LayerNorm. Conditions differ: we used a JPEG copy of CIFAR-10, '
        'standardised weights and one seed, and chose the epoch on the validation split. The solution chose '
        'its epoch on the test set, and may have had the original images.')

def six():
    "The README's results, as Markdown"
    lines = ['| what | advtrain | peer | ratio | command |','|---|---|---|---|---|']
    for *row,command in [*accuracy_rows(),*speed_rows()]: lines.append(f"| {' | '.join(row)} | {code(command)} |")
    return '\n'.join(lines)

def mean_sd(values):
    "Mean and standard deviation of accuracies"
    return f'{100*statistics.fmean(values):.1f} ± {100*statistics.stdev(values):.1f}'

def choices():
    "What single choices did, and networks with three norms, as Markdown for the guide"
    file = next((o for o in kept('choices') if read(o)), None)
    if file is None: return 'What each choice does to accuracy: not measured.'
    r = read(file)
    n = r['numbers']
    lines = ['| choice | added to `quickstart` with | without | with |','|---|---|---|---|']
    lines += [f"| {code(o['choice'])} | {code(o['both'])} | {mean_sd(o['without'])} | {mean_sd(o['with_it'])} |"
              for o in n['lines']]
    norms = list(dict.fromkeys(o['norm'] for o in n['networks']))
    nets = [f"| `quickstart` with | parameters | {' | '.join(map(code, norms))} |",'|---|---|'+'---|'*len(norms)]
    for arch in dict.fromkeys(o['arch'] for o in n['networks']):
        of = {o['norm']: o for o in n['networks'] if o['arch']==arch}
        nets.append(f"| `arch='{arch}'`, 3 epochs | {of[norms[0]]['parameters']:,} | "
                    f"{' | '.join(mean_sd(of[k]['accuracy']) for k in norms)} |")
    seeds = len(n['networks'][0]['accuracy'])
    about = (
        f"Test accuracy on the sample's {n['test_images']} test images, in %, mean ± standard deviation of "
        f"{n['seeds']} seeds, after 6 epochs on 1,800 images, or as the second column says. Runs this short say what "
        "a choice does here, not what it's worth on your data: strong augmentation needs more epochs. The sample has "
        f"as many images of each class, so `balanced` changes nothing. `{r['command']}` made the table.")
    more = f'The same recipe with other networks and norms, {seeds} seeds:'
    return '\n'.join([about, '', *lines, '', more, '', *nets])

BEGIN = '<!-- made by `make figures` from benchmarks/results/ -->'
END = '<!-- end of what `make figures` makes -->'

def put(
    text:str, # A cell or a document with the two marks
    made:str, # What is to stand between them
)->str:
    "`text` with what stands between its marks replaced"
    before,_,rest = text.partition(BEGIN)
    _,end,after = rest.partition(END)
    if not end: raise SystemExit(f'the marks of the table are gone: {BEGIN} and {END}')
    return f'{before}{BEGIN}\n\n{made}\n\n{END}{after}'

def main():
    nb = json.loads(INDEX.read_text(encoding='utf-8'))
    for cell in nb['cells']:
        text = ''.join(cell['source'])
        if BEGIN in text: cell['source'] = put(text, f'{six()}\n\n{notes()}').splitlines(keepends=True)
    INDEX.write_text(json.dumps(nb, indent=1, ensure_ascii=False)+'\n', encoding='utf-8')
    text = put(ALL.read_text(encoding='utf-8'), f'{machine()}\n\n{table()}')
    ALL.write_text(text, encoding='utf-8')
    GUIDE.write_text(put(GUIDE.read_text(encoding='utf-8'), choices()), encoding='utf-8')

if __name__=='__main__': main()
