"""Each transform's batch form is albumentations' own: equal images from equal parameters, distributed alike."""
import warnings
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck,given,settings,strategies as st
from scipy.stats import binomtest,ks_2samp

from advtrain.lazy_imports import A
from advtrain.data import batch_opencv,batch_transforms
from advtrain.data.augment import cutout_augs,shift_gray_augs
from advtrain.data.batch_transforms import apply_params,draw_params
from advtrain.data.transforms import augment_batch,batch_lacks

warnings.filterwarnings('ignore', message='ShiftScaleRotate is a special case')
pytestmark = pytest.mark.filterwarnings('ignore:ShiftScaleRotate')
BORDERS = cv2.BORDER_CONSTANT,cv2.BORDER_REPLICATE,cv2.BORDER_REFLECT,cv2.BORDER_WRAP,cv2.BORDER_REFLECT_101
POSITIONS = 'center','top_left','top_right','bottom_left','bottom_right','random'

def stacked(params):
    "albumentations' parameters of several images, as `draw_params` would give them"
    def column(k):
        rows = [p[k] for p in params]
        if isinstance(rows[0], dict): return {key: np.array([r[key] for r in rows]) for key in rows[0]}
        if rows[0] is None: return None
        if k=='holes': rows = [np.pad(r, [(0, max(map(len, rows))-len(r)), (0,0)]) for r in rows]
        return np.array(rows)
    return {k: column(k) for k in params[0] if k in (
        'crop_coords','pad_params','pad_top','pad_bottom','pad_left','pad_right',
        'matrix','holes','seed','alpha','beta')}

def both(t, x):
    "What albumentations makes of the images in `x`, and what `apply_params` makes of them with the same parameters"
    aug = A.Compose([t], save_applied_params=True)
    outs = [aug(image=o) for o in x.numpy()]
    theirs = np.stack([o['image'] for o in outs])
    ours = apply_params(t, x, stacked([o['applied_transforms'][0][1] for o in outs])).numpy()
    assert theirs.shape==ours.shape and theirs.dtype.kind==ours.dtype.kind
    return theirs.astype(np.float64),ours.astype(np.float64)

@st.composite
def images(draw, least=4, most=40):
    "A batch of noise: the hardest case for an interpolation"
    h,w = draw(st.integers(least, most)),draw(st.integers(least, most))
    x = np.random.default_rng(draw(st.integers(0, 2**32-1))).integers(0, 256, (3,h,w,3), dtype=np.uint8)
    return torch.from_numpy(x if draw(st.booleans()) else x.astype(np.float32)/255)

def unit(x): return 1/255 if x.is_floating_point() else 1
def fills(x):
    return st.one_of(st.integers(0, 255), st.tuples(*[st.integers(0, 255)]*3)).map(
        lambda f: np.multiply(f, unit(x)).tolist() if x.is_floating_point() else f)

