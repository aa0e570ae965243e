"""Heat maps agree with pytorch-grad-cam, and ask no more of the model than they need."""
import copy
from collections import OrderedDict
from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import vgg

from advtrain.all import METHODS,GradCAM,find_layer,resnet18

PEERS = {
    'gradcam': 'GradCAM', 'gradcam++': 'GradCAMPlusPlus', 'hirescam': 'HiResCAM',
    'layercam': 'LayerCAM', 'xgradcam': 'XGradCAM'}
STAGES = ['layer1','layer2','layer3','layer4']

def vgg11(batch_norm=False):
    "torchvision's VGG-11 with a small head: its own has 120 million weights"
    features = vgg.make_layers(vgg.cfgs['A'], batch_norm)
    for m in features:
        # as torchvision does
        if isinstance(m, nn.Conv2d): nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')
    head = dict(pool=nn.AdaptiveAvgPool2d(7), flat=nn.Flatten(), hidden=nn.Linear(512*49, 64), relu=nn.ReLU(True),
        out=nn.Linear(64, 10))
    return nn.Sequential(OrderedDict(features=features, **head))

MODELS = { # a model with random weights, its layers, and the side of its images
    'layer norm, stride 2': (lambda: resnet18(width=16), STAGES, 32),
    'layer norm, stride 1': (lambda: resnet18(width=16, last_stride=1), STAGES, 32),
    'batch norm, stride 2': (lambda: resnet18(norm='batch', width=16), STAGES, 32),
    'batch norm, stride 1': (lambda: resnet18(norm='batch', width=16, last_stride=1), STAGES, 32),
    'standardised weights, norms before convolutions': (
        lambda: resnet18(width=16, weight_std=True, pre_act=True), STAGES, 32),
    'torchvision resnet18': (lambda: torchvision.models.resnet18(num_classes=10), STAGES, 96),
    'torchvision vgg11_bn': (lambda: vgg11(batch_norm=True), ['features.14','features.21','features.28'], 64),
    'torchvision mobilenet_v2': (
        lambda: torchvision.models.mobilenet_v2(num_classes=10),
        ['features.3.conv.1','features.10.conv.1','features.18'], 96),
}

@cache
def made(name):
    "A model, its layers, and images"
    make,layers,side = MODELS[name]
    torch.manual_seed(0)
    model = make()
    x,last = torch.randn(4, 3, side, side),[m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    # batch norms and logits on the scale of a trained network: at initialisation MobileNet's maps are below 1e-7,
    # which pytorch-grad-cam takes for 0
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d): m.momentum = 1
        model(torch.randn(32, 3, side, side))
        last.weight.mul_(10/model.eval()(x).std())
    return model,layers,x

@pytest.fixture(params=MODELS)
def case(request): return made(request.param)

def peer_maps(name, model, layers, x, targets):
    "Maps by pytorch-grad-cam, if it is installed"
    peer = pytest.importorskip('pytorch_grad_cam',
        reason='pytorch-grad-cam, a development dependency, is not installed')
    targets = [peer.utils.model_targets.ClassifierOutputTarget(t) for t in targets] if targets else None
    with getattr(peer, name)(model, [find_layer(model, o) for o in layers]) as cam:
        return torch.as_tensor(cam(x, targets))

# GradCAM++ divides by a sum that can be 0 where activations can be negative, and two implementations then differ
PAIRS = [
    (model, method) for model in MODELS for method in PEERS
    if (model, method)!=('standardised weights, norms before convolutions', 'gradcam++')]

@pytest.mark.parametrize('case,method', PAIRS, indirect=['case'])
def test_maps_equal_those_of_pytorch_grad_cam(case, method):
    model,layers,x = case
    targets = [1,5,9,5]
    ours = GradCAM(model, layers, method)(x, targets)
    for layer,maps in zip(layers, ours):
        assert (maps-peer_maps(PEERS[method], model, [layer], x, targets)).abs().max() < 1e-4, layer
    assert ours.std() > .05 # there is something to compare

@pytest.mark.parametrize('case,method', PAIRS, indirect=['case'])
def test_the_average_over_layers_equals_that_of_pytorch_grad_cam(case, method):
    model,layers,x = case
    average = GradCAM(model, layers, method, average=True)(x, [1,5,9,5])[0]
    assert (average-peer_maps(PEERS[method], model, layers, x, [1,5,9,5])).abs().max() < 1e-4

def test_predicted_class_is_the_default(case):
    model,layers,x = case
    assert (GradCAM(model, layers[-1])(x)[0]-peer_maps('GradCAM', model, layers[-1:], x, None)).abs().max() < 1e-4

def test_eigencam_equals_that_of_pytorch_grad_cam_but_for_the_sign(case):
    "A principal component has no sign: theirs is what LAPACK gives, ours is large where activations are"
    model,layers,x = case
    acts = {}
    hooks = [
        find_layer(model, o).register_forward_hook(lambda m,i,o,name=o: acts.setdefault(name, o.detach().clone()))
        for o in layers]
    model(x)
    for h in hooks: h.remove()
    for layer,ours in zip(layers, GradCAM(model, layers, 'eigencam')(x)):
        theirs = peer_maps('EigenCAM', model, [layer], x, [0]*4)
        from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
        projected,total = torch.as_tensor(get_2d_projection(acts[layer].numpy())),acts[layer].sum(1)
        same = (projected*(total-total.mean((1,2), keepdim=True))).sum((1,2)) > 0
        assert (ours[same]-theirs[same]).abs().max() < 1e-4 if same.any() else True
        turned = peer_scaled(-projected, x.shape[-1])
        assert (ours[~same]-turned[~same]).abs().max() < 1e-4 if (~same).any() else True

