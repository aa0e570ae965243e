"""Wrong arguments of what looks are one line, its figures stay small, and no stranger's path is opened."""
import contextlib,io,math,os,shutil,traceback,types
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.block import CategoryBlock,DataBlock,MultiCategoryBlock,RegressionBlock
from fastai.data.transforms import ColReader,RandomSplitter,get_image_files,parent_label
from fastai.learner import Learner
from fastai.losses import BCEWithLogitsLossFlat,CrossEntropyLossFlat,MSELossFlat
from fastai.vision.augment import Resize
from fastai.vision.data import ImageBlock
from PIL import Image
from torch import nn
from torch.nn import functional as F

from advtrain.all import GradCAM,ImageInterpretation,deletion_insertion,image_dls,image_grid,overlay,resnet_learner
from advtrain.files.tensors import load_tensors,save_tensors
from advtrain.pages.report import report_gallery
from advtrain.look.predict import weights_id
from advtrain.models import find_layer
from advtrain.runs.run import Run
from advtrain.runs.checksums import write_checksums
from advtrain.train.state import set_seed

def one_line(error):
    "Is it one line that advtrain itself raised?"
    file = traceback.extract_tb(error.__traceback__)[-1].filename
    return str(error).isprintable() and 'advtrain' in file.replace(os.sep, '/').split('/')

def refused(f, kinds=(TypeError,ValueError,IndexError)):
    "What `f` is refused with"
    with pytest.raises(kinds) as e: f()
    assert one_line(e.value), (type(e.value), str(e.value))
    return str(e.value)