PROPERTY = partial(settings, max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

@PROPERTY()
@given(x=images(), data=st.data())
def test_flips(x, data):
    t = data.draw(st.sampled_from([A.HorizontalFlip(p=1), A.VerticalFlip(p=1), A.NoOp(p=1)]))
    assert np.array_equal(*both(t, x))

@PROPERTY()
@given(x=images(), data=st.data())
def test_crops(x, data):
    (h,w),kind = x.shape[1:3],data.draw(st.sampled_from([A.RandomCrop, A.CenterCrop]))
    pad = data.draw(st.booleans())
    size = [data.draw(st.integers(1, 60 if pad else n)) for n in (h,w)]
    more = dict(pad_if_needed=pad, border_mode=data.draw(st.sampled_from(BORDERS)),
        pad_position=data.draw(st.sampled_from(POSITIONS)), fill=data.draw(fills(x)))
    assert np.array_equal(*both(kind(*size, p=1, **more), x))

@PROPERTY()
@given(x=images(), data=st.data())
def test_pads(x, data):
    more = dict(border_mode=data.draw(st.sampled_from(BORDERS)), fill=data.draw(fills(x)), p=1)
    padding = data.draw(st.one_of(
        st.integers(0, 20), st.tuples(*[st.integers(0, 20)]*2), st.tuples(*[st.integers(0, 20)]*4)))
    assert np.array_equal(*both(A.Pad(padding, **more), x))
    least = [data.draw(st.integers(1, 70)) for _ in (0,1)]
    assert np.array_equal(*both(A.PadIfNeeded(*least, position=data.draw(st.sampled_from(POSITIONS)), **more), x))
    divisors = dict(min_height=None, min_width=None,
        pad_height_divisor=data.draw(st.integers(1, 30)), pad_width_divisor=data.draw(st.integers(1, 30)))
    assert np.array_equal(*both(A.PadIfNeeded(**divisors, position=data.draw(st.sampled_from(POSITIONS)), **more), x))

LARGER = (64,64),(96,96),(128,128),(224,224),(150,90)

def of_presets(h, w):
    "The transforms of our presets, for images of this height and width, each applied to every image"
    leaves = [*cutout_augs(h, flip=True).transforms, *shift_gray_augs(h).transforms[2:4]]
    sized = [A.PadIfNeeded(h+8, w+8, border_mode=0), A.RandomCrop(h-3, w-5)]
    reflected = A.Affine(scale=(.5,1.5), rotate=(-90,90), border_mode=cv2.BORDER_REFLECT_101)
    hole = A.CoarseDropout((1,1), (h//2,h//2), (w//2,w//2), fill=(255,128,0))
    leaves = [*sized, *leaves[2:], hole, A.RandomBrightnessContrast(.4, .4), reflected]
    for t in leaves: t.p = 1
    return leaves

@pytest.mark.parametrize('size', LARGER, ids=lambda o: '×'.join(map(str, o)))
def test_larger_images(size):
    "albumentations' pixels; OpenCV before version 5 interpolates with rounded coordinates"
    x = torch.randint(0, 256, (3,*size,3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for t in of_presets(*size):
        theirs,ours = both(t, x)
        rounded = isinstance(t, (A.Rotate,A.Affine)) and not batch_opencv.OPENCV_5
        if rounded: assert abs(theirs-ours)[:,1:-1,1:-1].mean()<=2, t
        else: assert np.array_equal(theirs, ours), t

@pytest.mark.parametrize('size', [(32,32),(60,97)], ids=lambda o: '×'.join(map(str, o)))
def test_opencv_and_tensor_operations_agree(size, monkeypatch):
    "So a GPU gives the pixels of a CPU; where they are interpolated, a few are a level off"
    x = torch.randint(0, 256, (8,*size,3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for t in of_presets(*size):
        params = draw_params(t, x, np.random.default_rng(0))
        with_opencv = apply_params(t, x, params)
        with monkeypatch.context() as m:
            for o in batch_opencv,batch_transforms: m.setattr(o, 'opencv_takes', lambda x: False)
            with_tensors = apply_params(t, x, params)
        difference = (with_opencv.int()-with_tensors.int()).abs()
        interpolated = isinstance(t, (A.Rotate,A.Affine))
        assert (difference>0).float().mean()<=.01*interpolated and difference.max()<=interpolated, t

@pytest.mark.parametrize('strides', ['channels first','every other image','sideways'])
def test_images_in_any_layout(strides):
    x = torch.randint(0, 256, (8,20,30,3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = {'channels first': x.permute(0,3,1,2).contiguous().permute(0,2,3,1), 'every other image': x[::2],
         'sideways': x.transpose(1, 2)}[strides]
    assert not y.is_contiguous()
    for t in of_presets(*y.shape[1:3]):
        params = draw_params(t, y, np.random.default_rng(0))
        assert torch.equal(apply_params(t, y, params), apply_params(t, y.contiguous(), params)), t

def ranges(lo, hi): return st.tuples(*[st.floats(lo, hi)]*2).map(lambda o: tuple(sorted(o)))

@PROPERTY()
@given(x=images(), data=st.data())
def test_warps(x, data):
    "Within 2/255 on average over the pixels that are not at the rim"
    shared = dict(border_mode=data.draw(st.sampled_from(BORDERS)), fill=data.draw(fills(x)), p=1)
    t = data.draw(st.one_of(
        st.builds(A.Rotate, ranges(-180, 180), **{k: st.just(v) for k,v in shared.items()}),
        st.builds(A.Affine, scale=ranges(.4, 2), rotate=ranges(-180, 180), shear=ranges(-30, 30),
            translate_percent=ranges(-.4, .4), **{k: st.just(v) for k,v in shared.items()}),
        st.builds(A.Affine, translate_px=st.tuples(st.integers(-9, 0), st.integers(0, 9)), keep_ratio=st.just(True),
            scale=ranges(.5, 2), **{k: st.just(v) for k,v in shared.items()}),
        st.builds(A.ShiftScaleRotate, shift_limit=ranges(-.3, .3), scale_limit=ranges(-.4, .5),
            rotate_limit=ranges(-90, 90), **{k: st.just(v) for k,v in shared.items()})))
    theirs,ours = both(t, x)
    assert abs(theirs-ours)[:,1:-1,1:-1].mean() <= 2*unit(x)

@PROPERTY()
@given(x=images(), data=st.data())
def test_cutout(x, data):
    h,w = x.shape[1:3]
    if data.draw(st.booleans()):
        sizes = [data.draw(st.tuples(*[st.integers(1, n)]*2).map(sorted).map(tuple)) for n in (h,w)]
    else: sizes = [data.draw(ranges(.1, .9)) for _ in (0,1)]
    fill = data.draw(st.one_of(fills(x), st.sampled_from(['random','random_uniform'])))
    number = data.draw(st.tuples(*[st.integers(1, 5)]*2).map(sorted).map(tuple))
    assert np.array_equal(*both(A.CoarseDropout(number, *sizes, fill=fill, p=1), x))

@PROPERTY()
@given(x=images(), data=st.data())
def test_gray(x, data):
    theirs,ours = both(
        A.ToGray(method=data.draw(st.sampled_from(['weighted_average','average','max','desaturation'])), p=1), x)
    assert abs(theirs-ours).max() <= unit(x)

@PROPERTY()
@given(x=images(), data=st.data())
def test_brightness(x, data):
    t = A.RandomBrightnessContrast(
        data.draw(ranges(-.9, .9)), data.draw(ranges(-.9, .9)), data.draw(st.booleans()), data.draw(st.booleans()), p=1)
    theirs,ours = both(t, x)
    assert abs(theirs-ours).max() <= unit(x)

@PROPERTY()
@given(x=images(), mean=st.floats(.1, .9), std=st.floats(.1, .9))
def test_normalize(x, mean, std):
    top = 1. if x.is_floating_point() else 255.
    theirs,ours = both(A.Normalize((mean, .5, .4), (std, .25, .3), max_pixel_value=top), x)
    assert abs(theirs-ours).max() < 1e-4

@pytest.mark.parametrize('kind', ['image','image_per_channel','min_max','min_max_per_channel'])
def test_normalize_each_image(kind):
    x = torch.randint(0, 256, (4,20,24,3), dtype=torch.uint8)
    theirs,ours = both(A.Normalize(normalization=kind), x)
    assert abs(theirs-ours).max() < 1e-3

DRAWN = {'crop': A.RandomCrop(20, 25, p=1),
         'crop, padded at random': A.RandomCrop(50, 60, pad_if_needed=True, pad_position='random', p=1),
         'pad at random': A.PadIfNeeded(50, 50, position='random', p=1), 'rotate': A.Rotate((-20,60), p=1),
         'affine': A.Affine(
             scale={'x': (.5,1.2), 'y': (.8,2)}, rotate=(-30,10), shear={'x': (-5,20), 'y': (0,9)},
             translate_percent={'x': (-.3,.1), 'y': (0,.4)}, p=1),
         'affine, pixels': A.Affine(
             translate_px={'x': (-9,3), 'y': (0,5)}, scale=(.5,2), balanced_scale=True, keep_ratio=True, p=1),
         'shift, scale, rotate': A.ShiftScaleRotate(p=1),
         'holes, pixels': A.CoarseDropout((1,3), (4,12), (2,9), p=1),
         'holes, shares': A.CoarseDropout((2,2), (.1,.4), (.2,.5), p=1),
         'brightness': A.RandomBrightnessContrast((-.3,.1), (0,.4), p=1),
         'brightness by mean': A.RandomBrightnessContrast(
             .4, .3, brightness_by_max=False, ensure_safe_range=True, p=1)}

def columns(params):
    "One column of numbers for each parameter"
    flat = {}
    for k,v in params.items():
        if isinstance(v, dict): flat |= {f'{k}.{i}': o for i,o in v.items()}
        elif k=='holes':
            flat |= {'number of holes': (v[...,2]>v[...,0]).sum(1), **{f'first hole {i}': v[:,0,i] for i in range(4)}}
        elif v is not None and k!='seed': flat[k] = v
    return {(k,i): col for k,v in flat.items() for i,col in enumerate(np.asarray(v).reshape(len(v), -1).T)}

@pytest.mark.parametrize('name', DRAWN)
def test_draws_have_the_same_distribution(name):
    "Two-sample Kolmogorov-Smirnov test of each parameter, on 5,000 draws"
    t,n,image = DRAWN[name],5000,np.random.default_rng(0).integers(0, 256, (32,40,3), dtype=np.uint8)
    aug = A.Compose([t], save_applied_params=True, seed=1)
    theirs = columns(stacked([aug(image=image)['applied_transforms'][0][1] for _ in range(n)]))
    ours = columns({k: v for k,v in draw_params(
        t, torch.from_numpy(image).expand(n, *image.shape), np.random.default_rng(2)).items()})
    assert set(theirs)==set(ours) and len(ours)
    for k in ours: assert ks_2samp(theirs[k], ours[k]).pvalue > .001, k

@pytest.mark.parametrize('t', [
    A.HorizontalFlip(p=.3), A.Rotate((20,30), p=.7), A.CoarseDropout((1,1), (2,4), (2,4), fill=7, p=.5),
    A.ToGray(p=.1), A.RandomBrightnessContrast(p=.5),
    A.OneOf([A.HorizontalFlip(p=.2), A.VerticalFlip(p=.6)], p=.4),
    A.SomeOf([A.HorizontalFlip(p=.5), A.NoOp(p=1)], n=1),
    A.Sequential([A.HorizontalFlip(p=1)], p=.2),
    A.SomeOf([A.HorizontalFlip(p=1), A.VerticalFlip(p=1)], n=2, replace=True)], ids=lambda t: type(t).__name__)
def test_probabilities(t):
    "As many images are changed as albumentations changes"
    n,image = 5000,np.random.default_rng(0).integers(0, 100, (8,8,3), dtype=np.uint8)
    aug,x = A.Compose([t], seed=0),torch.from_numpy(image).expand(n, 8, 8, 3)
    with warnings.catch_warnings(): theirs = sum((aug(image=image)['image']!=image).any() for _ in range(n))/n
    ours = (augment_batch(t, x, np.random.default_rng(0))!=x).flatten(1).any(1).sum().item()
    assert binomtest(ours, n, min(max(theirs, .001), .999)).pvalue > 1e-6, (ours/n, theirs)
    if isinstance(t, A.BasicTransform): assert binomtest(ours, n, t.p).pvalue > .001

def test_composition_is_one_after_the_other():
    "A whole `Compose` on a batch is its transforms in turn, each with its own draws"
    aug = A.Compose([
        A.PadIfNeeded(40, 40), A.RandomCrop(32, 32), A.HorizontalFlip(p=.5), A.Rotate(5, p=.5),
        A.CoarseDropout(fill=128, p=.5)])
    x = torch.randint(0, 256, (300,32,32,3), dtype=torch.uint8)
    first,second = [augment_batch(aug, x, np.random.default_rng(4)) for _ in (0,1)]
    assert torch.equal(first, second) and first.shape==x.shape
    by_hand,rng = x,np.random.default_rng(4)
    for t in aug.transforms: by_hand = augment_batch(t, by_hand, rng)
    assert torch.equal(first, by_hand)
    assert not torch.equal(first, augment_batch(aug, x, np.random.default_rng(5)))

def test_input_is_left_alone():
    x = torch.randint(0, 256, (50,32,32,3), dtype=torch.uint8)
    for y in x, x/255:
        before = y.clone()
        for t in [*DRAWN.values(), A.HorizontalFlip(p=.5), A.ToGray(p=.5), A.Normalize()]:
            augment_batch(t, y, np.random.default_rng(0))
        assert torch.equal(y, before)

def test_empty_and_single():
    rng = np.random.default_rng(0)
    for n in (0,1):
        assert augment_batch(
            A.Compose([A.HorizontalFlip(p=.5), A.CoarseDropout(p=.5), A.Rotate(p=.5)]),
            torch.zeros(n, 32, 32, 3, dtype=torch.uint8), rng).shape==(n,32,32,3)

@pytest.mark.parametrize('t', [
    A.GaussianBlur(), A.SafeRotate(), A.RandomOrder([A.HorizontalFlip()]), A.Rotate(crop_border=True),
    A.Rotate(interpolation=cv2.INTER_NEAREST), A.Affine(fit_output=True), A.ToGray(method='pca'), A.ToGray(1)])
def test_what_has_no_batch_form(t):
    assert batch_lacks(A.Compose([A.HorizontalFlip(), A.OneOf([t])])).startswith(type(t).__name__)
