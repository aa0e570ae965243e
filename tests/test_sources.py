"""Parquet, tar shards, arrays and tables of paths: what others write is what we read, and nothing else is guessed."""
import io,os,sys,tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from advtrain.data.image_list import SPLITS
from advtrain.data.images import open_image,open_listed,open_rgb,why_unreadable
from advtrain.data.rows import read_block
from advtrain.data.tables import list_tables,table_source

PAIR = 'images','labels'
CLASSES = ['dog','cat','bird']

pytestmark = pytest.mark.usefixtures('home')

def noise(n, seed=0, shape=(9,7,3)): return np.random.default_rng(seed).integers(0, 256, (n,*shape), np.uint8)

def encoded(pixels, kind='png'):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()

def pixels_of(listed): return np.stack([np.asarray(open_rgb(o)) for o in listed])

def parquet(file, images, labels, group=4):
    pa = pytest.importorskip('pyarrow')
    from pyarrow.parquet import write_table
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(pa.table({'image': [encoded(o) for o in images], 'label': labels}), file, row_group_size=group)

def shard(file, images, labels):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, 'w') as t:
        for i,(x,y) in enumerate(zip(images, labels)):
            for suffix,data in ('cls',str(y).encode()),('png',encoded(x)):
                info = tarfile.TarInfo(f'{i:06d}.{suffix}')
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))

# ---- What others write