def quiet_learner(data, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        learn = resnet_learner(image_dls(data, size=16, bs=30, device='cpu', **kwargs), width=4, precision='fp32')
    return learn

def interpreted(learn, ds='test'):
    with learn.no_bar(): return learn.interpret(ds)

@pytest.fixture(scope='module')
def learn(few): return quiet_learner(few)

@pytest.fixture(scope='module')
def interp(learn): return interpreted(learn)

@pytest.fixture(autouse=True)
def no_figure_left():
    yield
    plt.close('all')

def head(c, n=4): return nn.AdaptiveAvgPool2d(1),nn.Flatten(),nn.Linear(c, n)

def small_cnn(n=4):
    torch.manual_seed(0)
    body = nn.Conv2d(3, 8, 3),nn.ReLU(),nn.Conv2d(8, 8, 3),nn.ReLU()
    return nn.Sequential(*body, *head(8, n)).eval()

NET,X = small_cnn(),torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
MAPS,IMAGES = torch.rand(2, 16, 16),np.random.default_rng(0).random((2,16,16,3))
CAM = GradCAM(NET, '3')

def probabilities(x): return NET(x).softmax(1)

class Target:
    "An object that scores an output, as pytorch-grad-cam has them"
    def __call__(self, y): return y[0]

NUMBERS = 'three',-1,math.nan,2.5,[2],torch.ones(2)
FLAGS = 'no',None,torch.ones(2)
LAYERS = None,3,[],[None],[['layer4']],'layer9',np.zeros(2) # only methods of an interpretation take None
ROWS = None,'three',[.5],[math.nan],[-1],[10**6],[],[[1],[2,3]],[True],pd.DataFrame(dict(loss=[1])),slice('a')
SIZES = 3,'big',(0,1),(math.nan,1),(1e6,1),(1,2,3),[],np.zeros(2),(None,1)
TARGETS = 'Purse',99,-1,1.5,math.nan,None,[0,1,2],Target(),True
METHODS = 'gradcam+',None,['gradcam'],3
TITLES = 3,['a'],torch.ones(2)

TABLE = pd.DataFrame(dict(name=['a.png']))

WRONG = { # (function, argument) -> values that it refuses
    ('GradCAM', 'model'): ('resnet18',None,NET.state_dict()),
    ('GradCAM', 'layers'): LAYERS,
    ('GradCAM', 'method'): METHODS,
    ('GradCAM', 'average'): FLAGS,
    ('GradCAM', 'bs'): (0,*NUMBERS),
    ('GradCAM', 'channels_last'): FLAGS[::2],
    ('call', 'x'): (X.numpy(),list(X),None,X[0],X[:0],X.byte(),X*math.nan,X[:,:2],X.to_sparse()),
    ('call', 'targets'): ([Target()]*2,'cat',['cat','dog'],[0,1,2],4,-1,1.5,math.nan,[[0,1]],[None]*2,10**30,True),
    ('call', 'raw'): FLAGS,
    ('find_layer', 'layer'): LAYERS,
    ('overlay', 'image'): (IMAGES[0]*255,IMAGES[0,:4],None,'cat',IMAGES[0,...,0],IMAGES[0]*math.nan),
    ('overlay', 'cam'): (MAPS[0]*9,MAPS[0,:4],None,MAPS[0]*math.nan),
    ('overlay', 'alpha'): (2,*NUMBERS[:3],None),
    ('overlay', 'cmap'): ('jett',None,3),
    ('image_grid', 'images'): (None,[],3,'ab',[None],np.zeros((2,3,8,8)),IMAGES*9,IMAGES*math.nan,[IMAGES[:0]]),
    ('image_grid', 'titles'): ('ab',['a'],3),
    ('image_grid', 'colors'): (['red'],['reed','red'],3),
    ('image_grid', 'ncols'): (0,None,*NUMBERS),
    ('image_grid', 'figsize'): SIZES,
    ('image_grid', 'title'): TITLES,
    ('image_grid', 'total'): NUMBERS,
    ('deletion_insertion', 'predict'): (None,NET,lambda x: None,lambda x: x),
    ('deletion_insertion', 'x'): (X.numpy(),X[0],X.long(),None),
    ('deletion_insertion', 'maps'): (MAPS[:1],MAPS*9,MAPS*math.nan,None),
    ('deletion_insertion', 'targets'): ([0],[0,9],None,'a',[.5,1.]),
    ('deletion_insertion', 'steps'): (0,10**9,*NUMBERS),
    ('deletion_insertion', 'baseline'): METHODS,
    ('deletion_insertion', 'bs'): (0,*NUMBERS),
    ('interpret', 'ds'): ('tests',None,3,[],[3],b'test','/nowhere',['/nowhere/a.png'],'x'*5000,'a\0b',TABLE),
    ('interpret', 'labelled'): FLAGS[::2],
    ('misclassified', 'k'): NUMBERS,
    ('misclassified', 'actual'): ('Purse',3,math.nan,['Bag'],torch.ones(2)),
    ('correct', 'k'): NUMBERS,
    ('confused', 'predicted'): ('Purse',3),
    ('rows', 'which'): ROWS,
    ('inputs', 'rows'): ROWS[:3],
    ('pixels', 'x'): (3,X[0],X),
    ('plot_predictions', 'rows'): ROWS[:3],
    ('plot_predictions', 'ncols'): (0,None,*NUMBERS),
    ('plot_predictions', 'figsize'): SIZES[:3],
    ('plot_per_class', 'figsize'): SIZES[:3],
    ('calibration', 'bins'): (0,10**9,*NUMBERS),
    ('plot_calibration', 'bins'): (0,),
    ('plot_calibration', 'figsize'): SIZES[:3],
    ('top_losses', 'k'): (10**6,*NUMBERS),
    ('top_losses', 'largest'): FLAGS,
    ('top_losses', 'items'): FLAGS,
    ('most_confused', 'min_val'): NUMBERS,
    ('plot_top_losses', 'k'): (0,-1,[10**6],['a'],'a'),
    ('plot_top_losses', 'nrows'): (0,'a'),
    ('plot_top_losses', 'ncols'): (0,'a'),
    ('plot_top_losses', 'title'): TITLES,
    ('plot_confusion_matrix', 'normalize'): FLAGS,
    ('plot_confusion_matrix', 'cmap'): ('blues',None),
    ('plot_confusion_matrix', 'norm_dec'): (99,*NUMBERS),
    ('plot_confusion_matrix', 'plot_txt'): FLAGS,
    ('plot_confusion_matrix', 'figsize'): SIZES[:3],
    ('plot_confusion_matrix', 'dpi'): ('a',0,math.nan,1e9),
    ('plot_confusion_matrix', 'colour'): ('red',),
    ('plot_confusion_matrix', 'title'): TITLES,
    ('gradcam', 'rows'): ROWS[:3],
    ('gradcam', 'layers'): LAYERS[1:],
    ('gradcam', 'method'): METHODS,
    ('gradcam', 'targets'): TARGETS,
    ('gradcam', 'raw'): FLAGS,
    ('faithfulness', 'method'): METHODS,
    ('faithfulness', 'targets'): TARGETS[:4],
    ('faithfulness', 'steps'): (0,10**9,*NUMBERS),
    ('faithfulness', 'baseline'): METHODS,
    ('compare_methods', 'methods'): (None,[],'gradcam+',[3]),
    ('compare_methods', 'rows'): ROWS[1:4],
    ('plot_gradcam', 'rows'): ROWS[:3],
    ('plot_gradcam', 'layers'): (*LAYERS[1:],['layer1']*99),
    ('plot_gradcam', 'against'): ('Purse',99,1.5,Target()),
    ('plot_gradcam', 'areas'): FLAGS,
    ('plot_gradcam', 'ncols'): (0,*NUMBERS[:2]),
    ('plot_gradcam', 'figsize'): SIZES[:3],
    ('plot_gradcam', 'title'): TITLES,
    ('save', 'file'): (3,None,''),
    ('load', 'file'): (3,None,'','x'*5000),
    ('load', 'learn'): (3,None,'x'),
    ('load', 'root'): (3,''),
}

def call(name, learn, interp, /, **wrong):
    "Call a function with one argument changed"
    rows,looked = dict(rows=[1]),dict(rows=[1], layers=['layer2'])
    judged = dict(predict=probabilities, x=X, maps=MAPS, targets=[0,1], baseline='mean', steps=2)
    functions = {'GradCAM': (GradCAM, dict(model=NET, layers=['3'])), 'call': (CAM, dict(x=X)),
                 'find_layer': (find_layer, dict(model=NET)), 'overlay': (overlay, dict(image=IMAGES[0], cam=MAPS[0])),
                 'image_grid': (image_grid, dict(images=IMAGES)), 'deletion_insertion': (deletion_insertion, judged),
                 'interpret': (learn.interpret, {}), 'confused': (interp.confused, dict(actual='Bag')),
                 'load': (ImageInterpretation.load, dict(file=__file__, learn=learn)),
                 'plot_top_losses': (interp.plot_top_losses, dict(k=1))}
    function,given = functions.get(name) or (getattr(interp, name), {})
    if name in ('inputs','pixels','plot_predictions'): given = rows
    if name in ('gradcam','faithfulness','compare_methods','plot_gradcam'): given = looked
    with learn.no_bar(): return function(**given | wrong)

@pytest.mark.parametrize('name,argument', WRONG)
def test_a_wrong_argument_is_one_line(learn, interp, name, argument):
    accepted,before = [],plt.get_fignums()
    for value in WRONG[name,argument]:
        try: call(name, learn, interp, **{argument: value})
        except (TypeError, ValueError, IndexError, FileNotFoundError) as e: assert one_line(e), (value, type(e), str(e))
        else: accepted.append(value)
    assert not accepted
    assert plt.get_fignums()==before # nothing was half drawn

# --- models

def wraps(net):
    "The same network, wrapped in several ways, and the name of its layer 3"
    patched = small_cnn()
    patched.forward = types.MethodType(lambda self, x: nn.Sequential.forward(self, x), patched)
    nested = nn.Sequential(nn.DataParallel(net[:4]), *net[4:])
    nested[0].device_ids = [0,1] # as on a machine with two GPUs, where each would have a copy with its own hooks
    return {'DataParallel': (nn.DataParallel(net), 'module.3'), 'without module': (nn.DataParallel(net), '3'),
            'DataParallel inside': (nested, '0.module.3'),
            'replaced forward': (patched, '3'), 'module': (nn.DataParallel(net), net[3])}

@pytest.mark.parametrize('name', wraps(NET))
def test_wrapped_models_give_the_same_maps(name):
    model,layer = wraps(NET)[name]
    assert torch.allclose(GradCAM(model, layer)(X), CAM(X), atol=1e-5)
    if 'inside' in name: assert model[0].device_ids==[0,1]

def test_a_compiled_model_is_computed_as_it_is_written():
    "Hooks that come after the compilation are not called by compiled code"
    compiled,inplace = torch.compile(NET, backend='eager'),small_cnn()
    part = nn.Sequential(torch.compile(small_cnn()[:4], backend='eager'), *NET[4:])
    inplace.compile(backend='eager')
    for model,layer in ((compiled,'3'), (compiled,'_orig_mod.3'), (part,'0._orig_mod.3'), (inplace,'3')):
        model(X)
        assert torch.allclose(GradCAM(model, layer)(X), CAM(X), atol=1e-5), layer
    assert weights_id(compiled)==weights_id(NET)

@pytest.mark.filterwarnings('ignore::DeprecationWarning','ignore::FutureWarning')
def test_scripted_and_traced_models_are_refused():
    for model in (torch.jit.script(NET), torch.jit.trace(NET, X), torch.jit.freeze(torch.jit.script(NET))):
        assert 'torch.jit' in refused(partial(GradCAM, model, '3'))
    assert 'torch.jit' in refused(lambda: GradCAM(nn.Sequential(torch.jit.script(NET)), '0'))

def test_weights_that_are_not_there():
    with torch.device('meta'): model = small_cnn()
    assert 'load them first' in refused(lambda: GradCAM(model, '3')(X))

class Block(nn.Module):
    "What a ConvNeXt has inside: a norm and linear layers over the last dimension"
    def __init__(self, c):
        super().__init__()
        self.conv,self.norm = nn.Conv2d(c, c, 3, padding=1, groups=c),nn.LayerNorm(c)
        self.wide,self.act,self.mlp = nn.Linear(c, 2*c),nn.GELU(),nn.Linear(2*c, c)
    def forward(self, x):
        h = self.norm(self.conv(x).permute(0,2,3,1))
        return x + self.mlp(self.act(self.wide(h))).permute(0,3,1,2)

def convnext(c):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, c, 4, 4), Block(c), nn.ReLU(), *head(c)).eval()

