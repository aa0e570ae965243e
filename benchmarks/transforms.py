"""Claim: on one core, a batch is augmented at least three times as fast as by albumentations image by image, up to 64
pixels. Above, the pixels cost more than the Python around them, and the ratio falls.

Both sides make an augmented batch from the same 128 decoded images, on one thread: `augment_batch` from the batch,
albumentations by calling a `Compose` on each image and stacking the results. They take turns for several rounds.
Figures are medians over the rounds, ratios are within a round. A transform is applied to every image, a preset as it
is. `RandomCrop` includes the padding.

    python benchmarks/transforms.py [--sizes 32,64,128,224] [--rounds 9] [--seconds .1]
"""
import argparse,os,statistics,time

import cv2
import numpy as np
import torch
from keep import keep,machine,over,with_save
from advtrain.data.augment import AUGS
from advtrain.data.transforms import augment_batch
from advtrain.lazy_imports import A

BS = 128
ENOUGH = 2 # a ratio below this is named

def augmentations(size):
    "Make each augmentation, by name"
    hole = size//2,size//2
    always = dict(
        RandomCrop=[A.PadIfNeeded(size+8, size+8, border_mode=0), A.RandomCrop(size, size)],
        HorizontalFlip=[A.HorizontalFlip(p=1)],
        Rotate=[A.Rotate((-5,5), border_mode=0, p=1)],
        Affine=[A.Affine(translate_percent=(-.0625,.0625), scale=(.9,1.1), rotate=(-5,5), border_mode=0, p=1)],
        CoarseDropout=[A.CoarseDropout((1,1), hole, hole, fill=128, p=1)],
        ToGray=[A.ToGray(p=1)],
        RandomBrightnessContrast=[A.RandomBrightnessContrast(p=1)])
    res = {k: A.Compose(ts, seed=0) for k,ts in always.items()}
    for k in ('cutout','flip_cutout','shift_gray'):
        res[f'preset {k}'] = AUGS[k](size, hole=size//2)
        res[f'preset {k}'].set_random_seed(0)
    return res

def speed(f, seconds):
    "Measure images per second of `f`, which augments a batch"
    done = 0
    start = time.perf_counter()
    while time.perf_counter()-start < seconds:
        f()
        done += BS
    return done/(time.perf_counter()-start)

def compare(aug, images, rounds, seconds):
    "Measure both ways in turn: images per second in each round"
    batch = torch.from_numpy(images)
    rng = np.random.default_rng(0)
    def ours(): augment_batch(aug, batch, rng)
    def theirs(): np.stack([aug(image=o)['image'] for o in images])
    ours()
    theirs()
    return [dict(batch=speed(ours, seconds), items=speed(theirs, seconds)) for _ in range(rounds)]

def line(size, name, found):
    "Describe a result"
    speeds = found['images_per_second']
    ratio = found['ratio']
    below = f'  below {ENOUGH}' if ratio['median']<ENOUGH else ''
    return (f"{size:4} {name:26} {speeds['batch']:11,.0f} {speeds['items']:11,.0f} images/s {ratio['median']:7.1f} "
            f"({ratio['low']:.1f} to {ratio['high']:.1f}){below}")

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--sizes', default='32,64,128,224', help='sides of the images, pixels')
    p.add_argument('--rounds', type=int, default=9, help='number of rounds')
    p.add_argument('--seconds', type=float, default=.1, help='seconds of each side in a round')
    o = with_save(p).parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    about = machine()
    print(f"{about['cpu']}, {about['instructions']}, torch {torch.__version__}, OpenCV {cv2.__version__}, "
          f'albumentations {A.__version__}, {o.rounds} rounds of {o.seconds} s, load {os.getloadavg()[0]:.1f}')
    numbers = {}
    for size in map(int, o.sizes.split(',')):
        images = np.random.default_rng(0).integers(0, 256, (BS,size,size,3), np.uint8)
        of_size = numbers[str(size)] = {}
        for name,aug in augmentations(size).items():
            rounds = compare(aug, images, o.rounds, o.seconds)
            speeds = {k: statistics.median(r[k] for r in rounds) for k in ('batch','items')}
            of_size[name] = dict(ratio=over(r['batch']/r['items'] for r in rounds), images_per_second=speeds)
            print(line(size, name, of_size[name]), flush=True)
    below = {s: [k for k,v in of.items() if v['ratio']['median']<ENOUGH] for s,of in numbers.items()}
    for s,names in below.items(): print(f"{s} pixels: {', '.join(names) or 'nothing'} below {ENOUGH}")
    keep(o.save, dict(sizes=numbers, below=below, load=os.getloadavg()[0]), 'albumentations', 'opencv-python-headless')

if __name__=='__main__': main()
