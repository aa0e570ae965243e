"""`convert_norms` in networks of torchvision and timm: no old norm is left, and the network trains."""
import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from advtrain.convert_norms import convert_norms
from advtrain.look.gradcam import GradCAM
from advtrain.look.map_layers import map_layers
from advtrain.networks import _make
from advtrain.norms import norms_in

pytest.importorskip('timm')

SMALL = '''torchvision/resnet18 torchvision/densenet121 torchvision/mobilenet_v2
torchvision/mobilenet_v3_small torchvision/efficientnet_b0 torchvision/convnext_tiny torchvision/swin_t
torchvision/vit_b_32 torchvision/googlenet torchvision/shufflenet_v2_x0_5 torchvision/mnasnet0_5
torchvision/regnet_y_400mf torchvision/resnext50_32x4d
timm/resnet10t timm/resnetv2_50 timm/resnest14d timm/convnext_atto timm/vit_tiny_patch16_224 timm/mixer_s32_224
timm/swin_tiny_patch4_window7_224 timm/efficientnet_lite0 timm/mobilenetv3_small_050 timm/poolformer_s12
timm/regnetx_002 timm/ghostnet_100 timm/levit_128s timm/edgenext_xx_small timm/mobilevit_xxs timm/dla34
timm/xcit_nano_12_p16_224 timm/cait_xxs24_224 timm/rexnet_100 timm/cspresnet50'''.split()
KINDS = {'layer': 'LayerNorm', 'group': 'GroupNorm', 'batch': 'BatchNorm2d'}

def converted(name, norm, **kwargs):
    torch.manual_seed(0)
    return convert_norms(_make(name, 10, 3, 64).double(), norm, **kwargs)

def in_training_without_dropout(model):
    model.train()
    for m in model.modules():
        if 'drop' in type(m).__name__.lower() or isinstance(m, nn.MultiheadAttention): m.eval()
        if hasattr(m, 'drop_rate'): m.drop_rate = 0. # of a function in its forward pass
        if hasattr(m, 'attn_drop') or 'StochasticDepth' in type(m).__name__: m.eval()
    return model

@pytest.mark.parametrize('norm', KINDS)
@pytest.mark.parametrize('name', SMALL)
def test_a_converted_network_trains(name, norm):
    model,_ = converted(name, norm)
    kinds = {type(m).__name__ for m in norms_in(model).values()}
    allowed = {KINDS[norm]} | ({'BatchNormAct2d'} if norm=='batch' else set()) # timm's batch norm, left as it is
    assert kinds and kinds<=allowed
    others = (nn.GroupNorm,nn.LayerNorm) if norm=='batch' else (nn.LayerNorm,_BatchNorm)
    assert not any(isinstance(m, others) for m in model.modules())
    assert norm=='batch' or not any('running_mean' in n for n,_ in model.named_buffers())
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    loss = nn.functional.cross_entropy(model(x), torch.arange(4))
    loss.backward()
    assert loss.isfinite()
    for n,p in model.named_parameters(): assert p.grad is not None and p.grad.isfinite().all(), n

@pytest.mark.parametrize('name', SMALL)
def test_with_layer_norm_an_image_does_not_depend_on_its_batch(name):
    model = in_training_without_dropout(converted(name, 'layer')[0])
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad(): assert (model(x)[:1]-model(x[:1])).abs().max() < 1e-5

PRE_ACTIVATION = 'torchvision/densenet121','timm/resnetv2_50' # some norms have no convolution before them
BATCH = 'torchvision/resnet18','torchvision/densenet121','timm/resnetv2_50','timm/mobilenetv3_small_050'

@pytest.mark.parametrize('name', BATCH)
def test_batch_norm_to_batch_norm_is_the_identity(name):
    torch.manual_seed(0)
    model = _make(name, 10, 3, 64)
    x = torch.randn(4, 3, 64, 64)
    model(x) # running statistics
    before = {k: v.clone() for k,v in model.state_dict().items()}
    logits = model.eval()(x)
    same,_ = convert_norms(model, 'batch')
    assert torch.equal(same(x), logits)
    after = same.state_dict()
    assert before.keys()==after.keys() and all(torch.equal(v, before[k]) for k,v in after.items())

@pytest.mark.parametrize('name', BATCH)
def test_without_norms_a_trained_network_computes_the_same_where_they_can_be_fused(name):
    torch.manual_seed(0)
    model = _make(name, 10, 3, 64).double()
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for _ in range(20): model(x)
    reference = copy.deepcopy(model)
    model,table = convert_norms(model.eval(), 'none')
    assert norms_in(model)=={} and table.after.str.startswith('fused').any()
    removed = table.module[table.after=='removed']
    assert bool(len(removed))==(name in PRE_ACTIVATION)
    for o in removed: # in the reference, they do nothing either
        norm = reference.get_submodule(o)
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1-norm.eps)
    assert torch.allclose(model(x), reference.eval()(x), rtol=1e-6)

def test_standardised_weights_in_any_network():
    model,table = converted('timm/resnet10t', 'layer', weight_std=True)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs)==(table.before=='weights').sum() > 5
    for m in convs: assert m.weight[0].sum().abs() < 1e-6 and (m.weight[0].square().sum()-1).abs() < 1e-3

@pytest.mark.parametrize('name', SMALL)
def test_layers_for_heat_maps_are_found_and_have_maps(name):
    model = converted(name, 'layer', weight_std=True)[0]
    for m in model.modules(): # some networks start with a last layer of zeros
        if isinstance(m, nn.Linear) and not m.weight.any(): nn.init.normal_(m.weight)
    x = torch.randn(2, 3, 64, 64)
    layers = map_layers(model, x)
    assert 1 <= len(layers) <= 4
    maps = torch.stack([GradCAM(model, layers)(x, target, raw=True) for target in range(10)])
    assert maps.shape==(10,len(layers),2,64,64) and maps.amax((0,2,3,4)).gt(0).all()
