"""From single measurements to the file of results, a table and the picture."""
import math
from collections import defaultdict

from keep import over

REFERENCE = 60_000 # images; loaders of larger sets are compared with it
NAMES = dict(advtrain='advtrain', fastai='fastai', torchvision='torchvision', webdataset='WebDataset',
    huggingface='Hugging Face datasets')
KINDS = dict(files='files', parquet='Parquet', webdataset='tar shards')
COLORS = dict(advtrain='#0b57d0', fastai='#b3261e', torchvision='#c77700', webdataset='#1a7f37', huggingface='#7b3fb5')
MARKERS = dict(files='o', parquet='s', webdataset='^')

def _library(found, name):
    "Gather start, memory and speed of a library, from its measurements of one set: (rounds of a name by name)"
    first,again = found.get(f'{name}, first start', {}),found.get(name, {})
    res = {}
    if first: res['first_start_s'] = over(o['start_s'] for o in first.values())
    if first: res['first_to_batch_s'] = over(o['first_batch_s'] for o in first.values())
    if not again: return res
    started = [o['started'] for o in again.values()]
    loading = [o['loading'] for o in again.values()]
    return res | dict(
        second_start_s=over(o['start_s'] for o in again.values()),
        second_to_batch_s=over(o['first_batch_s'] for o in again.values()),
        started_MB=over(o['resident_MB'] for o in started),
        started_anonymous_MB=over(o['anonymous_MB'] for o in started),
        loading_MB=over(o['resident_MB']+o['workers_MB'] for o in loading),
        images_per_s=over(o['images_per_s'] for o in loading))

def _of_set(found):
    "Gather the measurements of one set"
    names = [o for o in NAMES if o in found or f'{o}, first start' in found]
    res = {o: _library(found, o) for o in names}
    if 'advtrain, no augmentation' in found and res.get('advtrain'):
        res['advtrain']['plain_images_per_s'] = over(
            o['loading']['images_per_s'] for o in found['advtrain, no augmentation'].values())
    first,decoder = found.get('advtrain, first start', {}),found.get('decoder', {})
    if decoder: res['decoder'] = dict(images_per_s=over(o['images_per_s'] for o in decoder.values()))
    if both := first.keys() & decoder.keys():
        res['advtrain']['first_start_to_decoder'] = over(
            first[i]['images']/first[i]['start_s']/decoder[i]['images_per_s'] for i in both)
    return res

def _add_ratios(of_kind, measured):
    "Add the loader's speed as a share of its speed on the reference set, in the same round"
    for name,key in (('advtrain','images_per_s'),('advtrain, no augmentation','plain_images_per_s')):
        reference = measured.get(REFERENCE, {}).get(name, {})
        for n,found in measured.items():
            if both := reference.keys() & found.get(name, {}).keys():
                of_kind[n]['advtrain'][f'{key}_to_reference'] = over(
                    found[name][i]['loading']['images_per_s']/reference[i]['loading']['images_per_s'] for i in both)

def gathered(found):
    "Gather all measurements: by kind of data set and number of images, and those that were made once"
    sets,once = defaultdict(lambda: defaultdict(lambda: defaultdict(dict))),defaultdict(lambda: defaultdict(dict))
    for key,value in found.items():
        kind,n,i,name = key.split('/')
        if name in ('look','killed','with limit','without limit'): once[name][kind][int(n)] = value
        else: sets[kind][int(n)][name][int(i)] = value
    res = {kind: {n: _of_set(o) for n,o in sorted(measured.items())} for kind,measured in sets.items()}
    for kind,measured in sets.items(): _add_ratios(res[kind], measured)
    return dict(sets=res, reference=REFERENCE, **{name.replace(' ', '_'): o for name,o in once.items()})

def lines(numbers, key, libraries=NAMES):
    "List the medians of a quantity: library, kind, numbers of images, values"
    res = []
    for kind,measured in numbers['sets'].items():
        for name in libraries:
            points = [(int(n), o[name][key]['median']) for n,o in measured.items() if key in o.get(name, {})]
            if points: res.append((name, kind, *zip(*points)))
    return res

def slope(x, y):
    "Fit the power of x that y grows with; `None` for less than two points"
    if len(x)<2: return None
    x,y = [list(map(math.log, o)) for o in (x,y)]
    mx,my = sum(x)/len(x),sum(y)/len(y)
    return sum((a-mx)*(b-my) for a,b in zip(x,y))/sum((a-mx)**2 for a in x)

PANELS = dict(
    first_to_batch_s='first start to the first batch, s',
    second_to_batch_s='second start to the first batch, s',
    loading_MB='resident memory, with workers, MB',
    images_per_s='training loader, images/s')

LOOKS = { # label -> number from what `looking.look` found
    'inference, s': lambda o: o['inference_s'],
    'page, s': lambda o: o['write_report_s'],
    'five questions, s': lambda o: sum(o['questions_s'].values()),
    'page opens in the browser, s': lambda o: o['opens_s']['median'],
    'peak memory of all that, GB': lambda o: o['peak_MB']/1000}

def _draw_lines(ax, found, title, unit='images'):
    "Draw lines (label, numbers, values, style) over the number of images, with the power that each grows with"
    found = [o for o in found if o[1]]
    ax.set_visible(bool(found))
    if not found: return
    for label,x,y,style in found:
        power = slope(x, y)
        ax.loglog(x, y, ms=4, label=label + ('' if power is None else f': {power:.2f}'), **style)
    ax.set(title=title, xlabel=unit)
    ax.grid(alpha=.3)
    low,high = ax.get_ylim()
    ax.set_ylim(low, high*(high/low)**.6) # room for the legend
    ax.legend(fontsize=8, title='grows with the power of N', title_fontsize=8, loc='upper left', ncols=2)

def _looks(numbers):
    "List the lines of interpretation and page"
    found = {int(n): o for of_kind in numbers.get('look', {}).values() for n,o in of_kind.items()}
    x = [o['predictions'] for o in found.values()]
    return [(label,x,[f(o) for o in found.values()],dict(marker='o', lw=1.5)) for label,f in LOOKS.items()]

def picture(numbers, file):
    "Draw starts, memory, speed and interpretation over the number of images"
    from PIL import Image
    from matplotlib.figure import Figure
    fig = Figure((12,13), layout='constrained')
    axs = fig.subplots(3, 2)
    for ax,(key,title) in zip(axs.flat, PANELS.items()):
        found = [(f'{NAMES[name]}, {KINDS[kind]}',x,y,
            dict(color=COLORS[name], marker=MARKERS[kind], lw=1.8 if name=='advtrain' else 1))
            for name,kind,x,y in lines(numbers, key)]
        _draw_lines(ax, found, title)
    _draw_lines(axs[2,0], _looks(numbers), 'interpretation with 1,000 classes, and its page', 'predictions')
    axs[2,1].set_visible(False)
    fig.savefig(file, dpi=80)
    Image.open(file).convert('RGB').quantize(64).save(file, optimize=True)

def show(numbers):
    "Print a line for each library and set"
    for kind,measured in numbers['sets'].items():
        for n,found in measured.items():
            for name,values in found.items():
                told = ', '.join(f"{k} {v['median']:.4g}" for k,v in values.items())
                print(f'{KINDS[kind]:10} {n:9,} {name:12} {told}')
    for name in ('look','killed','with_limit','without_limit'):
        if name in numbers: print(name, numbers[name])
