"""Starts and loaders of other libraries, on the same images, with the same batch size.

Each decodes an image whenever it's asked for, in as many worker processes as there are cores, pads it by 4 pixels and
crops 32×32 pixels at random, mirrors half of the images and normalises. That's less work than `cutout_augs`, which also
rotates and cuts a hole.

- fastai: `ImageDataLoaders.from_folder`, `CropPad` and `RandomCrop` per image, `Flip` and `Normalize` per batch
- torchvision: `ImageFolder`, transforms of `torchvision.transforms.v2`, `DataLoader` with persistent workers
- WebDataset: shards and a buffer of 5,000 images shuffled, `decode('pil')`, the same transforms, `WebLoader`
- Hugging Face: `load_dataset('parquet')`, `with_transform` of the same transforms, `DataLoader` with persistent
  workers. Its first start writes the images to an Arrow file, its second start maps that.
"""
import os,time
from pathlib import Path

import torch

from .common import BS,STATS,first_batch,memory,with_workers

WORKERS = os.cpu_count()

def _transforms():
    from torchvision.transforms import v2
    return v2.Compose([
        v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(*STATS)])

def _loader(dataset):
    "Make a `DataLoader`"
    return torch.utils.data.DataLoader(
        dataset, BS, shuffle=True, num_workers=WORKERS, persistent_workers=True, drop_last=False)

def fastai(folder, cache):
    from fastai.data.transforms import Normalize
    from fastai.vision.augment import CropPad,Flip,PadMode,RandomCrop
    from fastai.vision.data import ImageDataLoaders
    import fastai.vision.all # noqa: F401 - as users import it
    def _make():
        return ImageDataLoaders.from_folder(
            folder, train='train', valid='test', bs=BS, num_workers=WORKERS, device='cpu',
            item_tfms=[CropPad(40, pad_mode=PadMode.Zeros), RandomCrop(32)],
            batch_tfms=[Flip(), Normalize.from_stats(*STATS)]).train
    return _make

def torchvision(folder, cache):
    from torchvision.datasets import ImageFolder
    def _make():
        ImageFolder(Path(folder)/'test', _transforms())
        return _loader(ImageFolder(Path(folder)/'train', _transforms()))
    return _make

def webdataset(folder, cache):
    import webdataset as wds
    shards = sorted(map(str, Path(folder).glob('train-*.tar')))
    tfm = _transforms()
    def _make():
        data = (
            wds.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(5000).decode('pil')
            .to_tuple('jpg', 'cls').map_tuple(tfm).batched(BS))
        return wds.WebLoader(data, batch_size=None, num_workers=min(WORKERS, len(shards)), persistent_workers=True)
    return _make

def huggingface(folder, cache):
    import datasets
    datasets.disable_progress_bars()
    tfm = _transforms()
    def _transformed(rows): return dict(image=[tfm(o) for o in rows['image']], label=rows['label'])
    def _collated(items):
        return torch.stack([o['image'] for o in items]),torch.tensor([o['label'] for o in items])
    def _make():
        files = {s: str(Path(folder)/f'data/{s}-*.parquet') for s in ('train','test')}
        found = datasets.load_dataset('parquet', data_files=files, cache_dir=cache)
        return torch.utils.data.DataLoader(
            found['train'].with_transform(_transformed), BS, shuffle=True, num_workers=WORKERS,
            persistent_workers=True, collate_fn=_collated)
    return _make

PEERS = dict(files=dict(fastai=fastai, torchvision=torchvision), webdataset=dict(webdataset=webdataset),
    parquet=dict(huggingface=huggingface))

def load(folder, kind, peer, cache, seconds):
    "Measure a start of a peer, and its loader for some seconds; without seconds, the start alone"
    torch.set_num_threads(1)
    make = PEERS[kind][peer](folder, cache)
    start = time.perf_counter()
    loader = make()
    made = time.perf_counter()-start
    first_batch(loader)
    res = dict(start_s=made, first_batch_s=time.perf_counter()-start, started=memory(), workers=WORKERS)
    if seconds: res |= dict(loading=with_workers(loader, seconds))
    return res
