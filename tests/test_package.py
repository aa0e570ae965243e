"""What is in the package, and what it needs."""
import ast,hashlib,json,re,subprocess,sys
from functools import cache
from importlib.metadata import requires
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# the modules, from the ground up
ORDER = re.findall(r'^          - (\S+)\.ipynb$', (ROOT/'nbs/sidebar.yml').read_text(), re.M)
LIBRARY = {o: (files('advtrain')/f'{o}.py').read_text() for o in ORDER}
PROMISED = '''AlbumentationsTransform BatchAlbumentations cutout_augs flip_cutout_augs shift_gray_augs show_augmented
show_transforms cifar10 fashion_sample image_block image_dls CachedDL show_classes
ResNet BasicBlock resnet18 resnet34 NORMS norm_types
resnet_learner RunLearner RunCallback ImageDataLoaders OPTS SCHEDULES adam adamw rmsprop muon Schedule WarmUp PlateauLR
Precision Checkpoint plot_history set_seed sgd EMA FiniteLoss TrainingLoss EarlyStopping
ImageInterpretation GradCAM METHODS overlay deletion_insertion Faithfulness
Experiment EXPERIMENTS run_experiment Run compare_runs Comparison mcnemar run_many grid Runs
Verdict Flips write_index search ablate
TensorBoardLog WandbLog write_report write_comparison
advtrain_run advtrain_grid advtrain_search advtrain_ablate advtrain_compare
advtrain_lr_find advtrain_predict'''.split()

def test_all_has_every_promised_name():
    names = {}
    exec('from advtrain.all import *', names)
    assert not [n for n in PROMISED if n not in names]
    assert all(hasattr(names['RunLearner'], n) for n in (
        'fit','resume','distributed','interpret','lr_find','history','profile','compare_precision'))
    assert all(hasattr(names['ImageInterpretation'], n) for n in (
        'misclassified','correct','confused','per_class','calibration','save','load',
        'gradcam','plot_gradcam','faithfulness','compare_methods'))

@pytest.fixture(scope='module')
def imported():
    "The modules that are there after everything of advtrain was imported"
    code = 'import json,sys; import advtrain.all; print(json.dumps(list(sys.modules)))'
    return json.loads(subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
        check=True, capture_output=True, text=True).stdout)

def test_importing_everything_needs_no_nbdev(imported):
    assert 'advtrain.train.resnet_learner' in imported and 'nbdev' not in imported

@pytest.mark.parametrize('package', ['tensorboard','wandb','onnx','onnxscript','onnxruntime','optuna','accelerate'])
def test_no_extra_is_imported_before_it_is_used(imported, package): assert package not in imported

def test_requirements_do_not_pull_nbdev():
    needed = [r for r in requires('advtrain') if 'extra ==' not in r]
    assert needed and not any(r.startswith(('nbdev','execnb','ghapi','pytest')) for r in needed)

def imports(module):
    "Module -> what is imported from it, also inside functions"
    here = f'advtrain/{module}'.split('/')
    res = {}
    for n in ast.walk(ast.parse(LIBRARY[module])):
        sources = {}
        if isinstance(n, ast.Import): sources = {o.name: [] for o in n.names if '.' in o.name}
        elif isinstance(n, ast.ImportFrom):
            place = here[:len(here)-n.level] if n.level else []
            sources = {'.'.join([*place, n.module or '']): [o.name for o in n.names]}
        for source,names in sources.items():
            package,_,there = source.partition('.')
            if package=='advtrain': res.setdefault(there.replace('.', '/'), []).extend(names)
    if 'all' in res: # a command imports everything, once it knows what it is asked for
        for name in res.pop('all'): res.setdefault(defining(name), []).append(name)
    return res

def defining(name): return next(o for o in ORDER if re.search(rf'^(def|class) {name}\b|^{name} =', LIBRARY[o], re.M))

@cache
def chain(module):
    "The longest chain of imports that ends in a module"
    return max((chain(o) for o in imports(module)), key=len, default=()) + (module,)

def test_every_module_is_in_the_list():
    there = {
        o.relative_to(ROOT/'nbs').with_suffix('').as_posix()
        for o in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in o.parts}
    assert {o for o in there if not o.startswith('tutorials/')} == {*ORDER, 'index'}

