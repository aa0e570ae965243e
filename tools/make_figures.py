#!/usr/bin/env python3
"""Make the README's table of measured results from the files in `benchmarks/results/`: `make figures`.

It is written into `nbs/index.ipynb`, where `make readme` takes it from. A figure that has no file is called not
measured.
"""
import csv,json,statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS,INDEX = ROOT/'benchmarks/results',ROOT/'nbs/index.ipynb'
REFERENCE = 'reference_layernorm40.csv' # in RESULTS

def read(name):
    "The content of a file of results; `None` if there is none"
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
    yield ('`learn.fit` of ResNet-18, LayerNorm, batches of 128, against fastai as it comes',
           times(ratios['fastai']['speed']))
    yield ('the same against a bare PyTorch loop with the same precision, layout, optimiser and augmentation',
           f"{times(ratios['bare']['speed'], 2)}, in {memory[0]:.2f} of its memory")

def of_pipeline(r):
    speeds,ratios = r['numbers']['images_per_second'],r['numbers']['ratios']
    yield ('batches of CIFAR-10 with crop, flip, rotation, cutout and normalisation, from images decoded once, '
           'one core, against fastai with the usual albumentations transform, which decodes each time',
           f"{times(ratios['fast / fastai with 0 workers'], 0)}: {speeds['advtrain, fast']['median']:,.0f} images/s")
    yield ('the same against the best of three others with two workers',
           times(ratios['fast / best of the others with 2 workers']))

def of_gradcam(r):
    for what,k in (('heat maps of 20 images at 4 layers, ResNet-18, fp32','four_layers'),
                   ('of 1,000 images at one layer','one_layer')):
        ratios = r['numbers'][k]['ratios']
        yield what,', '.join(
            times(ratios[f'advtrain, fp32 / {o}'], 1 if o=='pytorch-grad-cam' else 2, o)
            for o in ('pytorch-grad-cam','torch-cam'))
    peaks = r['numbers']['peak_MB']
    yield 'memory of the latter, in batches of 128',', '.join(f'{name} {v["1000"]:,.0f} MB' for name,v in peaks.items())

def of_interpret(r):
    n = r['numbers']
    yield (f"confusion matrix, most confused, report, top losses, misclassified, {n['images']:,} images, "
           'against fastai',
           f"{times(n['ratio'])}, {'the same answers' if n['same_answers'] else 'other answers'}")

def of_report(r):
    n = r['numbers']
    yield (f"the page of a run with {n['predictions']:,} test predictions, {n['misclassified']:,} of them wrong",
           f"written in {n['write_report_s']['median']:.0f} s from the folder "
           f"(inference takes {n['inference_s']['median']:.0f} s, "
           f"and all that a run does after it {n['after_training_beyond_inference_s']:.0f} s); "
           f"{n['page_MB']:.1f} MB; "
           f"{'opens in {median:.1f} s'.format(**n['opens_s']) if n['opens_s'] else 'opening it: not measured'}")

def of_memory(r):
    n = r['numbers']
    yield (f"decoding {n['images']:,} images of CIFAR-10 once, and starting again",
           ', '.join(f"{v['seconds']:.2g} s" for k,v in list(n['steps'].items())[:2])
           + f", an array of {n['array_MB']:.0f} MB")

def of_scaling(r):
    n = r['numbers']
    yield ('a step of two processes on two cores against one of one process',
           f"{n['two_processes_against_one']['median']:.2f} of its time "
           f"({n['two_processes_against_one']['low']:.2f} to {n['two_processes_against_one']['high']:.2f}); "
           f"[the model](docs/scaling.md) says {n['model']:.2f}")

def of_ablation(r):
    n = r['numbers']
    lines = sorted((statistics.fmean(v['difference']), k) for k,v in n['lines'].items())
    worst,best = ('; '.join(f'{name}: {100*v:+.1f}' for v,name in o) for o in (lines[:3], lines[:-4:-1]))
    yield ('changes to `layernorm-40-ws`, in points of test accuracy, the three lowest and the three highest: '
           f"width {n['width']}, {n['epochs']} epochs, `ema` {n['ema']}, "
           f"on {images(n['train_images'], n['data'])}, seeds: {len(n['recipe']['test_accuracy'])}",
           f'{worst}; … {best}; [all of them](tutorials/cifar10.ipynb)')

def of_same_training(r):
    n = r['numbers']
    means = ' and '.join(
        f'{percent(statistics.fmean(v))} ± {100*statistics.stdev(v):.1f}'
        for v in (n['accuracies'][o] for o in ('fast path','item by item')))
    yield ("the same training, augmented a batch at a time and image by image: the sample's validation images",
           f"{means}, mean ± standard deviation of {len(n['accuracies']['fast path'])} seeds; "
           f"Welch's t-test: p = {n['p']:.2f}")

SCRIPTS = dict(
    step=of_step,
    pipeline=of_pipeline,
    gradcam=of_gradcam,
    interpret=of_interpret,
    report=of_report,
    memory=of_memory,
    scaling=of_scaling,
    same_training=of_same_training,
    ablation=of_ablation,
    ablation_long=of_ablation)

def duration(seconds):
    "In seconds, minutes or hours, whichever one would say"
    if seconds<100: return f'{seconds:.0f} s'
    return f'{seconds/60:.1f} min' if seconds<6000 else f'{seconds/3600:.1f} h'

