"""Loading and augmenting, item by item and whole: nothing is replayed, nothing is mixed up, and a damaged or shared
cache is survived."""
import contextlib,io,os,shutil
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.block import CategoryBlock,DataBlock
from fastai.data.transforms import GrandparentSplitter,get_image_files,parent_label
from fastai.learner import load_learner
from fastai.torch_core import set_seed
from fastai.vision.augment import RandTransform
from fastai.vision.core import PILImage
from fastai.vision.data import ImageBlock
from PIL import Image
from processes import Started,wait_for

from advtrain.files import make_once
from advtrain.all import A,CachedDL,Checkpoint,cutout_augs,decode_images,image_dls,resnet_learner
from advtrain.data.folders import class_files
from advtrain.models import ResNet

class TutorialTransform(RandTransform):
    "The usual way to use albumentations in fastai"
    split_idx,order = None,2
    def __init__(self, train_aug):
        super().__init__()
        self.train_aug = train_aug
    def before_call(self, b, split_idx): self.idx = split_idx
    def encodes(self, x:PILImage):
        return PILImage.create(self.train_aug(image=np.array(x))['image']) if self.idx==0 else x

@pytest.fixture(scope='module')
def repeated(sample, tmp_path_factory):
    "A folder with 512 copies of one training image, in two classes"
    path,image = tmp_path_factory.mktemp('repeated'),next((sample/'train'/'Bag').iterdir())
    for c,n in dict(Bag=510, Coat=2).items():
        for s in 'train','test': (path/s/c).mkdir(parents=True)
        for i in range(n): shutil.copy(image, path/'train'/c/f'{i:03}.png')
        for i in range(2): shutil.copy(image, path/'test'/c/f'{i}.png')
        (path/'valid'/c).mkdir(parents=True)
        shutil.copy(image, path/'valid'/c/'0.png')
    return path

AUG = A.Compose([
    A.PadIfNeeded(40, 40), A.RandomCrop(32, 32), A.HorizontalFlip(p=.5), A.Rotate(5),
    A.CoarseDropout((1,1), (16,16), (16,16), fill=128)])

def different_batches(dl, epochs=3):
    "How many batches there are, and how many of them differ"
    batches = [hash(x.numpy().tobytes()) for _ in range(epochs) for x,_ in dl]
    return len(batches),len(set(batches))

@pytest.mark.parametrize('fast', [True,False])
@pytest.mark.parametrize('workers', [0,1,2])
def test_no_replay(repeated, fast, workers):
    dls = image_dls(repeated, AUG, bs=128, num_workers=workers, fast=fast)
    assert dls.fast is fast
    set_seed(5)
    assert different_batches(dls.train)==(12,12)
    set_seed(5)
    first = [x.numpy().tobytes() for x,_ in dls.train.new(shuffle=False)]
    set_seed(5)
    assert first==[x.numpy().tobytes() for x,_ in dls.train.new(shuffle=False)]
    for dl in dls.valid,dls.test: assert len({o.numpy().tobytes() for x,_ in dl for o in x})==1

@pytest.mark.parametrize('workers,expected', [(0,12),(1,4),(2,2)])
def test_tutorial_transform_replays(repeated, workers, expected):
    "The control: the test above finds the fault in the usual way"
    block = DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label,
        splitter=GrandparentSplitter(), item_tfms=TutorialTransform(AUG))
    assert different_batches(
        block.dataloaders(repeated, bs=128, num_workers=workers, device='cpu').train)==(12,expected)

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='there is no fork')
def test_opencv_has_no_threads_in_a_forked_process():
    "They don't survive the fork, so waiting for them may never end"
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        if not (pid := os.fork()): os._exit(cv2.getNumThreads())
        _,status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status)==1 and cv2.getNumThreads()==2
    finally: cv2.setNumThreads(before)

@pytest.mark.parametrize('fast', [True,False])
def test_right_file_and_right_pixels(sample, fast):
    "What `interpret` names, shows and scored is the file as it is, also for training images"
    learn = resnet_learner(image_dls(sample, cutout_augs(), bs=100, fast=fast), width=4, precision='fp32')
    for ds in 'train','test':
        interp = learn.interpret(ds)
        rows = interp.table.iloc[[3,70,-1]]
        files = np.stack([np.asarray(Image.open(interp.dl.items[i]).convert('RGB')) for i in rows.index])/255
        assert np.allclose(interp.pixels(rows), files, atol=1e-5)
        with torch.no_grad(): again = learn.model.eval()(interp.inputs(rows))
        assert torch.allclose(again, interp.logits[rows.index.tolist()], atol=1e-4)
        assert [interp.dl.items[i].parent.name for i in rows.index]==rows.actual.tolist()

def test_new_files_and_export(sample, tmp_path):
    "A learner on decoded images predicts other files, and its export holds no images"
    learn = resnet_learner(image_dls(sample, cutout_augs(), bs=100), width=4, precision='fp32')
    assert isinstance(learn.dls.train, CachedDL)
    Image.new('RGB', (50,40), 'gray').save(tmp_path/'new.png')
    preds,_ = learn.get_preds(dl=learn.dls.test_dl([tmp_path/'new.png', *learn.dls.test.items[:2]]))
    learn.export(tmp_path/'learner.pkl')
    assert (tmp_path/'learner.pkl').stat().st_size < 2e6
    again,_ = load_learner(tmp_path/'learner.pkl').get_preds(
        dl=learn.dls.test_dl([tmp_path/'new.png', *learn.dls.test.items[:2]]))
    assert torch.allclose(preds, again, atol=1e-5)
    assert learn.predict(tmp_path/'new.png')[0] in learn.dls.vocab