def map_by_hand(net, name, x):
    "GradCAM of a layer whose channels are last"
    acts = []
    hook = net.get_submodule(name).register_forward_hook(lambda m,i,o: acts.append(o))
    y = net(x)
    hook.remove()
    grad, = torch.autograd.grad(y.gather(1, y.argmax(1)[:,None]).sum(), acts[0])
    small = (grad.mean((1,2), keepdim=True)*acts[0]).sum(-1).relu()
    return F.interpolate(small[None], x.shape[2:], mode='bilinear')[0].detach()

@pytest.mark.parametrize('side', [(32,32),(32,48)])
@pytest.mark.parametrize('name', ['1.norm','1.wide','1.act','1.mlp'])
def test_channels_that_are_last(name, side):
    net,x = convnext(24),torch.randn(3, 3, *side)
    assert torch.allclose(GradCAM(net, name)(x, raw=True)[0], map_by_hand(net, name, x), rtol=1e-4, atol=1e-7)
    assert torch.equal(GradCAM(net, '1.conv')(x), GradCAM(net, '1.conv', channels_last=False)(x))
    assert torch.equal(GradCAM(net, '1')(x), GradCAM(net, '1', channels_last=False)(x))

@pytest.mark.parametrize('name', ['1','1.norm','1.mlp','2'])
def test_channels_that_may_be_last_are_asked_for(name):
    "As many channels as pixels in a row"
    net,x = convnext(8),torch.randn(3, 3, 32, 32)
    assert 'channels_last=' in refused(lambda: GradCAM(net, name)(x))
    if name in ('1.norm','1.mlp'):
        maps = GradCAM(net, name, channels_last=True)(x, raw=True)[0]
        assert torch.allclose(maps, map_by_hand(net, name, x), rtol=1e-4, atol=1e-7)

