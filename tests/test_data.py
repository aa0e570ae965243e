"""Nothing of a data set is passed over without a word, and nothing is read that is not what it seems."""
import os,shutil,traceback
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.learner import load_learner
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

import advtrain.all
from advtrain.data import cache as decoded,images,sources
from advtrain.data.sources import CIFAR10_CLASSES
from advtrain.files import make_once
from advtrain.all import (
    A,FolderSplitter,cifar10,class_files,cutout_augs,decode_images,image_block,image_dls,open_rgb,resnet_learner,
    scan_images,show_augmented,show_classes,show_transforms,unpack_once)

pytestmark = pytest.mark.usefixtures('home')

@pytest.fixture
def folder(tmp_path):
    "Two classes with eight training and three test images of noise, all different"
    rng = np.random.default_rng(0)
    for split,n in dict(train=8, test=3).items():
        for c in 'cat','dog':
            (tmp_path/'data'/split/c).mkdir(parents=True)
            for i in range(n):
                noise = rng.integers(0, 256, (8,8,3), dtype=np.uint8)
                Image.fromarray(noise).save(tmp_path/'data'/split/c/f'{i}.png')
    return tmp_path/'data'

def loaders(path, **kwargs): return image_dls(path, **dict(size=8, bs=4, device='cpu') | kwargs)
def files_of(dl, root): return sorted(o.relative_to(root).as_posix() for o in dl.items)

# What is not used is said

@pytest.mark.parametrize('name', ['val','validation','dev','Valid','VAL'])
def test_names_of_the_validation_set(folder, capsys, name):
    shutil.copytree(folder/'test', folder/name)
    for f in folder.glob(f'{name}/*/*'): Image.fromarray(255-np.asarray(Image.open(f))).save(f)
    dls = loaders(folder)
    assert files_of(dls.valid, folder)==sorted(f'{name}/{c}/{i}.png' for c in ('cat','dog') for i in range(3))
    assert len(dls.train.items)==16 and not capsys.readouterr().out

def test_two_validation_sets(folder):
    for name in 'val','dev': shutil.copytree(folder/'test', folder/name)
    with pytest.raises(ValueError, match='are both the valid split'): class_files(folder)

def out_of(f, capsys):
    res = f()
    return res,capsys.readouterr().out.splitlines()

UNUSED = { # file -> what is named, and why
    'extra/cat/1.png': ('extra', 'next to train/'),
    '1.png': ('1.png', 'not in a class folder'),
    'train/1.png': ('train/1.png', 'not in a class folder'),
    'train/cat/film.mp4': ('train/cat/film.mp4', 'not an image suffix'),
    'train/cat/1.heic': ('train/cat/1.heic', 'not an image suffix'),
    'train/cat/.1.png': ('train/cat/.1.png', 'hidden'),
    'test/.cat/1.png': ('test/.cat', 'hidden'),
    'train/cat/more/1.png': ('train/cat/more', 'a folder inside a class'),
}

@pytest.mark.parametrize('place', UNUSED)
def test_what_is_passed_over_is_told(folder, capsys, place):
    named,why = UNUSED[place]
    before = class_files(folder)
    (folder/place).parent.mkdir(exist_ok=True, parents=True)
    shutil.copy(folder/'train/cat/0.png', folder/place)
    found,lines = out_of(lambda: class_files(folder), capsys)
    assert found==before and len(lines)==1 and lines[0].startswith(f'not used: {folder/named} ({why}'), lines

def test_many_are_counted(folder, capsys):
    for i in range(5): (folder/'train/cat'/f'{i}.txt').write_text('')
    (folder/'train/cat/.DS_Store').write_text('') # no word about what every folder of a Mac has
    (folder/'LICENSE').write_text('')
    _,lines = out_of(lambda: class_files(folder), capsys)
    assert lines==[f"not used: {folder/'train/cat/0.txt'} and 4 more (not an image suffix)"]

