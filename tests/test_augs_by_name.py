"""torchvision's transforms make what torchvision makes, for any processes; labels are flipped where they may be."""
import contextlib,io,os,random,subprocess,sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.learner import load_learner
from fastai.torch_core import set_seed
from fastai.vision.core import PILImage,TensorImage
from torchvision.transforms import v2

from advtrain.all import (
    A,AUGS,AlbumentationsTransform,Checkpoint,Experiment,RunCallback,augment_batch,image_block,image_dls,make_learner,
    rand_augs,resnet_learner,trivial_augs)
from advtrain.data.batch_share import BatchShare
from advtrain.data.loaders import share_of

def quiet(f, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()): return f(*args, **kwargs)

class Mine(v2.Transform):
    "A transform that draws from all three generators"
    def transform(self, inpt, params):
        shift = random.randrange(8)+np.random.randint(8)+int(torch.randint(8, ()))
        return inpt.roll(shift, -1)

class Plain(torch.nn.Module):
    "A module as torchvision's documentation allows it in a `Compose`"
    def forward(self, x): return x.flip(-1)

EACH = dict(
    trivial=trivial_augs(28), rand=rand_augs(28, border='reflect'), auto=v2.AutoAugment(), mix=v2.AugMix(),
    erase=v2.RandomErasing(p=.5, value='random', inplace=True), elastic=v2.ElasticTransform(),
    colours=v2.Compose([v2.RandomPhotometricDistort(), v2.ColorJitter(.3, .3, .3, .1), v2.RandomGrayscale(p=.3)]),
    choice=v2.RandomChoice([v2.RandomRotation(20), v2.RandomHorizontalFlip(), v2.GaussianBlur(3)], p=[1,2,3]),
    order=v2.RandomOrder([v2.RandomAffine(10, (.1,.1)), v2.RandomPerspective(), v2.RandomEqualize()]),
    apply=v2.RandomApply([v2.RandomResizedCrop(28)], p=.5), resized=v2.RandomResizedCrop(20), mine=Mine(),
    module=v2.Compose([Plain(), v2.RandomInvert()]))
each = pytest.mark.parametrize('aug', EACH.values(), ids=EACH)

@pytest.fixture(scope='module')
def pixels(few):
    "Images of the sample, uint8, shape (90, 28, 28, 3)"
    return image_dls(few, size=28, bs=45, device='cpu').train.images.pixels[:90]

def of_torchvision(aug, image, seed):
    "What `aug` makes of an image of shape (height, width, channels) with this seed"
    torch.manual_seed(seed)
    if aug is EACH['mine']:
        random.seed(seed)
        np.random.seed(seed)
    return aug(image.permute(2,0,1).contiguous()).permute(1,2,0)

@each
def test_a_batch_is_what_torchvision_makes(aug, pixels):
    before = pixels.clone()
    states = random.getstate(),torch.get_rng_state()
    ours = augment_batch(aug, pixels, np.random.default_rng(7))
    assert random.getstate()==states[0] and torch.equal(torch.get_rng_state(), states[1])
    assert torch.equal(pixels, before)
    seeds = np.random.default_rng(7).integers(2**32, size=len(pixels))
    theirs = torch.stack([of_torchvision(aug, o, int(s)) for o,s in zip(pixels.clone(), seeds)])
    assert torch.equal(ours, theirs)
    assert ours.shape!=pixels.shape or not torch.equal(ours, pixels)

@each
def test_an_image_is_what_torchvision_makes(aug, pixels):
    tfm = AlbumentationsTransform(aug)
    image = pixels[5].numpy()
    for seed in range(5):
        set_seed(seed)
        ours = np.array(tfm(PILImage.create(image), split_idx=0))
        assert np.array_equal(ours, of_torchvision(aug, torch.tensor(image), seed).numpy())

