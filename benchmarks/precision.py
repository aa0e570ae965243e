"""Claim: a training step in the precision that advtrain chooses is faster than in fastai's default.

ResNet-18, LayerNorm, batches of 128 images of 32x32 pixels, SGD with momentum. Both learners take the same
batches in the same run, in turn; the figure to quote is the ratio. Where the hardware has no bf16,
advtrain chooses fp32 and the ratio shows the layout alone. Then each precision and layout, with the one that is used marked.

    python benchmarks/precision.py
"""
import platform,statistics,time

import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import SGD

from advtrain.all import Precision,fashion_sample,image_dls,resnet18,resnet_learner,sgd

BS,STEPS,ROUNDS = 128,3,5

def loaders(device):
    "Endless copies of one batch, as fastai loaders"
    x,y = torch.randn(BS, 3, 32, 32, device=device),torch.randint(10, (BS,), device=device)
    batches = [(x,y)]*STEPS
    return DataLoaders(batches, batches)

def seconds(learn):
    "Seconds of one epoch of `STEPS` batches, without validation"
    learn.dls.loaders[1] = []
    if torch.cuda.is_available(): torch.cuda.synchronize()
    start = time.perf_counter()
    with learn.no_bar(),learn.no_logging(): learn.fit(1)
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return time.perf_counter()-start

def main():
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    plain = Learner(loaders(device), resnet18().to(device), CrossEntropyLossFlat(), opt_func=SGD, lr=.01)
    ours = Learner(loaders(device), resnet18().to(device), CrossEntropyLossFlat(), opt_func=sgd, lr=.01, cbs=Precision())
    for learn in (plain,ours): seconds(learn)
    pairs = [(seconds(plain), seconds(ours)) for _ in range(ROUNDS)]
    speeds = [[BS*STEPS/s for s in col] for col in zip(*pairs)]
    ratio = [a/b for a,b in pairs]
    print(f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}, {ROUNDS} rounds of {STEPS} steps')
    print(f'fastai as it comes       {statistics.median(speeds[0]):8.0f} images/s')
    print(f'advtrain ({ours.precision.used}, channels last) {statistics.median(speeds[1]):4.0f} images/s')
    print(f'ratio                    {statistics.median(ratio):8.2f}  (from {min(ratio):.2f} to {max(ratio):.2f})')
    print(resnet_learner(image_dls(fashion_sample(), bs=BS, device=device)).compare_precision(ROUNDS).round(1))

if __name__=='__main__': main()
