"""Networks of torchvision and timm in runs, grids and pages, and networks without maps."""
import contextlib,io,json,re,sys

import pytest
import torch
from torch import nn

from conftest import little_drawn,quiet_run,tiny
from advtrain import networks
from advtrain.cli.commands import advtrain_predict
from advtrain.launch.many import run_many
from advtrain.launch.runner import Runner
from advtrain.networks import ARCHS,library_network
from advtrain.pages.comparison import write_comparison
from advtrain.runs.experiment import Experiment
from advtrain.runs.presets import EXPERIMENTS

pytest.importorskip('timm')

def of(arch, **changes):
    "A small experiment with a network of a library"
    return tiny(name=arch.replace('/', ' '), arch=arch, layers=None, size=32, epochs=1, n_images=2, **changes)

@pytest.fixture(scope='module')
def vit_run(few, tmp_path_factory):
    return quiet_run(of('timm/test_vit', norm='layer2d'), few, tmp_path_factory.mktemp('vit')/'run')

@pytest.fixture(scope='module')
def flat_run(few, tmp_path_factory):
    "A run of a network that sees no neighbours, so it has no maps"
    ARCHS['flat'] = lambda n_out, size: nn.Sequential(nn.Flatten(), nn.Linear(3*size**2, n_out))
    yield quiet_run(of('flat'), few, tmp_path_factory.mktemp('flat')/'run')
    del ARCHS['flat']

def pictures(run): return {o.stem for o in (run.folder/'figures').iterdir()}
MAPS = {'wrong_gradcam','wrong_layers','correct_gradcam'}

def test_a_vision_transformer_has_heat_maps_unasked(vit_run):
    assert 1<=len(vit_run.layers)<=4 and all('norm1' in o for o in vit_run.layers)
    assert MAPS-{'wrong_gradcam','wrong_layers'} <= pictures(vit_run)
    maps = vit_run.interpretation.gradcam([0,1,2], vit_run.layers)
    assert maps.shape==(len(vit_run.layers),3,32,32) and maps.amax((2,3)).gt(0).any()

def test_a_network_without_maps_has_the_rest_of_the_page(flat_run, open_page):
    assert flat_run.layers==[] and not MAPS & pictures(flat_run) and 'confusion' in pictures(flat_run)
    page = open_page(flat_run.folder/'report.html', ready='#tools:visible')
    assert 'no heat maps' in page.locator('#status').text_content()
    assert page.locator('#cards canvas').count()>0
    assert open_page.faults==[]

def test_networks_with_and_without_maps_are_compared(flat_run, vit_run, open_page, tmp_path):
    page = open_page(write_comparison([vit_run.folder, flat_run.folder], tmp_path/'both.html'), ready='#tools:visible')
    data = json.loads(page.locator('#gallery-data').text_content())
    assert [len(o['layers']) for o in data['runs']]==[len(vit_run.layers),0]
    assert open_page.faults==[]

def test_predictions_of_a_network_without_maps(flat_run, few, tmp_path, capsys):
    image = next((few/'test').rglob('*.png'))
    assert advtrain_predict([str(flat_run.folder), str(image), '--out', str(tmp_path/'maps')])==0
    assert image.name in capsys.readouterr().out

def test_libraries_in_other_processes(few, tmp_path):
    "A grid over networks and norms, two runs at once"
    arches = 'torchvision/shufflenet_v2_x0_5','timm/test_resnet'
    exps = [of(a, norm=n).replace(name=f'{a[-8:]} {n}') for a in arches for n in ('layer','batch')]
    with contextlib.redirect_stdout(io.StringIO()), little_drawn(): runs = run_many(exps, few, tmp_path, jobs=2)
    assert runs.failed=={} and len(runs)==4
    assert [o.experiment.arch for o in runs]==[o.arch for o in exps]

def test_a_run_is_resumed_to_the_last_bit(few, tmp_path):
    exp = of('timm/test_resnet', norm='group', weight_std=True).replace(epochs=2)
    whole = quiet_run(exp, few, tmp_path/'whole')
    class Stop(Exception): "After an epoch"
    def stop(): raise Stop('after an epoch')
    with pytest.raises(Stop), contextlib.redirect_stdout(io.StringIO()):
        Runner(exp, few, tmp_path/'part', on_epoch=stop).run()
    part = quiet_run(exp, few, tmp_path/'part')
    a,b = [o.interpretation.logits for o in (whole, part)]
    assert torch.equal(a, b)
    assert whole.history.drop(columns='seconds').equals(part.history.drop(columns='seconds'))

def test_a_run_can_be_read_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    networks.library_names.cache_clear()
    assert Experiment(arch='timm/somewhere').arch=='timm/somewhere'
    with pytest.raises(ImportError, match=re.escape("timm is not installed: run pip install '.[timm]'")):
        ARCHS['timm/somewhere']()
    assert Experiment(arch='timm/somewhere').unused_choices()['width']=='timm/somewhere' # as on a page

@pytest.mark.parametrize('how, says', [
    (dict(arch='timm/convnext_ato'), 'timm has no network .*did you mean timm/convnext_atto'),
    (dict(arch='torchvision/resnet51'), 'did you mean torchvision/resnet50'),
    (dict(arch='tim/resnet50'), "unknown arch 'tim/resnet50'"),
    (dict(arch='timm/resnet10t', stem='large'), 'unknown stem')])
def test_a_wrong_network_is_an_error_at_once(how, says):
    with pytest.raises(ValueError, match=says): Experiment(**how)

def test_the_example_of_the_guide_runs(sample, tmp_path):
    exp = EXPERIMENTS['quickstart'].replace(name='shuffle', arch='torchvision/shufflenet_v2_x0_5', norm='group')
    run = quiet_run(exp.replace(fraction=.1, epochs=1, n_images=1), sample, tmp_path/'run')
    assert run.layers==['conv1','stage2','stage3','conv5'] and 'wrong_layers' in pictures(run)

def test_images_that_are_too_small(few, tmp_path):
    exp = of('torchvision/inception_v3', stem='original')
    with pytest.raises(ValueError, match='fails on images of 32 pixels, and the smallest images it takes have 75'):
        quiet_run(exp, few, tmp_path/'run')

def test_the_library_gives_the_same_network_as_itself():
    "Only norm and stem differ from torchvision's network of the same seed"
    import torchvision
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=7)
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        ours = library_network('torchvision/resnet18', 7, norm='batch', stem='original', size=64)
    x = torch.randn(4, 3, 64, 64)
    assert torch.equal(ours.train()(x), theirs.train()(x))