class Tokens(nn.Module):
    def forward(self, x): return x.flatten(2).mT

class ClassToken(nn.Module):
    "A token of zeros before the others"
    def forward(self, x): return torch.cat([torch.zeros_like(x[:,:1]), x], 1)

class Mean(nn.Module):
    def forward(self, x): return x.mean(1)

@pytest.mark.parametrize('more', [[],[ClassToken()],[ClassToken(),ClassToken()]])
def test_tokens_of_patches_become_a_map(more):
    "The map of tokens is that of the same numbers as a map"
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), Tokens(), *more, nn.GELU(), Mean(), nn.Linear(8, 4))
    tokens = GradCAM(net, str(2+len(more)))(X, 1, raw=True)
    as_map = nn.Sequential(net[0], nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net[-1])
    n = (X.shape[-1]//4)**2
    scale = n/(n+len(more)) # the mean has more tokens
    assert torch.allclose(tokens, scale*GradCAM(as_map, '1')(X, 1, raw=True), rtol=1e-4, atol=1e-7)

def test_tokens_that_form_no_square_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), Tokens(), nn.LayerNorm(8), Mean(), nn.Linear(8, 4))
    assert 'a square of tokens' in refused(lambda: GradCAM(net, '2')(torch.randn(2, 3, 12, 32)))
    assert 'only square images' in refused(lambda: GradCAM(net, '2')(torch.randn(2, 3, 16, 12)))
    assert GradCAM(net, '0')(X).shape==(1,2,16,16)

