"""The parts of `gpu.py`, and what they share. Each has a function `run` of options and of a `Note` for its numbers."""
import importlib,os,time,traceback
from pathlib import Path
from types import SimpleNamespace

from keep import about,write

PACKAGES = 'torchvision','fastai','albumentations','numpy','grad-cam','torchcam'

def text(value):
    "A number with three digits, or more where it is large"
    return f'{value:,.0f}' if abs(value)>=1000 else f'{value:.3g}'

class Note:
    "Numbers of a part, written to its file whenever there are new ones"
    def __init__(self, o):
        self.o,self.file = o,Path(o.out)/f'{o.name}.json'
        self.results = about(*PACKAGES) | dict(complete=False, figures={}, numbers={})

    def __call__(self, **numbers):
        self.results['numbers'].update(numbers)
        write(self.file, self.results)
        if self.o.crash==self.o.name: os.abort()
        while self.o.hang==self.o.name: time.sleep(1)

    def figure(self, label, value, unit=''):
        "Note one of the main figures, for the table; of several numbers, their median and range"
        if isinstance(value, dict): value = f"{text(value['median'])} ({text(value['low'])} to {text(value['high'])})"
        elif isinstance(value, float): value = text(value)
        self.results['figures'][label] = f'{value} {unit}'.strip()
        self()

    def end(self, error=None):
        self.results.update(dict(error=error) if error else dict(complete=True))
        self()

def run_part(module, options):
    "Run a part; what it had noted before an error stays"
    o = SimpleNamespace(**options)
    note = Note(o)
    try: importlib.import_module(module).run(o, note)
    except BaseException:
        note.end(traceback.format_exc())
        raise
    note.end()

def path(o):
    "The folder of images"
    from advtrain.all import data_folder,fashion_sample
    return data_folder(o.data) if o.data else fashion_sample()

def width(o): return 4 if o.tiny else 64

def loaders(o, bs=128):
    "The loaders that `step.py` trains from; in a rehearsal of fewer images and small batches"
    from advtrain.all import image_dls
    from step import AUGS
    return image_dls(path(o), AUGS, bs=bs//8, fraction=.2) if o.tiny else image_dls(path(o), AUGS, bs=bs)

def in_turn(calls, rounds=5):
    "Seconds of each call in each round"
    from step import seconds
    return [{name: seconds(f) for name,f in calls.items()} for _ in range(rounds)]