def test_parquet_of_hugging_face(tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HOME', str(tmp_path/'hf'))
    datasets = pytest.importorskip('datasets', reason='the package datasets is not installed')
    features = datasets.Features({'img': datasets.Image(), 'label': datasets.ClassLabel(names=CLASSES)})
    for k,(split,n) in enumerate(dict(train=12, test=5).items()):
        written = datasets.Dataset.from_dict(
            {'img': [Image.fromarray(o) for o in noise(n, k)], 'label': [i%3 for i in range(n)]}, features=features)
        (tmp_path/'data/data').mkdir(parents=True, exist_ok=True)
        written.to_parquet(tmp_path/f'data/data/{split}-00000-of-00001.parquet', batch_size=5)
    listed = list_tables(tmp_path/'data')
    assert listed.classes==CLASSES and listed.labels.tolist()==[*(i%3 for i in range(12)), *(i%3 for i in range(5))]
    assert [SPLITS[o] for o in listed.splits]==['train']*12 + ['test']*5
    assert (pixels_of(listed)==np.concatenate([noise(12,0),noise(5,1)])).all()
    assert listed[16]==tmp_path/'data/data/test-00000-of-00001.parquet#4'
    train = str(tmp_path/'data/data/train-00000-of-00001.parquet')
    read = datasets.Dataset.from_parquet(train, cache_dir=tmp_path/'hf')
    assert [np.asarray(o).tolist() for o in read['img']]==pixels_of(listed[:12]).tolist()

@pytest.mark.parametrize('label', ['cls','json','text'])
def test_shards_of_webdataset(tmp_path, label):
    webdataset = pytest.importorskip('webdataset', reason='the package webdataset is not installed')
    images = noise(13)
    (tmp_path/'data').mkdir()
    with webdataset.ShardWriter(str(tmp_path/'data/some-train-%06d.tar'), maxcount=5, verbose=0) as writer:
        for i,o in enumerate(images):
            more = {'cls': ('cls',i%3), 'json': ('json',{'label': i%3}), 'text': ('cls',CLASSES[i%3].encode())}[label]
            writer.write({'__key__': f'images/ü{i:06d}', 'png': o, more[0]: more[1]})
    listed = list_tables(tmp_path/'data')
    assert listed.classes==(sorted(CLASSES) if label=='text' else ['0','1','2'])
    names = CLASSES if label=='text' else ['0','1','2']
    assert [listed.classes[o] for o in listed.labels]==[names[i%3] for i in range(13)]
    assert (pixels_of(listed)==images).all() and listed[12]==tmp_path/'data/some-train-000002.tar#2'

@pytest.mark.parametrize('save', [np.savez,np.savez_compressed])
def test_arrays_of_medmnist(tmp_path, save):
    splits = {s: (noise(n, k, (28,28)), np.arange(n, dtype=np.uint8)[:,None]%3)
        for k,(s,n) in enumerate(dict(train=9, val=4, test=5).items())}
    save(tmp_path/'mnist.npz', **{f'{s}_{k}': o for s,pair in splits.items() for k,o in zip(PAIR, pair)})
    listed = list_tables(tmp_path/'mnist.npz')
    assert [SPLITS[o] for o in listed.splits]==['train']*9+['valid']*4+['test']*5
    assert listed.labels.tolist()==[int(o) for _,y in splits.values() for o in y[:,0]]
    assert (pixels_of(listed)[...,0]==np.concatenate([x for x,_ in splits.values()])).all()

# ---- Data in memory

def test_arrays_in_memory_are_saved_once(tmp_path, capsys, home):
    x,y = noise(6),np.array([0,1,2]*2)
    file = table_source((x,y))
    assert capsys.readouterr().out==f'saved as {file}, to be read again later\n' and file.is_relative_to(home)
    for same in (torch.tensor(x),torch.tensor(y)),{'train': (x,y)}:
        assert table_source(same)==file and not capsys.readouterr().out
    assert (pixels_of(list_tables(file))==x).all()
    assert table_source((255-x,y))!=file and not [o for o in home.rglob('*.part')]

def test_channels_first_as_pytorch_has_them():
    x = noise(6)
    listed = list_tables(table_source((torch.tensor(x).permute(0,3,1,2), [0,1,2]*2)))
    assert (pixels_of(listed)==x).all()

def test_table_of_paths(tmp_path, monkeypatch):
    images = noise(4)
    for i,o in enumerate(images): Image.fromarray(o).save(tmp_path/f'{i}.png')
    table = pd.DataFrame({'path': [f'{i}.png' for i in range(4)], 'label': ['b','a','b','b']})
    table['split'] = ['train','train','test','train']
    table.to_csv(tmp_path/'all.csv', index=False)
    monkeypatch.chdir(tmp_path)
    for source in tmp_path/'all.csv',table_source(table):
        listed = list_tables(source)
        assert [o.name for o in listed]==['0.png','1.png','3.png','2.png']
        assert (pixels_of(listed)==images[[0,1,3,2]]).all()
        assert [listed.classes[o] for o in listed.labels]==['b','a','b','b'] and listed.splits.tolist()==[0,0,0,2]
    before = list_tables(tmp_path/'all.csv').stamp
    os.utime(tmp_path/'3.png', (1,1))
    assert list_tables(tmp_path/'all.csv').stamp!=before
    (tmp_path/'3.png').unlink()
    gone = list_tables(tmp_path/'all.csv')[2]
    assert why_unreadable(gone)==f'{tmp_path}/3.png (no such file)'

# ---- What is in a folder

def test_what_has_no_split_is_told(tmp_path, capsys):
    for name in 'train-0','more','test-0': shard(tmp_path/f'data/{name}.tar', noise(2), [0,1])
    listed = list_tables(tmp_path/'data')
    assert {o.name.partition('#')[0] for o in listed}=={'train-0.tar','test-0.tar'}
    assert capsys.readouterr().out==(
        f"not used: {tmp_path}/data/more.tar (next to train, only files with a split's name are used)\n")

def test_archives_of_folders_are_left_to_others(tmp_path):
    (tmp_path/'cat').mkdir()
    Image.fromarray(noise(1)[0]).save(tmp_path/'cat/1.png')
    for name in 'a.tar','a.tgz':
        with tarfile.open(tmp_path/name, 'w:gz' if name=='a.tgz' else 'w') as t: t.add(tmp_path/'cat', 'cat')
        assert list_tables(tmp_path/name) is None
    assert list_tables(tmp_path) is None

def test_two_formats_in_a_folder(tmp_path):
    shard(tmp_path/'data/train/0.tar', noise(2), [0,1])
    parquet(tmp_path/'data/train/0.parquet', noise(2), [0,1])
    with pytest.raises(ValueError, match='pass one of them, or move one away'): list_tables(tmp_path/'data')

def test_a_stamp_follows_the_files(tmp_path):
    for i in range(2): shard(tmp_path/f'data/{i}.tar', noise(2, i), [0,1])
    before = list_tables(tmp_path/'data').stamp
    assert list_tables(tmp_path/'data').stamp==before
    shard(tmp_path/'data/1.tar', noise(2, 5), [1,0])
    after = list_tables(tmp_path/'data')
    assert after.stamp!=before and after.labels.tolist()==[0,1,1,0] # the kept index isn't used
    assert (pixels_of(after)[2:]==noise(2, 5)).all()

def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path/'a.parquet').write_bytes(b'PAR1')
    for name in [o for o in sys.modules if o.startswith('pyarrow')]: monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ImportError, match=r"is not installed: run pip install '\.\[parquet\]' in advtrain's folder$"):
        list_tables(tmp_path/'a.parquet')

# ---- Rows

SOURCES = 'parquet','shard','arrays'

@pytest.fixture
def listed(tmp_path, request):
    "Ten training and four test images in each format"
    x,y = noise(14),[i%3 for i in range(14)]
    if request.param=='arrays': return list_tables(table_source({'train': (x[:10],y[:10]), 'test': (x[10:],y[10:])}))
    write,suffix = (parquet,'.parquet') if request.param=='parquet' else (shard,'.tar')
    for split,of in ('train',slice(10)),('test',slice(10,14)): write(tmp_path/f'data/{split}{suffix}', x[of], y[of])
    return list_tables(tmp_path/'data')

@pytest.mark.parametrize('listed', SOURCES, indirect=True)
def test_rows_in_any_order(listed):
    rng = np.random.default_rng(0)
    for rows in np.arange(14),rng.permutation(14),rng.integers(0, 14, 40),np.array([13,0,0,13]),np.array([], int):
        images = [np.asarray(open_image(o)) for o in read_block(listed.names, rows)]
        assert np.array_equal(np.array(images).reshape(-1,9,7,3), noise(14)[rows])
    assert (pixels_of(listed[[12,3]])==noise(14)[[12,3]]).all()