def of_run(folder):
    "What a kept run came to"
    m,about = json.loads((folder/'metrics.json').read_text()),json.loads((folder/'about.json').read_text())
    chosen = ('the test set, as the references did it' if m['watched']=='test' else
        f"{m['valid_images']:,} validation images")
    flip = (f"; {percent(m['test_accuracy_flip'])} together with their mirror images"
        if 'test_accuracy_flip' in m else '')
    trained = duration(m['seconds'])
    where = about.get('gpu') or ('1 thread' if about['threads']==1 else f"{about['threads']} threads")
    what = f"`{folder.name}`: {m['epochs']} epochs on {images(m['train_images'], about['data'])}, one seed"
    return what,(f"**{percent(m['test_accuracy'])}** of {m['test_images']:,} test images{flip}; "
        f"epoch {m['best_epoch']}, chosen on {chosen}; {trained} of training on {where}")

def of_reference(file):
    "The best epoch of a write-up's log"
    best = max(csv.DictReader(file.read_text(encoding='utf-8').splitlines()), key=lambda o: int(o['test_correct']))
    return ('for comparison, the log of a write-up: LayerNorm, 40 epochs on CIFAR-10',
        f"{percent(int(best['test_correct'])/10000)} of 10,000 test images; "
        f"epoch {best['epoch']}, chosen on the test set")

ON_GPU = { # part of `gpu.py` -> its figures that the table has
    'step': ['learn.fit / bare loop, batch 128', 'learn.fit / fastai as it comes'],
    'whole_run': ['40 epochs and the page', 'test accuracy'],
    'maps': ['heat maps, four layers: advtrain, fp32 / pytorch-grad-cam'],
}

def on_gpu():
    "What, result and file of what a call of `gpu.py` has left"
    for part,labels in ON_GPU.items():
        file = f'gpu/{part}.json'
        figures = (read(file) or {}).get('figures', {})
        for label in labels:
            if label in figures: yield f'on a GPU, {label}',figures[label],file

def kept(name):
    "The files of a script: of processors with bf16, then of other kinds, as `keep` names them"
    return [f'{name}{kind}.json' for kind in ('','-avx512','-avx2','-default')]

def kind(machine):
    "The kind of processor, in a word: its numbers differ from those of another kind"
    return machine.get('gpu') or machine['instructions']

def rows():
    "What, result, kind of processor, command, file"
    for folder in sorted((RESULTS/'runs').glob('*/')):
        about = json.loads((folder/'about.json').read_text())
        data = about['data']
        yield (*of_run(folder), kind(about),
            f"advtrain_run {folder.name}{' --data cifar10.tgz' if data.startswith('cifar10') else ''}",
            f'runs/{folder.name}/metrics.json')
    if (RESULTS/REFERENCE).is_file(): yield *of_reference(RESULTS/REFERENCE),'','',REFERENCE
    for name,tell in SCRIPTS.items():
        for file in kept(name):
            r = read(file)
            for what,result in tell(r) if r else []: yield what,result,kind(r['machine']),r['command'],file
    for what,result,file in on_gpu(): yield what,result,kind(read(file)['machine']),read(file)['command'],file

GOALS = { # what has no file yet: name of a run -> what it is
    'layernorm-40-ws': 'LayerNorm and standardised weights, 40 epochs on CIFAR-10',
    'layernorm-40-best': 'the recipe of `layernorm-40-ws` without standardised weights, at a lower learning rate, '
        '40 epochs on CIFAR-10',
    'layernorm-40': "the references' run, 40 epochs on CIFAR-10",
}

def table():
    "The table, as Markdown"
    lines = ['| what | result | processor | command | file |','|---|---|---|---|---|']
    lines += [
        f'| {what} | {result} | {processor} | {code(command)} | [{Path(file).name}](../benchmarks/results/{file}) |'
        for what,result,processor,command,file in rows()]
    lines += [
        f'| {what} | not measured | | `advtrain_run {name}` | |'
        for name,what in GOALS.items() if not (RESULTS/'runs'/name).is_dir()]
    if not any('gpu' in o['machine'] for o in files()): lines.append('| anything on a GPU | not measured | | | |')
    return '\n'.join(lines)

def files():
    "What the scripts have left"
    names = [file for o in SCRIPTS for file in kept(o)] + [f'gpu/{part}.json' for part in ON_GPU]
    return [r for file in names if (r := read(file))]

def machine():
    "Where the scripts ran, and with what, in a sentence"
    about = [
        f"{o['cores']} cores of {o['cpu']}{', '+o['gpu'] if 'gpu' in o else ' without a GPU'}"
        for o in (r['machine'] for r in files())]
    return (f"On {'; '.join(sorted(set(about)))}, shared with others; "
            f"PyTorch {', '.join(sorted({r['versions']['torch'] for r in files()}))}.")

BEGIN = '<!-- made by `make figures`: change benchmarks/results/ instead -->'
END = '<!-- end of what `make figures` makes -->'

def measured(
    text:str, # A cell with the two marks
)->str:
    "The cell with its table made anew"
    before,_,rest = text.partition(BEGIN)
    _,end,after = rest.partition(END)
    if not end: raise SystemExit('nbs/index.ipynb has lost the marks of the table')
    return f'{before}{BEGIN}\n\n{machine()}\n\n{table()}\n\n{END}{after}'

def main():
    nb = json.loads(INDEX.read_text(encoding='utf-8'))
    for cell in nb['cells']:
        if BEGIN in (text := ''.join(cell['source'])): cell['source'] = measured(text).splitlines(keepends=True)
    INDEX.write_text(json.dumps(nb, indent=1, ensure_ascii=False)+'\n', encoding='utf-8')

if __name__=='__main__': main()