@pytest.mark.parametrize('module', ORDER)
def test_a_module_imports_only_from_those_above(module):
    assert imports(module).keys() <= set(ORDER[:ORDER.index(module)])

@pytest.mark.parametrize('module', ORDER)
def test_nobody_imports_a_private_name(module):
    assert not [f'{o}.{name}' for o,names in imports(module).items() for name in names if name.startswith('_')]

def closure(module):
    "All that comes with a module"
    direct = imports(module)
    return {*direct, *(o for m in direct for o in closure(m))}

def test_whoever_trains_or_loads_has_mended_convolutions():
    "The few modules that do neither, and import PyTorch without the repair, are listed here"
    without = [m for m in ORDER if re.search('^(import|from) torch', LIBRARY[m], re.M) and
        'narrow_convolutions' not in closure(m)]
    assert without==['narrow_convolutions','devices','files/tensors','data/image_map','data/image_seeds',
        'data/batch_opencv','data/batch_transforms','look/saved_paths','look/map_similarity','look/faithfulness',
        'look/image_life','look/film','pages/sprites','pages/film']

def test_chains_of_imports_are_short():
    longest = max(map(chain, ORDER), key=len)
    assert len(longest)<=10, longest

@pytest.mark.parametrize('module', ORDER)
def test_a_module_has_one_idea(module):
    body = LIBRARY[module].split('\n# %% ', 2)[-1] # without the header
    assert body.count('\n')<=450

GIVES_BACK = """
import sys
from pathlib import Path
import advtrain.all
from fastai.learner import Learner
from nbdev.config import get_config
from nbdev.test import test_nb
notebook,name = sys.argv[1:]
before = vars(Learner)[name]
passed,_ = test_nb(Path(notebook), skip_flags=get_config().tst_flags.split(), basepath=get_config().config_path)
sys.exit(not passed or vars(Learner)[name] is not before)
"""

@pytest.mark.parametrize('notebook,name', {'train/record': 'history', 'look/interpret': 'interpret'}.items())
def test_a_notebook_gives_back_what_it_patched(notebook, name):
    "`nbdev_test` runs several notebooks in one process, so the next one would get methods of another class"
    pytest.importorskip('nbdev')
    call = sys.executable,'-c',GIVES_BACK,str(ROOT/'nbs'/f'{notebook}.ipynb'),name
    done = subprocess.run(call, cwd=ROOT/'nbs', capture_output=True, text=True)
    assert not done.returncode, done.stderr

def test_notebooks_give_back_the_figures_of_runs():
    for file in (ROOT/'nbs').rglob('*.ipynb'):
        text = file.read_text(encoding='utf-8')
        if 'DRAW.clear()' in text or 'del DRAW[' in text:
            assert text.count('all_figures = DRAW.copy()')==text.count('DRAW.update(all_figures)')==1, file

def test_notebooks_clean_up_in_a_cell_that_is_tested():
    "`nbdev_test` skips cells that export"
    for file in (ROOT/'nbs').rglob('*.ipynb'):
        for cell in json.loads(file.read_text(encoding='utf-8'))['cells']:
            lines = ''.join(cell['source']).splitlines()
            if not any('nbdev_export(' in o for o in lines): continue
            assert all(o.startswith('#|') or 'nbdev' in o for o in lines) or cell['cell_type']!='code', file

def test_sample_is_small_and_has_its_licence(sample):
    assert (files('advtrain.data')/'fashion_sample.tar.xz').stat().st_size < 2e6
    assert 'MIT' in (sample/'LICENSE').read_text() and 'Zalando' in (sample/'LICENSE').read_text()

def test_sample_is_made_the_same_each_time(tmp_path):
    tool,source = Path(__file__).parents[1]/'tools/make_fashion_sample.py',Path('/usr/share/datasets/fashion-mnist')
    if not source.is_dir(): pytest.skip('the Debian package dataset-fashion-mnist is not installed')
    subprocess.run([sys.executable, tool, '--out', tmp_path/'again.tar.xz'], check=True, stdout=subprocess.DEVNULL)
    def digest(b): return hashlib.sha256(b).hexdigest()
    assert digest((tmp_path/'again.tar.xz').read_bytes()) == digest(
        (files('advtrain.data')/'fashion_sample.tar.xz').read_bytes())