@pytest.mark.parametrize('stop', [KeyboardInterrupt,RuntimeError])
def test_everything_is_given_back_whatever_happens(stop):
    net = small_cnn().train()
    net[1].eval()
    nested = nn.Sequential(nn.DataParallel(net))
    nested[0].device_ids = [0]
    def state():
        modules = [(m.training, len(m._forward_hooks)) for m in nested.modules()]
        return modules,[(id(p), p.grad, p.requires_grad) for p in nested.parameters()],nested[0].device_ids
    def interrupt(*args): raise stop('in the middle')
    before,handle = state(),net[2].register_forward_pre_hook(interrupt)
    with pytest.raises(stop, match='in the middle'): GradCAM(nested, ['0.module.0','0.module.3'])(X)
    handle.remove()
    assert state()==before and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()

def test_maps_in_the_middle_of_a_training_change_nothing(few):
    "A callback looks between the forward and the backward pass"
    class Look(Callback):
        def after_pred(self):
            if self.training: self.seen = GradCAM(self.model, ['layer1','layer4'])(self.x[:2])
    weights = []
    for cbs in ([],[Look()]):
        set_seed(0)
        learn = quiet_learner(few)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=cbs)
        weights.append(weights_id(learn.model))
    assert weights[0]==weights[1] and cbs[0].seen.shape==(2,2,16,16)

# --- learners

def simple(dls, n, loss=None): return Learner(dls, small_cnn(n), loss or CrossEntropyLossFlat())

def block(data, target, get_y, items=None, **kwargs):
    how = dict(get_y=get_y, splitter=RandomSplitter(.3, seed=1), item_tfms=Resize(16))
    made = DataBlock((ImageBlock,target), **how, **kwargs)
    return made.dataloaders(data if items is None else items, bs=18, num_workers=0, device='cpu')

def test_labels_from_a_table(few, tmp_path):
    files = sorted(get_image_files(few/'test'))
    df = pd.DataFrame(dict(name=list(map(str, files)), label=[f.parent.name for f in files]))
    learn = simple(block(few, CategoryBlock, ColReader('label'), df, get_x=ColReader('name')), 3)
    interp = interpreted(learn, 'valid')
    with learn.no_bar(): assert torch.allclose(interp.probs, learn.get_preds()[0], atol=1e-5)
    assert interp.table.path.tolist()==learn.dls.valid.items.name.tolist()
    interp.plot_predictions([0,1])
    assert interp.gradcam([0,1], '3').shape==(1,2,16,16)
    _,idxs,items = interp.top_losses(2, items=True)
    assert items.name.tolist()==interp.table.path[idxs.tolist()].tolist()
    for ds in (df[:4],files[:4]): assert interpreted(learn, ds).table.path.tolist()==df.name[:4].tolist()
    interp.save(tmp_path/'kept.safetensors')
    again = ImageInterpretation.load(tmp_path/'kept.safetensors', learn)
    assert again.table.equals(interp.table) and np.array_equal(again.pixels([0,1]), interp.pixels([0,1]))

