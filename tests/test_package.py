"""What is in the package, and what it needs."""
import ast,hashlib,json,subprocess,sys
from importlib.metadata import requires
from importlib.resources import files
from pathlib import Path

import pytest

ORDER = '''text arguments figures lazy convolutions devices ranks files batched augment data callbacks models record checkpoint precision learner optimisers schedules training profile distributed interpret faithfulness
gradcam choices pictures runs compare gallery report extras overview experiment many search cli'''.split()
PROMISED = '''AlbumentationsTransform BatchAlbumentations cutout_augs flip_cutout_augs shift_gray_augs show_augmented show_transforms
cifar10 fashion_sample image_block image_dls CachedDL show_classes
ResNet BasicBlock resnet18 resnet34 NORMS norm_types
resnet_learner RunLearner RunCallback ImageDataLoaders OPTS SCHEDULES adam adamw rmsprop muon Schedule WarmUp PlateauLR Precision Checkpoint plot_history set_seed sgd EMA FiniteLoss
ImageInterpretation GradCAM METHODS overlay deletion_insertion Faithfulness
Experiment EXPERIMENTS run_experiment Run compare_runs Comparison mcnemar run_many grid Runs write_index search TensorBoardLog WandbLog
write_report write_comparison advtrain_run advtrain_grid advtrain_search advtrain_compare advtrain_lr_find advtrain_predict'''.split()

def test_all_has_every_promised_name():
    names = {}
    exec('from advtrain.all import *', names)
    assert not [n for n in PROMISED if n not in names]
    assert all(hasattr(names['RunLearner'], n) for n in ('fit','resume','distributed','interpret','lr_find','history','profile','compare_precision'))
    assert all(hasattr(names['ImageInterpretation'], n) for n in ('misclassified','correct','confused','per_class','calibration','save','load','gradcam','plot_gradcam','faithfulness','compare_methods'))
    from advtrain.training import Checkpoint,EpochLog,Precision,plot_history,set_seed # where the design promises them

@pytest.fixture(scope='module')
def imported():
    "The modules that are there after everything of advtrain was imported"
    code = 'import json,sys; import advtrain.all,advtrain.extras,advtrain.search; print(json.dumps(list(sys.modules)))'
    return json.loads(subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, capture_output=True, text=True).stdout)

def test_importing_everything_needs_no_nbdev(imported): assert 'advtrain.training' in imported and 'nbdev' not in imported

@pytest.mark.parametrize('package', ['tensorboard','wandb','onnx','onnxscript','onnxruntime','optuna','accelerate'])
def test_no_extra_is_imported_before_it_is_used(imported, package): assert package not in imported

def test_requirements_do_not_pull_nbdev():
    needed = [r for r in requires('advtrain') if 'extra ==' not in r]
    assert needed and not any(r.startswith(('nbdev','execnb','ghapi','pytest')) for r in needed)

@pytest.mark.parametrize('module', ORDER)
def test_a_module_imports_only_from_those_above(module):
    tree = ast.parse((files('advtrain')/('cli/__init__.py' if module=='cli' else f'{module}.py')).read_text())
    names = [('advtrain.' if n.level else '') + (n.module or '') for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    imported = {n.split('.')[1] for n in names if n.startswith('advtrain.')}
    if module=='cli': imported.discard('all') # a command imports everything, once it knows what it is asked for
    assert imported <= set(ORDER[:ORDER.index(module)])
    assert imported or module in ('text','lazy','convolutions','choices')

def test_sample_is_small_and_has_its_licence(sample):
    assert (files('advtrain')/'fashion_sample.tar.xz').stat().st_size < 2e6
    assert 'MIT' in (sample/'LICENSE').read_text() and 'Zalando' in (sample/'LICENSE').read_text()

def test_sample_is_made_the_same_each_time(tmp_path):
    tool,source = Path(__file__).parents[1]/'tools/make_fashion_sample.py',Path('/usr/share/datasets/fashion-mnist')
    if not source.is_dir(): pytest.skip('the Debian package dataset-fashion-mnist is not installed')
    subprocess.run([sys.executable, tool, '--out', tmp_path/'again.tar.xz'], check=True, stdout=subprocess.DEVNULL)
    digest = lambda b: hashlib.sha256(b).hexdigest()
    assert digest((tmp_path/'again.tar.xz').read_bytes()) == digest((files('advtrain')/'fashion_sample.tar.xz').read_bytes())
