"""Kill a small run repeatedly, resume it each time, and compare it with a run that was never killed.

    python tests/killed_run.py DATA FOLDER KILLS

Each attempt runs in its own process. It kills itself with SIGKILL at a given moment (a step, a batch of validation,
a frame of the film, a place in the write of a checkpoint), or is killed after a random time. Prints what happened
as JSON.
"""
import json,os,random,signal,sys,time
from functools import partial
from pathlib import Path

if __name__=='__main__': os.environ['OMP_NUM_THREADS'] = '1'
from fastai.callback.core import Callback

from advtrain.files import atomic,own_files
from advtrain.look import film_log
from advtrain.all import A,Checkpoint,FilmLog,image_dls,load_tensors,resnet_learner,save_tensors,set_seed
from advtrain.train.checkpoint import checkpoints
from advtrain.models import ResNet

EPOCHS = 5
resnet10 = partial(ResNet, (1,1,1,1)) # a block a stage
MOMENTS = 'step','validation','film','write','fsync','rename','renamed'
AUGS = A.Compose([A.HorizontalFlip(), A.Rotate(limit=(-10,10), p=.5)])

class Fuse:
    "Kills this process when `moment` comes for the `count`-th time"
    def __init__(self, moment, count): self.moment,self.count = moment,count
    def __call__(self, moment):
        if moment!=self.moment: return
        self.count -= 1
        if self.count<=0: os.kill(os.getpid(), signal.SIGKILL)

class Watch(Callback):
    "Tells a fuse about steps and batches of validation"
    fuse = None
    def before_batch(self): self.fuse('step' if self.training else 'validation')
    def after_step(self): self.fuse('step')

class SlowFile:
    "A file that is written in three pieces"
    def __init__(self, file, fuse): self.file,self.fuse = file,fuse
    def __enter__(self): return self
    def __exit__(self, *args): self.file.close()
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, data):
        for i in range(3):
            self.file.write(data[i*len(data)//3:(i+1)*len(data)//3])
            self.file.flush()
            self.fuse('write')

class FusedOS:
    "The module `os`, with a fuse at what makes a file whole"
    def __init__(self, fuse): self.fuse = fuse
    def __getattr__(self, name): return getattr(os, name)
    def fsync(self, fd):
        self.fuse('fsync')
        os.fsync(fd)
    def replace(self, a, b):
        self.fuse('rename')
        os.replace(a, b)
        self.fuse('renamed')

def train(data, folder, fuse):
    "Start the run in `folder`, or go on with it"
    atomic.open = lambda file,mode: SlowFile(open(file, mode), fuse) if mode=='xb' else open(file, mode)
    for module in (atomic, own_files): module.os = FusedOS(fuse)
    shoot = film_log._shoot
    film_log._shoot = lambda *args: (shoot(*args), fuse('film'))[0]
    Watch.fuse = fuse
    set_seed(3)
    dls = image_dls(data, AUGS, size=16, bs=34)
    learn = resnet_learner(dls, resnet10, width=4, lr=.3, patience=2, factor=2, dropout=.1, ema=.9, mix='cutmix',
        class_weights='balanced').add_cbs([Watch(),FilmLog(6)])
    learn.plateau_lr.min_delta = .9 # so that the rate waits, and drops
    if checkpoints(folder): learn.resume(EPOCHS, folder)
    else: learn.fit(EPOCHS, cbs=Checkpoint(folder))
    rows = [{k: v for k,v in r.items() if k!='seconds'} for r in learn.epoch_log.rows]
    learn.film.save(folder/'film.safetensors', data)
    save_tensors(dict(learn.model.state_dict()), folder/'final.safetensors', {'rows': rows})

def attempt(data, folder, moment=None, count=0, delay=None):
    "Train in another process; True if it came to its end, False if it was killed"
    if not (pid := os.fork()):
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            train(data, folder, Fuse(moment, count))
            code = 0
        finally: os._exit(code)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0,-signal.SIGKILL): raise RuntimeError(f'training failed in {folder}, at {moment} {count}')
    return status==0

def damaged(folder):
    "The files in `folder` that have the name of a checkpoint and do not load"
    res = []
    for f in [*folder.glob('checkpoint-*.safetensors'), *folder.glob('weights.safetensors')]:
        try: load_tensors(f)
        except ValueError as e: res.append(str(e))
    return res

def same(a, b):
    "Do two runs have the same weights, the same record and the same film, to the last bit?"
    def _same(name):
        (ta,ma),(tb,mb) = (load_tensors(o/name) for o in (a,b))
        return ma==mb and ta.keys()==tb.keys() and all(ta[k].equal(tb[k]) for k in ta)
    return all(map(_same, ('final.safetensors','film.safetensors')))

def main(data, folder, kills):
    rng = random.Random(0)
    folder = Path(folder)
    start = time.perf_counter()
    assert attempt(data, folder/'whole')
    seconds = time.perf_counter()-start
    rates = [r['lr'] for r in load_tensors(folder/'whole'/'final.safetensors')[1]['rows']]
    moments = {m: 0 for m in (*MOMENTS,'any')}
    res = dict(rates=len(set(rates)), kills=0, moments=moments, finished=0, identical=0, damaged=[], epochs_kept=0)
    while res['kills']<kills or not res['finished']:
        run = folder/f"run{res['finished']}"
        moment = None
        # where there were the fewest so far
        if res['kills']<kills: moment = min(moments, key=lambda m: (moments[m], rng.random()))
        most = 3 if moment=='validation' else 12 # an epoch validates in one batch
        how = dict(delay=rng.uniform(0, seconds)) if moment=='any' else dict(moment=moment, count=rng.randint(1, most))
        if attempt(data, run, **how):
            res['identical'] += same(folder/'whole', run)
            res['finished'] += 1
        else:
            res['kills'] += 1
            moments[moment] += 1
            kept = [int(o.stem[-4:]) for o in run.glob('checkpoint-*.safetensors')]
            res['epochs_kept'] = max(res['epochs_kept'], *kept, 0)
        res['damaged'] += damaged(run)
    print(json.dumps(res))

if __name__=='__main__': main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