@pytest.mark.parametrize('what', ['several labels','one logit','a number','a mask'])
def test_learners_of_no_single_class_are_told(few, what):
    def labels(f): return [f.parent.name]
    def number(f): return float(len(f.name))
    target,get_y,loss,n = {'several labels': (MultiCategoryBlock, labels, BCEWithLogitsLossFlat(), 3),
                           'one logit': (CategoryBlock, parent_label, BCEWithLogitsLossFlat(), 1),
                           'a number': (RegressionBlock, number, MSELossFlat(), 1),
                           'a mask': (CategoryBlock, parent_label, None, 3)}[what]
    learn = simple(block(few/'test', target, get_y, get_items=get_image_files), n, loss)
    if what=='a mask': learn.model = nn.Conv2d(3, 3, 1)
    with learn.no_bar():
        for ds in ('valid',sorted(get_image_files(few/'test'))[:3]):
            assert 'one logit per class' in refused(partial(learn.interpret, ds))

@pytest.mark.parametrize('dtype', [torch.float64,torch.bfloat16])
def test_a_model_of_another_type(few, interp, dtype):
    learn = quiet_learner(few)
    learn.model.load_state_dict(interp.learn.model.state_dict())
    learn.model.to(dtype)
    other = interpreted(learn)
    assert other.logits.dtype==other.losses.dtype==torch.float32 and (other.probs-interp.probs).abs().max()<.05
    assert other.faithfulness([0,1], layers='layer2', steps=2).table.notna().to_numpy().all()

@pytest.mark.parametrize('event', ['before_epoch','before_batch','after_epoch'])
def test_a_callback_that_interprets_is_told(few, event):
    "fastai would call the callback again, and the training would go on with other images"
    class Look(Callback): pass
    setattr(Look, event, lambda self: self.learn.interpret('valid'))
    learn = quiet_learner(few)
    with learn.no_bar(), learn.no_logging():
        with pytest.raises(RuntimeError, match='interpret cannot run inside fit'): learn.fit(1, cbs=Look())

def test_after_an_interrupted_training(few):
    class Stop(Callback):
        def after_batch(self): raise KeyboardInterrupt
    learn = quiet_learner(few)
    with learn.no_bar(), learn.no_logging(), pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=Stop())
    learn.remove_cbs([o for o in learn.cbs if isinstance(o, Stop)])
    assert len(interpreted(learn).table)==15

# --- files

def test_paths_of_a_stranger_are_not_opened(few, learn, interp, tmp_path):
    "Absolute ones, those with `..`, and links out of the data; a name of the folder makes them one's own"
    data,private = tmp_path/'data',tmp_path/'private'
    shutil.copytree(few, data)
    private.mkdir()
    Image.new('RGB', (16,16), (11,222,77)).save(private/'passport.png')
    (data/'album').symlink_to(private)
    own = quiet_learner(data)
    own.model.load_state_dict(learn.model.state_dict())
    interpreted(own).save(file := tmp_path/'kept.safetensors')
    tensors,about = load_tensors(file)
    folders = str(private),'../private','album','test/../../private'
    odd = [*(f'{o}/passport.png' for o in folders),'a\0b.png']
    about['paths'][:5] = odd
    save_tensors(tensors, file, about, 'interpretation')
    for maker in (own, lambda: own):
        got = ImageInterpretation.load(file, maker)
        assert torch.equal(got.logits, interp.logits) and got.per_class().images.sum()==15 # numbers can be read
        looks = got.pixels,got.inputs,got.plot_predictions,got.gradcam,got.__getitem__
        for look,i in ((look,i) for look in looks for i in range(5)):
            assert 'it was not opened' in refused(partial(look, [i]), PermissionError)
        assert 'it was not opened' in refused(got.with_flip, PermissionError)
        assert np.array_equal(got.pixels([5,14]), interp.pixels([5,14]))
    named = ImageInterpretation.load(file, own, root=tmp_path)
    about['root'] = str(tmp_path) # a folder that the file names is nobody's word
    save_tensors(tensors, file, about, 'interpretation')
    assert 'it was not opened' in refused(lambda: ImageInterpretation.load(file, own).pixels([0]), PermissionError)
    assert abs(named.pixels([0])[0,0,0]*255-[11,222,77]).max()<1

def test_images_that_are_links_are_ones_own(few, tmp_path):
    "A folder of data may be made of links to where the images lie"
    for f in get_image_files(few):
        (to := tmp_path/'data'/f.relative_to(few)).parent.mkdir(parents=True, exist_ok=True)
        to.symlink_to(f)
    learn = quiet_learner(tmp_path/'data')
    interp = interpreted(learn)
    interp.save(tmp_path/'kept.safetensors')
    again = ImageInterpretation.load(tmp_path/'kept.safetensors', learn)
    assert np.array_equal(again.pixels([0,9]), interp.pixels([0,9]))