@pytest.mark.parametrize('ranks', [2,4])
@each
def test_shares_are_the_batch(aug, ranks, pixels):
    whole = augment_batch(aug, pixels, np.random.default_rng(7))
    rng = [np.random.default_rng(7) for _ in range(ranks)]
    for rank in range(ranks):
        places = np.array(BatchShare(rank, ranks).own(len(pixels)))
        share = augment_batch(aug, pixels[places], rng[rank], whole=(len(pixels),places))
        assert torch.equal(share, whole[places])
    assert len({o.integers(2**32) for o in rng})==1                # the ranks' generators agree afterwards

@pytest.mark.parametrize('ranks', [2,4])
@pytest.mark.parametrize('fast', [True,False])
@pytest.mark.parametrize('name', ['trivial','mine'])
def test_loaders_of_ranks_share_an_epoch(name, fast, ranks, few):
    dls = image_dls(few, EACH[name], size=28, bs=41, fast=fast, device='cpu', num_workers=0)
    def epoch(part):
        np.random.seed(3)
        return list(share_of(dls.train, part))
    whole = epoch(BatchShare(fill=True))
    shares = [epoch(BatchShare(rank, ranks, fill=True)) for rank in range(ranks)]
    assert len(whole)==4
    for (x,y),*parts in zip(whole, *shares):
        assert torch.equal(torch.cat([a for a,_ in parts])[:len(x)], x)
        assert torch.equal(torch.cat([b for _,b in parts])[:len(x)], y)

@pytest.mark.parametrize('name', ['trivial','rand'])
def test_a_loader_has_torchvisions_pixels(name, few):
    "From the files to the normalised batch"
    dls = image_dls(few, AUGS[name](28), size=28, bs=45, device='cpu')
    dl = dls.train.new(shuffle=False, at_once=1)
    np.random.seed(3)
    batches = [x for x,_ in dl]
    np.random.seed(3)
    start = 0
    for x in batches:
        images = dl.create_batch(range(start, start+len(x)))[0].as_subclass(torch.Tensor)
        seeds = np.random.Generator(np.random.get_bit_generator()).integers(2**32, size=len(x))
        outs = []
        for image,seed in zip(images, seeds):
            torch.manual_seed(int(seed))
            outs.append(AUGS[name](28)(image.contiguous()))
        assert torch.equal(x, dls.valid.after_batch((TensorImage(torch.stack(outs)),))[0])
        start += len(x)
    assert start==len(dls.train.items)

class Stop(RunCallback):
    "Interrupt after the first epoch"
    order,passive = 2000,True
    def after_epoch(self): raise KeyboardInterrupt

@pytest.mark.parametrize('changes', [dict(augs='trivial'), dict(augs='rand', border='reflect'),
    dict(augs='trivial', fast=False), dict(augs='trivial', flip_labels=.2)], ids=str)
def test_a_resumed_run_is_the_same_run(changes, few, tmp_path):
    fast = changes.get('fast', True)
    changes = {k: v for k,v in changes.items() if k!='fast'}
    exp = Experiment('one', width=4, size=16, bs=45, epochs=3, precision='fp32', layers=['layer4'], **changes)
    def make(): return quiet(make_learner, exp, few, fast=fast, device='cpu')
    quiet((whole := make()).fit, 3)
    with pytest.raises(KeyboardInterrupt): quiet(make().fit, 3, cbs=[Checkpoint(tmp_path), Stop()])
    quiet((part := make()).resume, 3, tmp_path)
    assert all(map(torch.equal, part.model.state_dict().values(), whole.model.state_dict().values()))
    assert part.history.drop(columns='seconds').equals(whole.history.drop(columns='seconds'))
    other = quiet(make_learner, exp.replace(augs='cutout', border='black'), few, fast=fast, device='cpu')
    with pytest.raises(ValueError, match='augmentation 1 is .*RandomCrop'): quiet(other.resume, 3, tmp_path)

# What can't work