@pytest.mark.parametrize('record', ['experiment.toml','.advtrain/files.json'])
@pytest.mark.parametrize('place', ['run','train/run','runs/a','train/runs/a'])
def test_runs_in_the_data_are_no_class(folder, capsys, record, place):
    before = class_files(folder)
    (folder/place/'figures').mkdir(parents=True)
    Image.new('RGB', (8,8)).save(folder/place/'figures'/'curves.png')
    (folder/place/record).parent.mkdir(exist_ok=True)
    (folder/place/record).write_text('')
    for path in folder,folder/'train':
        found,lines = out_of(partial(class_files, path), capsys)
        if path.name=='train' and 'train' not in place: assert not lines
        else: assert found==[o for o in before if path in o.parents] and 'advtrain runs' in lines[0]

def test_links(folder, capsys):
    "A link to an image is an image; one to nothing, or to itself, cannot be read; for a folder it is named"
    for name,to in ('0.png','nowhere'),('1.png','1.png'):
        (folder/'train/cat'/name).unlink()
        (folder/'train/cat'/name).symlink_to(to)
    shutil.move(folder/'train/cat/2.png', folder.parent/'2.png')
    (folder/'train/cat/2.png').symlink_to(folder.parent/'2.png')
    (folder/'train/cow').symlink_to('nowhere')
    (folder/'train/pig').symlink_to('pig')
    (folder/'train/dog/up').symlink_to('..')
    gone = r'2 of 22 images cannot be read: .*0\.png \(broken symlink\); .*1\.png \(Too many levels'
    with pytest.raises(ValueError, match=gone): loaders(folder)
    out = capsys.readouterr().out
    assert f"{folder/'train/cow'} and 1 more (broken symlink)" in out
    assert f"{folder/'train/dog/up'} (a folder inside a class)" in out
    dls = loaders(folder, on_error='skip')
    assert [o.name for o in dls.skipped]==['0.png','1.png'] and len(dls.train.items)+len(dls.valid.items)==14

def test_what_is_no_file_cannot_be_read(folder):
    "A pipe is not waited for"
    (folder/'train/cat/0.png').unlink()
    os.mkfifo(folder/'train/cat/0.png')
    for fast in True,False:
        gone = r"1 of 22 .*0\.png \(it's a folder, a pipe or a device\)"
        with pytest.raises(ValueError, match=gone): loaders(folder, fast=fast)

@pytest.mark.parametrize('fast', [True,False])
def test_name_that_is_not_utf8(folder, capsys, fast):
    try: os.rename(folder/'train/cat/0.png', os.fsencode(folder/'train/cat')+b'/caf\xe9.png')
    except OSError: pytest.skip('this file system has UTF-8 names alone')
    gone = r"caf\\xe9\.png \(its name isn't UTF-8: rename it\)"
    with pytest.raises(ValueError, match=gone): loaders(folder, fast=fast)
    dls,lines = out_of(lambda: loaders(folder, fast=fast, on_error='skip'), capsys)
    assert len(dls.skipped)==1 and r'caf\xe9.png' in lines[0]
    os.rename(folder/'train/dog', os.fsencode(folder/'train')+b'/d\xf6g')
    with pytest.raises(ValueError, match=r"d\\xf6g isn't UTF-8"): loaders(folder)

@pytest.mark.parametrize('names', [('bus','car','train'), ('test','train','valid'), ('Train','bus')])
def test_class_called_train(folder, names, capsys):
    for split in 'train','test':
        shutil.rmtree(folder/split/'dog')
        for c in names: shutil.copytree(folder/split/'cat', folder/split/c)
        shutil.rmtree(folder/split/'cat')
    assert list(loaders(folder).vocab)==sorted(names)
    assert list(loaders(folder/'train').vocab)==sorted(names)

def test_hostile_class_names(folder, hostile_names):
    for split in 'train','test':
        for name in hostile_names+['two\nlines']:
            shutil.copytree(folder/split/'cat', folder/split/name)
    dls = loaders(folder)
    assert set(dls.vocab)=={'cat','dog','two\nlines',*hostile_names}
    show_classes(dls, n=2)
    (folder/'train/two\nlines/0.png').write_text('')
    with pytest.raises(ValueError) as e: loaders(folder)
    assert r'two\nlines/0.png' in str(e.value) and '\n' not in str(e.value)