@pytest.mark.parametrize('change', [dict(paths=[]), dict(paths=[3]*15), dict(vocab=['a']), dict(vocab=3),
                                    dict(targs=torch.full((15,), 9)), dict(losses=None)])
def test_a_file_whose_parts_do_not_fit(learn, interp, tmp_path, change):
    interp.save(file := tmp_path/'kept.safetensors')
    tensors,about = load_tensors(file)
    for k,v in change.items(): (about if k in about else tensors)[k] = v
    save_tensors({k: v for k,v in tensors.items() if v is not None}, file, about, 'interpretation')
    assert 'do not fit' in refused(lambda: ImageInterpretation.load(file, learn))

def test_names_that_are_not_utf8(few, learn, tmp_path):
    folder = os.fsencode(tmp_path/'photos')
    os.mkdir(folder)
    Image.new('RGB', (16,16)).save(tmp_path/'a.png')
    try: os.rename(tmp_path/'a.png', folder+b'/caf\xe9.png')
    except OSError: pytest.skip('this file system knows only UTF-8')
    interp = interpreted(learn, tmp_path/'photos')
    interp.plot_predictions([0]).canvas.draw()
    with open(folder+b'/caf\xe9.png', 'wb') as f: f.write(b'no image')
    assert r'caf\udce9.png' in refused(lambda: learn.interpret(tmp_path/'photos'))

def test_what_lies_among_photos(learn, few, tmp_path):
    "A pipe would keep the reader waiting, and a loop of links has no end"
    shutil.copy(get_image_files(few)[0], tmp_path/'a.png')
    os.mkfifo(tmp_path/'b.png')
    (tmp_path/'c.png').symlink_to('nowhere')
    (tmp_path/'.d.png').touch()
    (tmp_path/'in').mkdir()
    (tmp_path/'in'/'loop').symlink_to(tmp_path)
    with learn.no_bar(), pytest.warns(UserWarning, match='3 of 4 images in .* are left out') as said:
        interp = learn.interpret(tmp_path, labelled=False)
    assert interp.table.path.tolist()==[str(tmp_path/'a.png')]
    assert all(o in str(said[0].message) for o in ('b.png','c.png','.d.png'))

# --- figures

def many(n, per_class=3, names=None):
    "An interpretation of `n` classes that no network made"
    targs = torch.arange(n).repeat_interleave(per_class)
    logits = 9*F.one_hot(torch.where(torch.arange(len(targs))%7==0, (targs+1)%n, targs), n).float()
    interp = ImageInterpretation.__new__(ImageInterpretation)
    interp._learn,interp._dl,interp.vocab = None,None,names or [f'class {i}' for i in range(n)]
    interp.items = interp.files = [f'{i}.png' for i in range(len(targs))]
    interp._know(logits, targs, F.cross_entropy(logits, targs, reduction='none'))
    return interp

@pytest.mark.parametrize('n', [2,10,100,1000])
def test_figures_of_many_classes_stay_small(n):
    interp = many(n)
    fig,bars,sure = interp.plot_confusion_matrix(),interp.plot_per_class(),interp.plot_calibration()
    for o in (fig,bars,sure): assert np.prod(o.get_size_inches())<250
    ax = fig.axes[0]
    assert len(ax.get_xticklabels())<=200 and len(bars.axes[0].patches)==min(n, 100)
    assert len(ax.texts)==((interp.confusion_matrix()>0).sum() if n<=50 else 0)
    assert ('most confused: class ' in fig.get_supxlabel())==(n>50)
    assert ax.images[0].get_array().sum()==3*n # every image is somewhere
    assert bars.get_supxlabel()==('' if n<=100 else f'the 100 of {n:,} classes with the lowest accuracy')

def test_cells_are_of_several_classes_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr('advtrain.look.scores._MOST_CELLS', 60)
    fig,cm = (interp := many(170)).plot_confusion_matrix(),interp.confusion_matrix()
    blocks = np.pad(cm, (0,1)).reshape(57, 3, 57, 3).sum((1,3))
    assert np.array_equal(fig.axes[0].images[0].get_array(), blocks)
    assert 'each cell covers 3 classes' in ' '.join(fig.get_supxlabel().split())

