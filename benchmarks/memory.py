"""Claim: decoding all images, and training from them, needs little more memory than their array, and the second start
reads it at once.

For each step we measure the peak of resident memory above what the process held before, minus the array if the step
makes or maps it. What's mapped is read once, to check it. The promise: a peak above the array of less than 10 % of it
plus one batch of floats. The processes that decode come on top while they run; their private memory is printed. Linux
only.

    python benchmarks/memory.py --data cifar10.tgz
"""
import argparse,tempfile,threading,time
from pathlib import Path

import psutil
from keep import keep,with_save
import torch
from advtrain.data.augment import cutout_augs
from advtrain.data.cache import decode_images
from advtrain.data.folders import class_files
from advtrain.data.image_dls import image_dls
from advtrain.data.sources import cifar10
from advtrain.files import make_once

class Peak:
    "Measure the peak memory of this process above its start, and the most private memory of its children, in bytes"
    def __enter__(self):
        Path('/proc/self/clear_refs').write_text('5') # resets the peak
        self.start,self.children,self.seconds,self.running = self._read('VmRSS'),0,time.perf_counter(),True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self
    def __exit__(self, *args):
        self.seconds,self.running = time.perf_counter()-self.seconds,False
        self.thread.join()
        self.above = self._read('VmHWM')-self.start
    def _read(self, key):
        return next(
            int(o.split()[1])*1024 for o in Path('/proc/self/status').read_text().splitlines() if o.startswith(key))
    def _watch(self):
        while self.running:
            held = 0
            for p in psutil.Process().children():
                try: held += p.memory_full_info().uss
                except psutil.Error: pass # it has just ended
            self.children = max(self.children, held)
            time.sleep(.2)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--data', help='folder or archive of CIFAR-10')
    o = with_save(p).parse_args()
    torch.set_num_threads(1)
    path = cifar10(o.data)
    files = class_files(path)
    array = len(files)*32*32*3
    print(f'{len(files)} images, array {array/1e6:.1f} MB; '
          f'10 % of it and a batch of floats: {(.1*array+128*32*32*3*4)/1e6:.1f} MB')
    numbers = dict(images=len(files), array_MB=array/1e6, steps={})
    def report(what, peak, less=0):
        numbers['steps'][what] = dict(
            seconds=peak.seconds, above_MB=(peak.above-less)/1e6, workers_MB=peak.children/1e6)
        print(f'{what:40} {peak.seconds:6.2f} s, {(peak.above-less)/1e6:6.1f} MB above'
              + (f', and {peak.children/1e6:.1f} MB in worker processes' if peak.children else ''))
    with tempfile.TemporaryDirectory() as home:
        class Config:
            def path(self, name): return Path(home)
        make_once.fastai_cfg = Config
        with Peak() as peak: images = decode_images(files)
        report('first start: decode and keep', peak, array)
        del images
        with Peak() as peak: decode_images(files)
        report('second start: map and check the file', peak, array)
        dls = image_dls(path, cutout_augs(), bs=128, device='cpu')
        with Peak() as peak: dls.train.images.pixels.view(-1)[::2048].sum()
        print(f'the array, once it is touched: {peak.above/1e6:.1f} MB')
        with Peak() as peak:
            for _ in range(3):
                for _ in dls.train: pass
        report('three epochs of augmented batches', peak)
    keep(o.save, numbers)

if __name__=='__main__': main()
