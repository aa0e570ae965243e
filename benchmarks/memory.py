"""Claim: decoding and training from the array needs little more memory than the array itself, and the second start reads it at once.

A child process imports advtrain and lists the files, then decodes them (first start), maps the cache file (second start),
and goes through an epoch of augmented batches. Meanwhile this process sums up the memory of the child and its workers,
pages that they share counted once (proportional set size), and compares the peak with what it was before. The promise:
the peak above the array stays under 10 % of the array plus one batch. Linux only.

    python benchmarks/memory.py --data cifar10.tgz
"""
import argparse,subprocess,sys,tempfile,time
from pathlib import Path

import psutil

CHILD = '''
import sys,time
from pathlib import Path
import torch
torch.set_num_threads(1)
import advtrain.data as data
from advtrain.augment import cutout_augs
home = Path(sys.argv[2])
class Config:
    def path(self, name): return home
path = data.cifar10(sys.argv[1])
data.fastai_cfg = Config
files = data.class_files(path)
if sys.argv[3]=='train':
    dls = data.image_dls(path, cutout_augs(), bs=128, device='cpu')
    dls.train.one_batch()
print('ready', flush=True)
sys.stdin.readline()
start = time.perf_counter()
if sys.argv[3]=='train':
    for _ in dls.train: pass
else: images = data.decode_images(files)
print(time.perf_counter()-start, flush=True)
sys.stdin.readline()
'''

def memory(process):
    "Bytes that a process and its children hold, shared pages counted once"
    total = 0
    for p in [process, *process.children(recursive=True)]:
        try: total += p.memory_full_info().pss
        except psutil.Error: pass # it has just ended
    return total

def measure(data, home, what):
    "Seconds, bytes before, and bytes at the peak"
    child = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', CHILD, str(data), str(home), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().startswith('ready')
    process = psutil.Process(child.pid)
    before = peak = memory(process)
    child.stdin.write('go\n'); child.stdin.flush()
    import threading
    line = []
    reader = threading.Thread(target=lambda: line.append(child.stdout.readline()))
    reader.start()
    while reader.is_alive():
        peak = max(peak, memory(process))
        time.sleep(.01)
    peak = max(peak, memory(process))
    child.communicate('end\n')
    return float(line[0]),before,peak

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help='folder or archive of CIFAR-10')
    o = p.parse_args()
    from advtrain.data import cifar10,class_files
    path = cifar10(o.data)
    array = len(class_files(path))*32*32*3
    bound = .1*array + 128*32*32*3*4
    print(f'the array is {array/1e6:.1f} MB; 10 % of it and one batch of floats are {bound/1e6:.1f} MB')
    with tempfile.TemporaryDirectory() as home:
        for what in 'first start','second start','train':
            seconds,before,peak = measure(path, home, what)
            above = peak-before-(array if what=='first start' else 0)
            print(f'{what:13} {seconds:6.2f} s, {(peak-before)/1e6:7.1f} MB more than before' + (f', {above/1e6:.1f} MB of it above the array' if what=='first start' else ''))
        print(f'on disk       {sum(f.stat().st_size for f in Path(home).rglob("*") if f.is_file())/1e6:.1f} MB')

if __name__=='__main__': main()