def test_images_in_unknown_splits(folder, capsys):
    "`FolderSplitter` in a block of one's own names the files that it leaves out"
    files = class_files(folder) + [folder/'extra/cat/1.png']
    splits,lines = out_of(lambda: FolderSplitter()(files), capsys)
    assert sum(map(len, splits))==22 and lines==[f"not used: {folder/'extra/cat/1.png'} (not in a split)"]

@pytest.mark.parametrize('fast', [True,False])
def test_leaks_are_told(folder, capsys, fast):
    loaders(folder, fast=fast)
    assert not capsys.readouterr().out
    dls = loaders(folder, valid_pct=.2, fast=fast)
    trained = dls.train.items[0]
    shutil.copy(trained, folder/'test/dog/1.png') # in another class
    line = out_of(lambda: loaders(folder, valid_pct=.2, fast=fast), capsys)[1][-1]
    pair = f"{folder/'test/dog/1.png'}, the same as {trained}"
    assert line.startswith(f'1 of 6 test images are also training images, such as {pair}')
    (folder/'test/dog/1.png').unlink()
    Image.open(trained).save(folder/'test/dog/1.bmp') # in another format
    shutil.copytree(folder/'test', folder/'valid')
    line = out_of(lambda: loaders(folder, fast=fast), capsys)[1][-1]
    assert line.startswith('1 of 6 validation images and 1 of 6 test images are also training images')
    _,(line,) = out_of(lambda: loaders(folder, fast=fast, watch='test'), capsys)
    assert line.startswith('1 of 6 test images are')
    Image.open(trained).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder/'test/dog/1.bmp')
    shutil.rmtree(folder/'valid')
    lines = out_of(lambda: loaders(folder, fast=fast), capsys)[1]
    assert 'training images' not in ''.join(lines) # a mirrored image has the same statistics, but is another one

# What is read is checked

def cache_of(home):
    (file,) = (home/'advtrain_images').glob('*.safetensors')
    return file

def zeros(b, start, n): b[start:start+n] = bytes(n)
def flip(b, i): b[i] ^= 1

HARM = { # what happens to the bytes of a cache file, whose images and statistics begin at `start`
    'all pages lost': lambda b, start: zeros(b, start, len(b)-start),
    'one block lost': lambda b, start: zeros(b, len(b)-512, 512),
    'a bit of an image': lambda b, start: flip(b, len(b)-700),
    'a bit of the statistics': lambda b, start: flip(b, start+3),
    'a bit of the header': lambda b, start: flip(b, 60),
    'cut': lambda b, start: b.pop(),
    'empty': lambda b, start: b.clear(),
}

@pytest.mark.parametrize('harm', HARM)
def test_damaged_cache(folder, home, capsys, harm):
    right = decode_images(files := class_files(folder), 8).pixels.clone()
    whole = bytearray(cache_of(home).read_bytes())
    HARM[harm](whole, int.from_bytes(whole[:8], 'little')+8)
    cache_of(home).write_bytes(whole)
    found,lines = out_of(lambda: decode_images(files, 8), capsys)
    assert torch.equal(found.pixels, right) and len(lines)==1
    assert ('0 of 22 images are decoded already' if harm=='all pages lost' else 'decoding 22 images again') in lines[0]
    assert out_of(lambda: decode_images(files, 8), capsys)[1]==[]

def test_damaged_scan(folder, home, capsys):
    right = scan_images(files := class_files(folder), 8).copy()
    (file,) = (home/'advtrain_scans').glob('*.safetensors')
    b = bytearray(file.read_bytes())
    zeros(b, len(b)-200, 200)
    file.write_bytes(b)
    again,lines = out_of(lambda: scan_images(files, 8), capsys)
    assert np.array_equal(again, right) and 'again' in lines[0]

def swap(a, b):
    a.rename(a.parent/'aside')
    b.rename(a)
    (a.parent/'aside').rename(b)

