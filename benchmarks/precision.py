"""Claim: the precision and layout that advtrain chooses are the fastest of fp32 and bf16, default and channels-last.

Each takes the same steps in turn, in one run: ResNet-18, LayerNorm, batches of 128 images of 32x32 pixels, then the
network of the preset `quickstart`. Where the hardware has no bf16, advtrain chooses fp32. How the chosen step compares
with fastai's defaults is told by step.py.

    python benchmarks/precision.py
"""
import argparse,platform

import torch
from keep import keep,with_save

from advtrain.all import EXPERIMENTS,fashion_sample,image_dls,resnet_learner

ROUNDS = 5

def main():
    o = with_save(argparse.ArgumentParser(description=__doc__.split('\n')[0])).parse_args()
    quick,numbers = EXPERIMENTS['quickstart'],{}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads'
    print(f'{device}, torch {torch.__version__}, {ROUNDS} rounds')
    for name,bs,width in (('ResNet-18',128,64), ('quickstart',quick.bs,quick.width)):
        table = resnet_learner(image_dls(fashion_sample(), bs=bs), width=width).compare_precision(ROUNDS)
        numbers[name] = table.to_dict('records')
        print(name, table.round(1), f'chosen: {table.ms.min()/table.ms[table.used].item():.2f} of the speed of the fastest', sep='\n')
    keep(o.save, numbers, 'fastai')

if __name__=='__main__': main()
