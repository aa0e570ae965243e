"""Starts and loaders of advtrain."""
import contextlib,io,time

_START = time.perf_counter()
import torch
from advtrain.all import cutout_augs,image_dls

from .common import BS,Workers,first_batch,memory,with_workers

IMPORT = time.perf_counter()-_START

def _opened(folder, augs):
    "Make loaders and load a batch: the loaders, and the seconds of both"
    torch.set_num_threads(1)
    before = memory()
    start = time.perf_counter()
    dls = image_dls(folder, augs, bs=BS, device='cpu')
    made = time.perf_counter()-start
    first_batch(dls.train)
    n = sum(o.n for o in dls.loaders)
    return dls,dict(
        images=n, start_s=made, first_batch_s=time.perf_counter()-start, import_s=IMPORT, fast=dls.fast,
        before_MB=before['resident_MB'])

def start(folder):
    "Measure a start: seconds and memory"
    with Workers() as workers: _,res = _opened(folder, cutout_augs())
    return res | memory() | dict(workers_MB=workers.peak_mb)

def load(folder, seconds, augs=True):
    "Measure a start and the training loader, with `cutout_augs` or without augmentation"
    dls,res = _opened(folder, cutout_augs() if augs else None)
    started = memory()
    return res | dict(started=started, loading=with_workers(dls.train, seconds))

def train(folder, seconds):
    "Measure a start, the training loader, and a tiny network's training on some batches"
    from advtrain.all import resnet_learner
    from fastai.callback.training import ShortEpochCallback
    said = io.StringIO()
    with contextlib.redirect_stdout(said): dls,res = _opened(folder, cutout_augs())
    res |= dict(loading=with_workers(dls.train, seconds), said=said.getvalue(), map_MB=res['images']*32*32*3/1e6)
    learn = resnet_learner(dls, width=4)
    share = min(1, 200*BS/dls.train.n)
    start = time.perf_counter()
    with learn.no_bar(),contextlib.redirect_stdout(said): learn.fit(1, cbs=ShortEpochCallback(share))
    return res | dict(trained_images=share*dls.train.n, training_s=time.perf_counter()-start, **memory())