@pytest.mark.parametrize('fast', [True,False])
@pytest.mark.parametrize('how', ['files','classes','splits','put back'])
def test_swapped_images(folder, how, fast):
    "Names, sizes and times of modification are the same"
    for f in folder.glob('*/*/*'):
        Image.open(f).save(f.with_suffix('.bmp'))
        f.unlink()
        os.utime(f.with_suffix('.bmp'), (1e9,1e9))
    for f in folder.glob('train/*/[3-7].bmp'): f.unlink()
    before = loaders(folder, bs=2, fast=fast).fingerprint['all']
    a,b = folder/'train/cat/0.bmp',folder/'train/dog/0.bmp'
    if how=='files': swap(a, b)
    elif how=='classes': swap(a.parent, b.parent)
    elif how=='splits': swap(folder/'train', folder/'test')
    else:
        a.write_bytes(b.read_bytes())
        os.utime(a, (1e9,1e9))
    after = loaders(folder, bs=2, fast=fast).fingerprint['all']
    assert before!=after
    shutil.rmtree(make_once.data_home())
    make_once.data_home().mkdir()
    assert loaders(folder, bs=2, fast=fast).fingerprint['all']==after

def test_unchanged_images_are_not_decoded_again(folder, monkeypatch):
    for fast in True,False:
        loaders(folder, fast=fast)
        with monkeypatch.context() as m:
            m.setattr(decoded._Decoder, '__getitem__', lambda *args: pytest.fail('decoded again'))
            os.chmod(folder, 0o755)
            (folder/'notes.txt').write_text('') # a folder's own time may change
            loaders(folder, fast=fast)

def test_readable_again(folder, monkeypatch):
    "A file that could not be read for a moment is tried again"
    opened = images._open
    def _fails(file):
        if Path(file).name=='3.png': raise OSError(5, 'Input/output error')
        return opened(file)
    with monkeypatch.context() as m:
        m.setattr(images, '_open', _fails)
        with pytest.raises(ValueError, match=r'3\.png \(Input/output error\)'): loaders(folder)
    assert len(loaders(folder).test.items)==6

def test_left_by_a_killed_process(folder, home):
    "What it was about to make is removed by the next one that makes it, and nothing else is"
    decode_images(files := class_files(folder), 8)
    cache = cache_of(home)
    if not (pid := os.fork()):
        with make_once.file_lock(cache), make_once._temp_folder_beside(cache): os._exit(1)
    os.waitpid(pid, 0)
    (left,) = cache.parent.glob('*.part')
    others = [cache.parent/f'{cache.name}-mine.part', cache.parent/'other.safetensors-abcd1234.part']
    for o in others: o.mkdir()
    cache.unlink()
    decode_images(files, 8)
    assert not left.exists() and all(o.exists() for o in others) and cache.exists()

def test_archives_are_unpacked_by_one_process(tmp_path, home):
    "A folder that a killed process was filling is removed, and not taken for the data"
    (tmp_path/'few'/'a').mkdir(parents=True)
    (tmp_path/'few'/'a'/'1.txt').write_text('1')
    archive = shutil.make_archive(str(tmp_path/'some'), 'tar', tmp_path, 'few')
    unpacked = unpack_once(archive)
    shutil.rmtree(unpacked)
    (left := unpacked.parent/f'{unpacked.name}-abcd1234.part').mkdir()
    assert (unpack_once(archive)/'a'/'1.txt').read_text()=='1' and not left.exists()

def test_partial_cifar10(tmp_path, capsys):
    for c in CIFAR10_CLASSES:
        (tmp_path/'c'/'train'/c).mkdir(parents=True)
        (tmp_path/'c'/'train'/c/'1.png').write_text('')
    cifar10(tmp_path/'c')
    assert "has 10 of CIFAR-10's 60000 images" in capsys.readouterr().out

# Pixels

def saved(x, file):
    Image.fromarray(x).save(file)
    return file

FLOATS = {
    'NaN': (np.nan, 'NaN or infinite'), 'infinite': (np.inf, 'NaN or infinite'),
    'negative': (-.5, 'range from -0.5 to 0.5'), 'huge': (1e6, 'range from 0.5 to 1e[+]06')}