def peer_scaled(maps, side):
    "Maps scaled and enlarged by pytorch-grad-cam"
    from pytorch_grad_cam.utils.image import scale_cam_image
    return torch.as_tensor(scale_cam_image(scale_cam_image(np.maximum(maps.numpy(), 0), (side, side))))

@pytest.fixture(scope='module')
def inplace_and_plain():
    "A torchvision VGG whose ReLUs work in place, and the same with ReLUs that do not"
    torch.manual_seed(0)
    inplace = vgg11().eval()
    plain = copy.deepcopy(inplace)
    for m in plain.modules():
        if isinstance(m, nn.ReLU): m.inplace = False
    return inplace,plain

@pytest.mark.parametrize('layer', ['features.0','features.3','features.8'])
@pytest.mark.parametrize('method', METHODS)
def test_a_convolution_before_an_inplace_relu(inplace_and_plain, layer, method):
    "The map is of the convolution's output, although the next layer overwrites it"
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours,expected = (GradCAM(m, layer, method)(x, 3) for m in inplace_and_plain)
    assert torch.equal(ours, expected)

def test_a_layer_inside_another_and_the_same_twice():
    torch.manual_seed(0)
    model,x = resnet18(width=16),torch.randn(3, 3, 32, 32)
    layers = ['layer4.1.conv2','layer2','layer4','layer4','layer1.0']
    together = GradCAM(model, layers)(x, 2)
    for maps,layer in zip(together, layers): assert torch.allclose(maps, GradCAM(model, layer)(x, 2)[0], atol=1e-6)

@pytest.mark.parametrize('wrap', [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_what_is_around_the_call_does_not_matter(wrap):
    torch.manual_seed(0)
    model,x = resnet18(width=16).train().requires_grad_(False),torch.randn(3, 3, 32, 32)
    expected = GradCAM(model, STAGES)(x, 1)
    with wrap(): maps = GradCAM(model, STAGES)(x.clone(), 1)
    assert torch.equal(maps, expected) and not maps.is_inference()

def test_autocast_reaches_the_model_but_not_the_maps(monkeypatch):
    "Activations come in bf16, and what is made of them is computed in fp32"
    torch.manual_seed(0)
    model,inside,maps = resnet18(width=16),[],[]
    def watched(act, grad):
        maps.append((torch.is_autocast_enabled('cpu'), act.dtype, grad.dtype))
        return act.sum(1)
    monkeypatch.setitem(METHODS, 'gradcam', watched)
    hook = model.layer3[0].conv1.register_forward_hook(lambda m,i,o: inside.append(o.dtype))
    with torch.autocast('cpu', torch.bfloat16): GradCAM(model, 'layer3')(torch.randn(3, 3, 32, 32), 1)
    hook.remove()
    assert inside==[torch.bfloat16] and maps==[(False,torch.float32,torch.float32)]

def test_batches_bound_what_the_model_sees():
    torch.manual_seed(0)
    model,seen = resnet18(width=16),[]
    hook = model.conv1.register_forward_hook(lambda m,i,o: seen.append((len(o),o.requires_grad)))
    GradCAM(model, 'layer4', bs=16)(torch.randn(50, 3, 32, 32))
    hook.remove()
    assert seen==[(16,False)]*3+[(2,False)] # and nothing before the first layer is recorded

def test_no_gradient_of_a_weight_is_computed():
    torch.manual_seed(0)
    model = resnet18(width=16)
    for p in model.parameters(): p.register_hook(lambda g: pytest.fail('the gradient of a weight was computed'))
    GradCAM(model, STAGES)(torch.randn(2, 3, 32, 32))
    assert all(p.grad is None for p in model.parameters())

def test_everything_is_given_back_after_an_error():
    model = resnet18(width=16, norm='batch').train()
    model.layer3.eval()
    def state():
        return ([(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
            [(id(p), p.requires_grad, p.grad) for p in model.parameters()])
    def broken(module, args): raise RuntimeError('in the middle')
    before,x = state(),torch.randn(2, 3, 32, 32)
    handle = model.layer4[0].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match='in the middle'): GradCAM(model, STAGES)(x)
    handle.remove()
    with pytest.raises(ValueError, match='does not return a map'): GradCAM(model, ['layer1','fc'])(x)
    with pytest.raises(ValueError, match='from 0 to 9'): GradCAM(model, STAGES)(x, 10)
    assert state()==before and torch.is_grad_enabled()

def test_a_layer_that_the_logits_do_not_depend_on():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used,self.aside,self.fc = nn.Conv2d(3, 4, 3),nn.Conv2d(3, 4, 3),nn.Linear(4, 5)
        def forward(self, x):
            self.aside(x)
            return self.fc(self.used(x).mean((2,3)))
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(ValueError, match='do not depend on the layer aside'): GradCAM(Aside(), ['used','aside'])(x)
    with pytest.raises(ValueError, match='do not depend on the layers aside'): GradCAM(Aside(), 'aside')(x)