def test_transforms_of_the_two_do_not_mix():
    with pytest.raises(ValueError, match='^HorizontalFlip comes from albumentations, and can.t be part of'):
        AlbumentationsTransform(v2.Compose([v2.Identity(), A.HorizontalFlip()]))
    # albumentations itself refuses, before we see it
    with pytest.raises(AttributeError, match='available_keys'): A.Compose([v2.RandomHorizontalFlip()])

FAIL = dict(
    floats=(v2.ToDtype(torch.float32, scale=True), 'returned float32 instead of a uint8 image: leave out Normalize'),
    normalize=(v2.Normalize((.5,)*3, (.5,)*3), 'leave out Normalize'),
    sizes=(v2.RandomResize(20, 28), 'a batch needs images of one size'),
    gray=(v2.Grayscale(1), 'keep the number of channels, for Grayscale with num_output_channels=3'),
    seldom=(v2.RandomApply([v2.Grayscale(1)], p=.001), 'keep the number of channels'),
    five=(v2.FiveCrop(8), 'into tuple instead of a tensor'), pillow=(v2.ToPILImage(), 'leave out ToPILImage'),
    crop=(v2.RandomCrop(64), 'Required crop size'), boxes=(v2.RandomIoUCrop(), 'the augmentation fails on an image'),
    mixup=(v2.MixUp(num_classes=3), r"resnet_learner\(…, mix='mixup'\)"),
    cutmix=(v2.Compose([v2.CutMix(num_classes=3)]), r"resnet_learner\(…, mix='cutmix'\)"))

@pytest.mark.parametrize('fast', [True,False])
@pytest.mark.parametrize('name', FAIL)
def test_what_cannot_work_says_so(name, fast, few):
    aug,words = FAIL[name]
    with pytest.raises(ValueError, match=words): image_dls(few, aug, size=28, bs=45, fast=fast)
    with pytest.raises(ValueError, match=words): image_block(aug, size=28)

IMPORTED = '''
import sys
sys.argv = ['advtrain_run', '--help']
from advtrain.cli.run import advtrain_run
try: advtrain_run()
except SystemExit: pass
print([o for o in ('albumentations','torchvision.transforms.v2') if o in sys.modules])
'''
TRAINED = '''
import sys
from advtrain.all import *
dls = image_dls(fashion_sample(few=True), trivial_augs(28), size=28, bs=45, device='cpu')
dls.train.one_batch()
print('albumentations' in sys.modules)
'''

@pytest.mark.parametrize('code,said', [(IMPORTED,'[]'), (TRAINED,'False')])
def test_nothing_is_imported_in_vain(code, said):
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, capture_output=True, text=True)
    assert out.stdout.splitlines()[-1]==said

# Flipped labels

def labels_of(dl):
    "The class of each image, as batches have it"
    ys = [y for _,y in dl.new(shuffle=False, drop_last=False)]
    return [dl.vocab[i] for i in torch.cat(ys)]

def noisy(path, share=.3, **kwargs): return quiet(image_dls, path, flip_labels=share, size=8, bs=20, **kwargs)

@pytest.mark.parametrize('kwargs', 
    [{}, dict(fast=False), dict(watch='test'), dict(fraction=.5), dict(seed=1)], ids=str)
def test_only_training_labels_are_flipped(kwargs, few):
    dls = noisy(few, **kwargs)
    clean = quiet(image_dls, few, size=8, bs=20, **kwargs)
    assert [o.items for o in dls.loaders]==[o.items for o in clean.loaders] and dls.fingerprint==clean.fingerprint
    for a,b in zip(dls.loaders[1:], clean.loaders[1:]):
        assert labels_of(a)==labels_of(b)==[o.parent.name for o in b.items]
    flipped = [a!=b for a,b in zip(labels_of(dls.train), labels_of(clean.train))]
    assert sum(flipped)==round(.3*len(flipped))==len(dls.flipped_labels)
    table = dls.flipped_labels
    assert table.path.tolist()==[o.relative_to(few).as_posix() for o,f in zip(dls.train.items, flipped) if f]
    assert table.folder.tolist()==[o.split('/')[1] for o in table.path]
    assert table.label.tolist()==[o for o,f in zip(labels_of(dls.train), flipped) if f]