@pytest.mark.parametrize('name', FLOATS)
def test_floats_that_are_no_colours(folder, name):
    value,why = FLOATS[name]
    x = np.full((8,8), .5, np.float32)
    x[3,4] = value
    file = saved(x, folder/'train/cat/odd.tiff')
    with pytest.raises(ValueError, match='odd.tiff cannot be read: .*'+why): open_rgb(file)
    with pytest.raises(ValueError, match='1 of 23 images cannot be read: .*'+why): loaders(folder)
    x[3,4] = .5
    assert (np.asarray(open_rgb(saved(x, file)))==128).all()

def test_far_too_large(folder, monkeypatch):
    "A decompression bomb is an image that cannot be read"
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    Image.new('RGB', (100,100)).save(folder/'train/cat/bomb.png')
    with pytest.raises(ValueError, match=r'bomb\.png \(Image size \(10000 pixels\) exceeds limit'): loaders(folder)

@pytest.mark.parametrize('fast', [True,False])
def test_predict_takes_what_fastai_takes(folder, fast, tmp_path):
    learn = resnet_learner(loaders(folder, fast=fast), width=2, precision='fp32')
    file = learn.dls.valid.items[0]
    x = np.asarray(Image.open(file))
    for o in learn,load_learner(learn.export(tmp_path/'l.pkl') or tmp_path/'l.pkl'):
        with o.no_bar():
            want = o.predict(file)[2]
            for item in str(file),x,torch.tensor(x),file.read_bytes(),Image.open(file):
                assert torch.allclose(o.predict(item)[2], want, atol=1e-6)
            for labelled in False,True:
                probs,_ = o.get_preds(dl=o.dls.test_dl([str(file)]*2, with_labels=labelled))
                assert torch.allclose(probs[1], want, atol=1e-6)
        with pytest.raises(TypeError, match='has no folder'): o.dls.test_dl([x], with_labels=True).one_batch()

# Augmentations

class Now(A.ImageOnlyTransform):
    "Gives something else the third time"
    times = 0
    def __init__(self, odd):
        super().__init__(p=1)
        self.odd = odd
    def apply(self, img, **params):
        Now.times += 1
        return self.odd(img) if Now.times%30==0 else img

ODD = {
    'NaN': (lambda x: np.full(x.shape, np.nan), 'float64'), 'one channel': (lambda x: x[...,:1].copy(), '8, 8, 1'),
    'gray': (lambda x: x[...,0].copy(), '8, 8'), 'floats': (lambda x: x/np.float32(255), 'float32'),
    'a list': (lambda x: x.tolist(), 'list'), 'nothing': (lambda x: None, 'NoneType'),
    'an error': (lambda x: np.zeros(3)[5], 'IndexError'), 'smaller': (lambda x: x[:5].copy(), '5×8')}

@pytest.mark.parametrize('odd', ODD)
def test_augmentation_that_is_odd_only_sometimes(folder, odd):
    "Found when a batch is made, and said in one line"
    f,why = ODD[odd]
    Now.times = 0
    dls = loaders(folder, augs=A.Compose([Now(f)]))
    with pytest.raises(ValueError) as e:
        for _ in range(20): list(dls.train)
    assert why in str(e.value) and ours(e.value), str(e.value)

def ours(e):
    "Is an error one line, raised by advtrain itself?"
    return '\n' not in str(e) and 'advtrain' in Path(traceback.extract_tb(e.__traceback__)[-1].filename).parts

SOMETIMES = {
    'gray': A.ToGray(num_output_channels=1, p=.01), 'floats': A.ToFloat(p=.01), 'sizes': A.RandomCrop(6, 6, p=.01),
    'too large': A.RandomCrop(9, 9, p=.01), 'scale': A.RandomScale((-.3,.3), p=1),
    'in a part': A.Sequential([A.NoOp(), A.ToGray(num_output_channels=1, p=.5)], p=.01)}