def test_no_room(sample, home, monkeypatch, capsys):
    "Where neither the disk nor memory has room for decoded images, they are read one by one, with a word about it"
    monkeypatch.setattr('advtrain.data.image_map.ImageMap.room_lacks', lambda self: 5*10**9)
    assert image_dls(sample).fast and 'cannot keep decoded images' in capsys.readouterr().out # memory has room
    monkeypatch.setattr('advtrain.data.cache.free_memory', lambda: 10**7)
    assert image_dls(sample).fast is False
    assert ('because 2,500 decoded images cannot be kept (they take 7.8 MB, and the disk lacks 5,000.0 MB)'
        in capsys.readouterr().out)

def test_larger_than_memory(sample, home, monkeypatch, capsys):
    "Images larger than memory are read from the disk in shuffled blocks, and come out the same"
    small = image_dls(sample)
    monkeypatch.setattr('advtrain.data.cache.memory_limit', lambda: 10**7)
    monkeypatch.setattr('advtrain.data.image_dls.memory_limit', lambda: 10**7)
    monkeypatch.setattr('advtrain.data.cache._LARGE', 10**6)
    with monkeypatch.context() as m:
        calls = []
        m.setattr('advtrain.data.image_map.ImageMap.read_no_more', lambda self: calls.append(self))
        large = image_dls(sample)
    assert len(calls)==1 # without it, each page costs megabytes around it
    assert 'training images are shuffled in blocks of 21, 19 blocks at a time' in capsys.readouterr().out
    assert large.fast and large.train.order==(21,19) and small.train.order is None
    asked = []
    monkeypatch.setattr('advtrain.data.image_map.ImageMap.read_ahead', lambda self, rows, n: asked.append((rows, n)))
    rows = [[tuple(o.flatten().tolist()) for x,_ in dls.train for o in x] for dls in (small,large)]
    ahead = [np.concatenate([rows for rows,n in asked if n==k]) for k in (21,1)] # in groups of blocks, and by batch
    assert sorted(ahead[1])==sorted(large.train._source.rows.tolist()) and set(ahead[0])=={21*(o//21) for o in ahead[1]}
    assert rows[0]!=rows[1] and sorted(rows[0])==sorted(rows[1]) # each image once
    for dl in large.loaders[1:]: list(dl)
    assert not large.train.images.unchecked.any() # each image was checked when it was used

def config_in(home): return lambda: SimpleNamespace(path=lambda name: home)

def test_nowhere_to_keep(sample, home, capsys):
    "Where the cache cannot be written, the images are decoded each time, which is said once"
    (home/'advtrain_images').write_text('a file where the folder should be')
    for _ in range(2): assert len(image_dls(sample).train.one_batch()[0])==128
    assert capsys.readouterr().out.count('cannot keep decoded images')==1

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid()==0, reason='the superuser may write into any directory')
def test_read_only_directory(sample, home, capsys):
    home.chmod(0o555)
    assert len(image_dls(sample).train.one_batch()[0])==128
    assert capsys.readouterr().out.count('cannot keep decoded images')==1

def build(home, sample, ready):
    "Decode the images when another process does, too, and print what came out"
    make_once.fastai_cfg = config_in(home)
    files = class_files(sample)
    (home/ready).touch()
    wait_for(lambda: len(list(home.glob('ready*')))==2, pause=.005)
    images = decode_images(files)
    print(int(images.pixels.long().sum()), float(images.sums.sum()))

def test_two_processes_build_at_once(sample, home):
    "Both are right, and one whole file is left"
    calls = [Started(build, home, sample, f'ready{i}', daemon=False) for i in (1,2)] # they may have workers
    outs = [o.ended().split() for o in calls]
    images = decode_images(files := class_files(sample))
    pixels = np.stack([np.asarray(Image.open(f).convert('RGB')) for f in files])
    assert np.array_equal(images.pixels.numpy(), pixels)
    assert outs[0]==outs[1]==[str(int(pixels.astype(np.int64).sum())), str(float(images.sums.sum()))]
    # nothing half-written stays
    assert sorted(o.suffix for o in (home/'advtrain_images').iterdir())==['.lock','.safetensors']

def test_gathering_draws_nothing(sample, home):
    "Decoding, also in other processes, leaves the generators as they were"
    files = class_files(sample)
    set_seed(1)
    expected = torch.rand(1),np.random.random()
    set_seed(1)
    decode_images(files)
    assert (torch.rand(1),np.random.random())==expected

@pytest.mark.parametrize('fast,workers', [(True,0),(False,0),(False,2)])
def test_resumed_run_continues_the_stream(repeated, tmp_path, fast, workers):
    "A run in two parts sees the same augmentations as one that was not interrupted, and no epoch sees those of another"
    seen = []
    class See(Callback):
        def before_batch(self):
            if self.training: seen.append(hash(self.xb[0].numpy().tobytes()))
    def learner():
        set_seed(1)
        dls = image_dls(repeated, AUG, bs=64, fraction=.5, fast=fast, num_workers=workers)
        return resnet_learner(dls, partial(ResNet, (1,1,1,1)), width=2, precision='fp32').add_cb(See())
    def run(f):
        seen.clear()
        with contextlib.redirect_stdout(io.StringIO()): f()
        return list(seen)
    whole = run(lambda: learner().fit(3, cbs=Checkpoint(tmp_path/'whole')))
    first = run(lambda: learner().fit(2, cbs=Checkpoint(tmp_path/'part')))
    rest = run(lambda: learner().resume(3, tmp_path/'part'))
    assert whole==first+rest and len(set(whole))==len(whole)==12