class Pictures(torch.utils.data.Dataset):
    "Images of a list, opened in workers"
    def __init__(self, listed): self.listed = listed
    def __len__(self): return len(self.listed)
    def __getitem__(self, i): return torch.tensor(np.asarray(open_listed(self.listed[i])))

@pytest.mark.parametrize('listed,start', [*((o,'fork') for o in SOURCES),('shard','spawn')], indirect=['listed'])
def test_rows_in_workers(listed, start):
    open_rgb(listed[0]) # the parent has open files when it forks
    n = 2 if start=='fork' else 1
    loader = DataLoader(Pictures(listed), batch_size=3, num_workers=n, multiprocessing_context=start)
    assert (torch.cat([*loader]).numpy()==noise(14)).all()
    assert (pixels_of(listed)==noise(14)).all()

@pytest.mark.parametrize('listed', SOURCES, indirect=True)
def test_a_row_that_cannot_be_read_is_named(listed):
    file = Path(str(listed[0]).partition('#')[0])
    with pytest.raises(ValueError, match=rf'{file.name}#99 cannot be read: row 99 is beyond'): open_rgb(f'{file}#99')
    none = file.with_stem('none')
    with pytest.raises(FileNotFoundError, match=rf'{none}#0 cannot be read: no such file'): open_rgb(f'{none}#0')

def test_a_picture_that_is_none_is_named(tmp_path):
    pa = pytest.importorskip('pyarrow')
    from pyarrow.parquet import write_table
    write_table(pa.table({'image': [encoded(noise(1)[0]),b'no picture',None], 'label': [0,1,1]}), tmp_path/'a.parquet')
    listed = list_tables(tmp_path/'a.parquet')
    assert [why_unreadable(o) for o in listed]==[f'{tmp_path}/a.parquet#0',
        f"{tmp_path}/a.parquet#1 (Pillow can't read it as an image)",
        f'{tmp_path}/a.parquet#2 (row 2 has no bytes: the image is missing, or the row only has a link to it)']

def test_large_groups_of_rows_are_read_in_parts(tmp_path, monkeypatch):
    pytest.importorskip('pyarrow')
    from advtrain.data import parquet as module
    images = noise(60)
    parquet(tmp_path/'a.parquet', images, [i%2 for i in range(60)], group=50)
    monkeypatch.setattr(module, 'PART', 10*len(encoded(images[0])))
    reader = module.ParquetRows(tmp_path/'a.parquet')
    for rows in [*range(60)],[55,3,49,50,12,11,59],[*range(40,60)]:
        assert reader.read(rows)==[encoded(images[i]) for i in rows] and len(reader.part)<=10

def test_a_damaged_part_gives_no_row_the_image_of_another(tmp_path, monkeypatch):
    "Each row of the part is an error, and rows before and after it are read"
    pytest.importorskip('pyarrow')
    from advtrain.data import parquet as module
    images = noise(60)
    parquet(tmp_path/'a.parquet', images, [i%2 for i in range(60)], group=20)
    listed = list_tables(tmp_path/'a.parquet')
    monkeypatch.setattr(module, 'PART', 5*len(encoded(images[0])))
    whole = module.ParquetRows._restart
    def _damaged(parts):
        yield next(parts)
        raise OSError('a damaged page')
    def _restart(self, group):
        whole(self, group)
        if group==1: self.parts = _damaged(self.parts)
    monkeypatch.setattr(module.ParquetRows, '_restart', _restart)
    def _opened(path):
        try: return np.asarray(open_rgb(path))
        except ValueError as e: return str(e)
    opened = [_opened(o) for o in listed]
    bad = [i for i,o in enumerate(opened) if isinstance(o, str)]
    assert 20<bad[0]<30 and bad==[*range(bad[0], 40)] and all('a damaged page' in opened[i] for i in bad)
    assert all((opened[i]==images[i]).all() for i in range(60) if i not in bad)

@pytest.mark.parametrize('kind', ['parquet','tar'])
def test_a_table_of_rows_follows_the_tables(tmp_path, kind):
    "If a table changes, its rows have another stamp"
    write = dict(parquet=parquet, tar=shard)[kind]
    write(tmp_path/f'rows.{kind}', noise(4), [0,1,0,1])
    paths = pd.DataFrame(dict(path=[f'rows.{kind}#{i}' for i in range(4)], label=['a','b','a','b']))
    paths.to_csv(tmp_path/'paths.csv', index=False)
    before = list_tables(tmp_path/'paths.csv')
    assert list_tables(tmp_path/'paths.csv').stamp==before.stamp
    write(tmp_path/f'rows.{kind}', noise(4, 1), [0,1,0,1])
    after = list_tables(tmp_path/'paths.csv')
    assert after.stamp!=before.stamp and (pixels_of(after)==noise(4, 1)).all()
