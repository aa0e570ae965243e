"""Claim: `learn.fit` takes a step about 3 times as fast as fastai's defaults on a processor with bf16, 1.2 times
without, and as fast as a bare PyTorch loop, in as much memory.

ResNet-18, LayerNorm, batches of 128 images of 32x32 pixels, pad-and-crop, flip, rotation and cutout. Three peers in
separate processes do the same work in turn, a few batches per round. Quote the median and range of the ratios within
a round, and the ratio of the memory peaks:

    fastai     files and albumentations item by item, fastai's SGD, fp32: the defaults of `Learner`
    bare       a plain PyTorch loop with the precision, layout, optimiser, loader and augmentation of advtrain
    advtrain   `resnet_learner(image_dls(path, augs)).fit`

    python benchmarks/step.py                          # the Fashion-MNIST sample, repeated
    python benchmarks/step.py --data cifar10.tgz
    python benchmarks/step.py --profile                # where the time of a step goes
"""
import argparse,contextlib,copy,platform,resource,statistics,subprocess,sys,time
from functools import partial

import torch
from fastai.data.block import CategoryBlock,DataBlock
from fastai.data.transforms import Normalize,parent_label
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import SGD
from fastai.vision.data import ImageBlock

from keep import keep,over,with_save

from advtrain.all import (
    A,AlbumentationsTransform,CIFAR10_STATS,Precision,class_files,cutout_augs,data_source,fashion_sample,image_dls,
    resnet18,resnet_learner,set_seed)

BS = 128
AUGS = A.Compose([A.HorizontalFlip(), *cutout_augs().transforms])

class Few:
    "Yield the first batches of a loader, repeating it if it has fewer"
    def __init__(self, dl, n): self.dl,self.n,self.bs = dl,n,dl.bs
    def __len__(self): return self.n
    def __getattr__(self, name): return getattr(self.dl, name)
    def __iter__(self):
        done = 0
        while True:
            for b in self.dl:
                if len(b[0])<self.bs: continue
                if done==self.n: return
                done += 1
                yield b

def synchronize():
    if torch.cuda.is_available(): torch.cuda.synchronize()

def fitted(learn, steps):
    "Make a call that trains `learn` for `steps` batches, or for as many as you pass"
    few = Few(learn.dls.train, steps)
    learn.dls = copy.copy(learn.dls)
    learn.dls.loaders = [few, [], *learn.dls.loaders[2:]]
    def _fit(n=steps):
        few.n = n
        with learn.no_bar(),learn.no_logging(),contextlib.redirect_stdout(None): learn.fit(1)
    return _fit

def fastai_peer(path, steps, bs=BS, **kwargs):
    block = DataBlock((ImageBlock,CategoryBlock), get_items=class_files, get_y=parent_label,
        item_tfms=AlbumentationsTransform(AUGS), batch_tfms=Normalize.from_stats(*CIFAR10_STATS))
    # fastai's default on a GPU; on a CPU, training needs the cores
    workers = {} if torch.cuda.is_available() else dict(num_workers=0)
    learn = Learner(block.dataloaders(path, bs=bs, **workers), resnet18(**kwargs), CrossEntropyLossFlat(),
        opt_func=partial(SGD, mom=.9), lr=.01, metrics=accuracy)
    return fitted(learn, steps)

def ours(path, steps, bs=BS, dls=None, **kwargs):
    return fitted(resnet_learner(dls or image_dls(path, AUGS, bs=bs), **kwargs), steps)

def bare(path, steps, bs=BS, dls=None, fixed=False, change=lambda model, x: model, **kwargs):
    "Make a plain loop like `resnet_learner`'s; `fixed` repeats one batch, `change` replaces the model"
    dl = Few((dls or image_dls(path, AUGS, bs=bs)).train, steps)
    model = resnet18(**kwargs).to(dl.device)
    dtype,channels_last = Precision().choice(model)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout).train()
    opt = torch.optim.SGD(model.parameters(), lr=.01, momentum=.9, weight_decay=5e-4, fused=True)
    def _plain(x, y): return x.as_subclass(torch.Tensor).contiguous(memory_format=layout),y.as_subclass(torch.Tensor)
    batch = _plain(*next(iter(dl)))
    model = change(model, batch[0])
    def _train(n=steps):
        dl.n = n
        for b in [batch]*n if fixed else dl:
            x,y = b if fixed else _plain(*b)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype=='bf16'): out = model(x)
            torch.nn.functional.cross_entropy(out.float(), y).backward()
            opt.step()
            opt.zero_grad()
    return _train

