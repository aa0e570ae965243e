"""Claim: the precision and layout that advtrain chooses are the fastest of fp32 and bf16, default and channels-last.

Each takes the same steps in turn, in one run: ResNet-18, LayerNorm, batches of 32 images of 32x32 pixels, then the
network of the preset `quickstart`. If the hardware has no bf16, advtrain chooses fp32. Then bf16 is about ten times
slower, and the script takes two to three minutes. step.py compares the chosen step with fastai's defaults.

    python benchmarks/precision.py
"""
import argparse,platform

import torch
from keep import keep,with_save

from advtrain.all import EXPERIMENTS,fashion_sample,image_dls,make_learner,resnet_learner

ROUNDS = 3

def main():
    o = with_save(argparse.ArgumentParser(description=__doc__.split('\n')[0])).parse_args()
    quick,numbers = EXPERIMENTS['quickstart'],{}
    device = (torch.cuda.get_device_name() if torch.cuda.is_available() else
        f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads')
    print(f'{device}, torch {torch.__version__}, {ROUNDS} rounds')
    data = fashion_sample()
    for name,learn in (('ResNet-18', resnet_learner(image_dls(data, bs=32))),
                       ('quickstart', make_learner(quick, data))):
        print(f'{name}: a step of {learn.dls.train.bs} images in each precision and layout ...', flush=True)
        table = learn.compare_precision(ROUNDS)
        numbers[name] = table.to_dict('records')
        print(table.round(1),
            f'chosen: {table.ms.min()/table.ms[table.used].item():.2f} of the speed of the fastest', sep='\n')
    keep(o.save, numbers, 'fastai')

if __name__=='__main__': main()