@pytest.mark.parametrize('name', SOMETIMES)
def test_rare_fault_is_found_before_training(folder, name):
    for f in (lambda: loaders(folder, augs=A.Compose([SOMETIMES[name]])), lambda: image_block(SOMETIMES[name], size=8)):
        with pytest.raises(ValueError) as e: f()
        assert ours(e.value)

def test_smaller_images_are_shown(folder):
    dls = loaders(folder, augs=A.Compose([A.HorizontalFlip(), A.RandomCrop(6, 6)]))
    assert dls.train.one_batch()[0].shape[2:]==(6,6)
    assert [o.images[0].get_size() for o in show_augmented(dls, n=2).axes]==[(8,8),(6,6),(6,6)]
    show_transforms(dls, n=2)
    show_classes(dls, n=2)

# Wrong arguments

NAN,INF = float('nan'),float('inf')
NUMBERS = [None,'3',b'3',NAN,INF,-1,10**30,1.5,True,[],[3],{},np.arange(3),torch.ones(2),object(),print]
SHARES = [None,'x',NAN,INF,-.1,0,1.1,10**30,True,[],np.ones(2),object()]
ANY_SIZE = [o for o in NUMBERS if o is not NUMBERS[6]] # all but a number that is too large
PATHS = [None,3,2.5,b'data','',True,[],['a'],{},np.arange(3),object(),'a\0b','x'*5000,'~nobody/x','nowhere']
WORDS = [None,'x',b'valid',3,True,[],['valid'],np.arange(3),NAN,object()]
BORDERS = [None,'white',b'black',0,[],['black'],np.ones(2)]
FLAGS = [None,'no',1,0,[],np.ones(2),NAN]
DEVICES = ['x','','cuda:99',-1,10**30,3.5,True,[],{},b'cpu',NAN,np.arange(3),object(),'cpu:x']
NO_AUGS = ['cutout',b'',3,NAN,True,[],[A.HorizontalFlip()],(A.NoOp(),),{},np.arange(3),object(),print,cutout_augs,
    A.HorizontalFlip,v2.RandomHorizontalFlip,transforms.RandomHorizontalFlip(),torch.nn.ReLU(),
    torch.nn.Sequential(v2.RandomHorizontalFlip()),[v2.RandomHorizontalFlip()],transforms.Compose([transforms.RandomHorizontalFlip()])]
AUGS_THAT_FAIL = [A.Normalize(),A.RandomCrop(99, 99),v2.Normalize((.5,)*3, (.5,)*3),v2.RandomCrop(99),v2.Grayscale(),
    v2.CutMix(num_classes=2)]
FIGSIZES = ['x',3,[],[3],[3,4,5],(NAN,3),(-1,3),(0,0),(3,10**30),('a','b'),object()]
VOCABS = ['ab',b'ab',3,[],[3],['a','a'],['','b'],['a\0','b'],[None],object()]
FOLDERS = VOCABS + [['../a','b'],['..','b']]
STATS = ['x',3,[],(0,1),((0,0,0),(1,1)),((0,0,0),(1,1,0)),((0,0,NAN),(1,1,1)),((0,0,0),(1,1,INF)),object()]
FILES = [None,'a.png',3,[],[3],[None],object()]
SPLITTER = dict(valid_pct=SHARES+[1], watch=WORDS, seed=ANY_SIZE, fraction=SHARES)
SHOWN = dict(dls=NUMBERS, n=NUMBERS+[0], seed=NUMBERS, figsize=FIGSIZES)
HOLE = dict(hole=NUMBERS+[0], fill=SHARES[:5]+[256,True], p_hole=SHARES[:5]+[1.1,True])