PEERS = {'fastai': fastai_peer, 'bare': bare, 'advtrain': ours}

def seconds(f):
    synchronize()
    start = time.perf_counter()
    f()
    synchronize()
    return time.perf_counter()-start

def serve(name, path, steps, **kwargs):
    "Train whenever a line comes in, and print the seconds; at the end print the memory peaks in MB"
    set_seed(0)
    train = PEERS[name](path, steps, **kwargs)
    train()
    print('ready', flush=True)
    for _ in sys.stdin: print(seconds(train), flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024/1e6,
        torch.cuda.max_memory_allocated()/1e6 if torch.cuda.is_available() else 0, flush=True)

class Peer:
    "A process that trains on request"
    def __init__(self, name, path, steps, bs=BS, width=64):
        call = [sys.executable, '-W', 'ignore', __file__, '--data', str(path), '--steps', str(steps), '--bs', str(bs),
            '--width', str(width), '--only', name]
        self.process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while self.process.stdout.readline().strip()!='ready':
            if self.process.poll() is not None: raise RuntimeError(f'the process of {name} ended')
    def go(self):
        self.process.stdin.write('go\n')
        self.process.stdin.flush()
    def seconds(self): return float(self.process.stdout.readline())
    def round(self):
        self.go()
        return self.seconds()
    def end(self): return [float(o) for o in self.process.communicate()[0].split()]

def compare(path, steps, rounds, bs=BS, width=64):
    "Print speeds, memory and their ratios, and return them"
    peers = {name: Peer(name, path, steps, bs, width) for name in PEERS}
    rates = [{name: bs*steps/o.round() for name,o in peers.items()} for _ in range(rounds)]
    peaks = {name: o.end() for name,o in peers.items()}
    for name in PEERS:
        print(f'{name:10} {statistics.median(r[name] for r in rates):8.0f} images/s, {peaks[name][0]:6.0f} MB'
              + (f', {peaks[name][1]:.0f} MB on the GPU' if peaks[name][1] else ''))
    res = {}
    for peer in ('fastai','bare'):
        res[peer] = dict(
            speed=over(r['advtrain']/r[peer] for r in rates),
            memory=[a/b for a,b in zip(peaks['advtrain'], peaks[peer]) if b])
        print(f"advtrain / {peer:8} speed {res[peer]['speed']['median']:6.3f}  "
              f"(from {res[peer]['speed']['low']:.3f} to {res[peer]['speed']['high']:.3f}), "
              f"memory {' and '.join(f'{v:.3f}' for v in res[peer]['memory'])}")
    return dict(images_per_second={name: over(r[name] for r in rates) for name in PEERS}, ratios=res)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--data', help='folder or archive of a data set; default: the Fashion-MNIST sample')
    p.add_argument('--steps', type=int, default=4, help='steps per round')
    p.add_argument('--bs', type=int, default=BS, help='batch size')
    p.add_argument('--width', type=int, default=64, help='channels of the first stage')
    p.add_argument('--rounds', type=int, default=5, help='number of rounds')
    p.add_argument('--profile', action='store_true', help='print where the time of a step goes, and stop')
    p.add_argument('--only', choices=list(PEERS), help=argparse.SUPPRESS)
    o = with_save(p).parse_args()
    path = data_source(o.data) if o.data else fashion_sample()
    if o.only: return serve(o.only, path, o.steps, bs=o.bs, width=o.width)
    device = (torch.cuda.get_device_name() if torch.cuda.is_available() else
        f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads')
    print(f'{device}, torch {torch.__version__}, {o.rounds} rounds of {o.steps} steps of {o.bs} images')
    if o.profile: return print(resnet_learner(image_dls(path, AUGS, bs=o.bs), width=o.width).profile(o.steps).round(3))
    keep(o.save, compare(path, o.steps, o.rounds, o.bs, o.width), 'fastai', 'albumentations')

if __name__=='__main__': main()
