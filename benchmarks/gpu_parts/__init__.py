"""The parts of `gpu.py`, and what they share. The function `run` of each takes options and a `Note` for its numbers."""
import importlib,os,time,traceback
from pathlib import Path
from types import SimpleNamespace

from keep import about,write

PACKAGES = 'torchvision','fastai','albumentations','numpy','grad-cam','torchcam'

def text(value):
    "Format a number with three digits, or more if it's large"
    return f'{value:,.0f}' if abs(value)>=1000 else f'{value:.3g}'

class Note:
    "The numbers of a part; new ones are written to its file at once"
    def __init__(self, o):
        self.o,self.file = o,Path(o.out)/f'{o.name}.json'
        self.results = about(*PACKAGES) | dict(complete=False, figures={}, numbers={})

    def __call__(self, **numbers):
        self.results['numbers'].update(numbers)
        write(self.file, self.results)
        if self.o.crash==self.o.name: os.abort()
        while self.o.hang==self.o.name: time.sleep(1)

    def figure(self, label, value, unit=''):
        "Note a main figure for the table; several numbers become median and range"
        if isinstance(value, dict): value = f"{text(value['median'])} ({text(value['low'])} to {text(value['high'])})"
        elif isinstance(value, float): value = text(value)
        self.results['figures'][label] = f'{value} {unit}'.strip()
        self()

    def end(self, error=None):
        self.results.update(dict(error=error) if error else dict(complete=True))
        self()

def run_part(module, options):
    "Run a part; numbers noted before an error are kept"
    o = SimpleNamespace(**options)
    note = Note(o)
    try: importlib.import_module(module).run(o, note)
    except BaseException:
        note.end(traceback.format_exc())
        raise
    note.end()

def path(o):
    "Get the folder of images"
    from advtrain.all import data_source,fashion_sample
    return data_source(o.data) if o.data else fashion_sample()

def width(o): return 4 if o.tiny else 64

def loaders(o, bs=128):
    "Make the loaders of `step.py`; a rehearsal has fewer images and small batches"
    from advtrain.all import image_dls
    from step import AUGS
    return image_dls(path(o), AUGS, bs=bs//8, fraction=.2) if o.tiny else image_dls(path(o), AUGS, bs=bs)

def in_turn(calls, rounds=5):
    "Measure the seconds of each call in each round"
    from step import seconds
    return [{name: seconds(f) for name,f in calls.items()} for _ in range(rounds)]