@pytest.mark.parametrize('fast', [True,False])
def test_an_image_of_two_splits_keeps_its_label_where_it_is_tested(fast, few, tmp_path):
    (tmp_path/'train').symlink_to(few/'train')
    (tmp_path/'valid').symlink_to(few/'train')
    (tmp_path/'test').symlink_to(few/'train')
    dls = noisy(tmp_path, .9, fast=fast)
    assert len(dls.flipped_labels)==round(.9*len(dls.train.items))
    for o in dls.loaders[1:]: assert labels_of(o)==[f.parent.name for f in o.items]

def test_another_process_flips_the_same(few):
    code = ('import sys; from advtrain.all import *; '
        f'dls = image_dls({str(few)!r}, flip_labels=.3, size=8, bs=20, device="cpu"); '
        'print(dls.flipped_labels.to_csv())')
    env = os.environ | dict(PYTHONHASHSEED='7')
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, capture_output=True, text=True,
        env=env)
    said,_,table = out.stdout.partition('\n')
    assert table.strip()==noisy(few).flipped_labels.to_csv().strip()
    assert said.startswith('labels of ') and said.endswith('training images are changed (flip_labels=0.3)')

def test_what_looks_at_training_images_shows_the_given_label(few, tmp_path):
    dls = noisy(few, device='cpu')
    learn = resnet_learner(dls, width=4)
    with learn.no_bar():
        quiet(learn.fit, 1)
        table = learn.interpret('train').table
    given = dict(zip(dls.flipped_labels.path, dls.flipped_labels.label))
    paths = [Path(o).relative_to(few).as_posix() for o in table.path]
    assert table.actual.tolist()==[given.get(o, o.split('/')[1]) for o in paths]
    with learn.no_bar(): test = learn.interpret('test').table
    assert test.actual.tolist()==[Path(o).parent.name for o in test.path]
    with learn.no_bar(): learn.export(tmp_path/'learner.pkl')
    exported = load_learner(tmp_path/'learner.pkl')
    with exported.no_bar(): assert exported.predict(dls.test.items[0])[0] in dls.vocab

def test_other_flips_are_another_run(few, tmp_path):
    def learner(**kwargs): return resnet_learner(quiet(image_dls, few, size=8, bs=45, device='cpu', **kwargs), width=4)
    quiet(learner(flip_labels=.3).fit, 1, cbs=[Checkpoint(tmp_path)])
    for kwargs in {}, dict(flip_labels=.4):
        with pytest.raises(ValueError, match='data.flipped labels is'): quiet(learner(**kwargs).resume, 2, tmp_path)
    quiet(learner(flip_labels=.3).resume, 2, tmp_path)

def test_a_list_of_flips_in_the_way_is_yours(few, tmp_path):
    "A run that flips labels doesn't write over your file, and one that doesn't leaves it alone"
    from advtrain.launch.runner import Runner
    for share in .2, 0.:
        exp = Experiment(f'one-{share}', width=4, size=8, bs=45, epochs=1, augs='none', layers=['layer4'])
        exp = exp.replace(flip_labels=share)
        runner = Runner(exp, few, out := tmp_path/exp.name, quiet=True, device='cpu')
        runner.own.write('experiment.toml', exp.to_toml())
        (out/'flipped_labels.csv').write_text('mine')
        with runner.opened():
            if share:
                with pytest.raises(FileExistsError, match='flipped_labels.csv is in the way'): runner.train(resume=True)
            else: runner.train(resume=True)
        assert (out/'flipped_labels.csv').read_text()=='mine'
