"""One option stands in two places, a function and `Experiment`; and fastai stays what it is for everybody else."""
import inspect,json,subprocess,sys

import pytest

from advtrain.all import ARCHS,AUGS,FilmLog,OPTS,SCHEDULES,image_dls,resnet_learner
from advtrain.runs.experiment import FIELDS

ELSEWHERE = { # choices that aren't parameters of these functions, and where they go
    'name': 'the folder of a run', 'epochs': 'learn.fit', 'lr_scaling': 'Experiment.scaled_lr',
    'hole': 'a function in AUGS', 'border': 'a function in AUGS',
    'flip_tta': 'Runner.finish', 'film': 'FilmLog', 'n_images': 'the figures of a run',
    'layers': 'the figures of a run'}
NO_CHOICES = { # parameters that no experiment decides, and why
    'path': 'data are given beside an experiment', 'dls': 'made by image_dls', 'c_in': 'images have three channels',
    'device': 'of the machine', 'num_workers': 'of the machine', 'fast': 'gives the same images',
    'on_error': 'what is skipped is in the fingerprint of the data'}
BY_NAME = 'arch','augs' # a choice is the name of what the function takes

def parameters(f): return inspect.signature(f).parameters

@pytest.mark.parametrize('field', FIELDS)
def test_a_choice_is_taken(field):
    taken = field in parameters(image_dls) or field in parameters(resnet_learner)
    assert taken!=(field in ELSEWHERE), f'no function takes {field}'

@pytest.mark.parametrize('f', [image_dls,resnet_learner])
def test_a_parameter_can_be_chosen(f):
    assert [k for k in parameters(f) if k not in FIELDS and k not in NO_CHOICES]==[]

def test_nothing_is_listed_in_vain():
    both = parameters(image_dls).keys() | parameters(resnet_learner).keys()
    assert ELSEWHERE.keys()<=FIELDS.keys() and NO_CHOICES.keys()<=both and not NO_CHOICES.keys()&FIELDS.keys()

PARTS = *ARCHS.values(),*OPTS.values(),*SCHEDULES.values()
MAKERS = {f.__name__: f for f in (image_dls, resnet_learner, FilmLog, *PARTS)}

@pytest.mark.parametrize('name', MAKERS)
def test_defaults_are_equal(name):
    defaults = {k: o.default for k,o in parameters(MAKERS[name]).items() if k in FIELDS and k not in BY_NAME}
    assert defaults=={k: FIELDS[k].default for k in defaults}

@pytest.mark.parametrize('field, registry', [('arch',ARCHS), ('augs',AUGS), ('opt',OPTS), ('schedule',SCHEDULES)])
def test_names_are_those_of_the_registry(field, registry):
    assert FIELDS[field].metadata['names']==tuple(registry)

LOOK = '''
import json,sys,types
import fastai.vision.all, fastai.tabular.core, fastai.distributed, fastai.callback.all
def look():
    "Everything in fastai's modules and classes, by name"
    seen = {}
    for module in [m for n,m in sys.modules.items() if n.startswith('fastai.')]:
        for k,v in vars(module).items():
            if not k.startswith('__'): seen[f'{module.__name__}.{k}'] = v
            if isinstance(v, type) and v.__module__==module.__name__:
                seen.update({f'{module.__name__}.{k}.{a}': b for a,b in vars(v).items() if not a.startswith('__')})
    return seen
before = look()
import advtrain.all
after = look()
changed = [k for k,v in before.items() if after.get(k) is not v]
new = [k for k in after.keys()-before.keys() if k.rpartition('.')[0].startswith('fastai.learner.Learner')]
others = [k for k in after.keys()-before.keys() if k.rpartition('.')[0] in before and k not in new]
print(json.dumps([changed, sorted(new), others]))
'''

def test_fastai_is_left_as_it_is():
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', LOOK],
        check=True, capture_output=True, text=True).stdout
    changed,verbs,others = json.loads(out)
    assert changed==[] and others==[]
    assert verbs==[f'fastai.learner.Learner.{o}' for o in ('film','history','interpret','life','model_table')]