def test_the_most_confused_pairs_are_right():
    interp = many(60, 7)
    first = interp.most_confused()[0]
    assert f'{first[0]} → {first[1]} ({first[2]})' in interp.plot_confusion_matrix().get_supxlabel()
    interp._know(9*F.one_hot(interp.targs, 60).float(), interp.targs, interp.losses)
    assert interp.plot_confusion_matrix().get_supxlabel().startswith('no classes are confused')

def test_figures_of_many_images_stay_small(interp, monkeypatch):
    monkeypatch.setattr('advtrain.look.interpret.MOST_IMAGES', 8)
    monkeypatch.setattr('advtrain.look.heatmaps.MOST_IMAGES', 8)
    rows = [1,3]*1000
    asked,pixels = [],ImageInterpretation.pixels
    monkeypatch.setattr(ImageInterpretation, 'pixels', lambda self, rows: asked.append(len(rows)) or pixels(self, rows))
    fig = interp.plot_predictions(rows)
    assert fig.get_supxlabel()=='the first 8 of 2,000 images' and sum(len(ax.images) for ax in fig.axes)==8
    fig = interp.plot_gradcam(rows, ['layer4'])
    assert fig.get_supxlabel().endswith('\nthe first 2 of 2,000 images') and asked==[8,2]

@pytest.mark.filterwarnings('ignore:Glyph')
def test_names_are_drawn_as_they_are(learn, interp, hostile_names, monkeypatch):
    "And titles do not reach into their neighbours' images"
    names = [*hostile_names,'a\nb\tc','caf\udce9','👟🎽 日本語のクラスの長い名前']
    odd = many(len(names), names=names)
    for fig in (odd.plot_confusion_matrix(), odd.plot_per_class()): fig.canvas.draw()
    odd._learn,odd._dl,odd.weights = learn,interp.dl,interp.weights
    monkeypatch.setattr(ImageInterpretation, 'pixels', lambda self, rows: np.zeros((len(rows),16,16,3)))
    fig = odd.plot_predictions(range(20), title=r'$\frac$ '*99)
    fig.canvas.draw()
    boxes = [ax.title.get_window_extent() for ax in fig.axes]
    assert all(a.x1<b.x0+6 for a,b in zip(boxes, boxes[1:]) if a.y0==b.y0)
    assert fig.get_suptitle().count('\n')==2

def test_areas_of_maps_that_are_larger_than_1(few):
    "Against another class, maps are compared as they are"
    learn = quiet_learner(few)
    learn.model.fc.weight.data *= 1e4
    interp = interpreted(learn)
    assert interp.gradcam([0,1], ['layer4'], raw=True).max()>2
    texts = [o.get_text() for ax in interp.plot_gradcam([0,1], ['layer4'], against='Bag').axes for o in ax.texts]
    assert any(o.startswith('del') for o in texts)

@pytest.mark.filterwarnings('ignore:Glyph')
def test_a_class_with_a_dollar_sign_is_compared(few, tmp_path):
    for split in ('train','test'):
        for name,f in zip((r'$\frac$','x'*200), sorted((few/split).iterdir())): shutil.copytree(f, tmp_path/split/name)
    interp = interpreted(quiet_learner(tmp_path))
    interp.plot_gradcam([0], ['layer2','layer4'], against=r'$\frac$').canvas.draw()

def test_a_page_shows_no_pictures_of_a_stranger(tiny_run, some, tmp_path):
    "Its numbers are there"
    Image.new('RGB', (16,16)).save(tmp_path/'passport.png')
    shutil.copytree(tiny_run.folder, tmp_path/'run')
    tensors,about = load_tensors(file := tmp_path/'run'/'predictions.safetensors')
    about['paths'][3] = str(tmp_path/'passport.png')
    save_tensors(tensors, file, about)
    write_checksums(tmp_path/'run')
    with pytest.warns(UserWarning, match='the page shows no images: .*passport.png'):
        gallery = report_gallery(Run(tmp_path/'run', data=some))
    assert gallery['images']['url'] is None and len(gallery['file'])==len(about['paths'])