SIZES = NUMBERS+[0]
WRONG = dict( # function -> argument -> values that it cannot have
    image_dls=SPLITTER | dict(path=PATHS, augs=NO_AUGS+AUGS_THAT_FAIL, size=SIZES, bs=SIZES, device=DEVICES,
        flip_labels=SHARES[:5]+SHARES[6:]+[1], num_workers=NUMBERS[1:], fast=FLAGS, on_error=WORDS, fit=WORDS),
    image_block=SPLITTER | dict(augs=NO_AUGS+AUGS_THAT_FAIL, size=SIZES, stats=STATS, on_error=WORDS, vocab=FOLDERS,
        fit=WORDS),
    empty_dls=dict(vocab=VOCABS, stats=STATS, size=SIZES, bs=ANY_SIZE+[0], device=DEVICES, fit=WORDS),
    FolderSplitter=SPLITTER,
    class_files=dict(path=PATHS),
    data_source=dict(data=PATHS),
    cifar10=dict(source=PATHS[1:]),
    unpack_once=dict(archive=PATHS),
    fashion_sample=dict(few=FLAGS),
    open_rgb=dict(file=PATHS),
    fit_square=dict(size=SIZES, fit=WORDS),
    FitSquare=dict(size=SIZES, fit=WORDS),
    decode_images=dict(files=FILES, size=SIZES, fit=WORDS),
    scan_images=dict(files=FILES, size=SIZES, fit=WORDS),
    show_classes=SHOWN | dict(augmented=FLAGS),
    show_augmented=SHOWN | dict(index=NUMBERS),
    show_transforms=SHOWN | dict(index=NUMBERS),
    cutout_augs=HOLE | dict(size=SIZES, pad=NUMBERS, degrees=SHARES[:5]+[181,True], flip=FLAGS, border=BORDERS),
    flip_cutout_augs=HOLE,
    shift_gray_augs=HOLE | dict(size=SIZES, pad=NUMBERS, degrees=SHARES[:5]+[181], shift=SHARES[:5]+[1.1],
        scale=SHARES[:5]+[1], p_gray=SHARES[:5]+[1.1], border=BORDERS),
    trivial_augs=dict(size=SIZES, pad=NUMBERS, flip=FLAGS, border=BORDERS),
    rand_augs=dict(size=SIZES, pad=NUMBERS, flip=FLAGS, num_ops=SIZES, magnitude=NUMBERS+[31], border=BORDERS),
    augmented_pixels=dict(aug=NO_AUGS+AUGS_THAT_FAIL+[None], size=SIZES),
    AlbumentationsTransform=dict(train_aug=NO_AUGS, valid_aug=NO_AUGS),
    BatchAlbumentations=dict(train_aug=NO_AUGS),
)

@pytest.mark.parametrize('name,parameter', [(f,p) for f in WRONG for p in WRONG[f]])
def test_wrong_argument(folder, name, parameter, monkeypatch):
    "One line from advtrain, which names the argument or what came"
    monkeypatch.delenv('ADVTRAIN_CIFAR10', raising=False)
    monkeypatch.setattr(sources, 'untar_data', lambda *args: pytest.fail('a download'))
    f,kwargs = getattr(advtrain.all, name),{}
    if name=='image_dls': kwargs = dict(path=folder, size=8, bs=4, device='cpu')
    elif name=='empty_dls': kwargs = dict(vocab=['a','b'], stats=((0,0,0),(1,1,1)), size=8, bs=4, device='cpu')
    elif name=='fit_square': kwargs = dict(image=Image.new('RGB', (9,8)), size=8)
    elif name=='FitSquare': kwargs = dict(size=8)
    elif name.startswith('show'): kwargs = dict(dls=loaders(folder, augs=A.HorizontalFlip()))
    elif name in ('decode_images','scan_images'): kwargs = dict(files=class_files(folder))
    elif name=='augmented_pixels': kwargs = dict(aug=A.HorizontalFlip())
    elif parameter=='valid_aug': kwargs = dict(train_aug=None)
    accepted,foreign = [],[]
    for value in WRONG[name][parameter]:
        try: f(**kwargs | {parameter: value})
        except (TypeError,ValueError,IndexError,FileNotFoundError) as e:
            if not ours(e): foreign.append(f'{value!r:.80}: {e!r:.200}')
        except Exception as e: foreign.append(f'{value!r:.80}: {e!r:.200}')
        else: accepted.append(f'{value!r:.80}')
    assert not foreign and not accepted, f'{len(foreign)} foreign: {foreign[:4]}; accepted: {accepted}'
