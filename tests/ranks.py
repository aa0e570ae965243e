"""Train the same in one, two and four processes, kill or stop one of two, and look at the memory of two; prints JSON.

    python tests/ranks.py same DATA
    python tests/ranks.py killed DATA FOLDER
    python tests/ranks.py stopped
    python tests/ranks.py told
    python tests/ranks.py memory DATA
    python tests/ranks.py followed DATA FOLDER

The processes are forked from this one, which has imported everything and computed nothing.
"""
import json,os,re,select,shutil,signal,sys,time
from functools import partial
from pathlib import Path
from unittest.mock import patch

if __name__=='__main__': os.environ['OMP_NUM_THREADS'] = '1'
import fastai.torch_core
import numpy as np
import torch
from fastai.callback.core import Callback
from fastcore.basics import chunked
from torch import nn

from advtrain import dist
from advtrain.all import Checkpoint,Precision,cutout_augs,image_dls,load_tensors,rand_augs,resnet_learner,set_seed
from advtrain.all import FilmLog,trivial_augs
from advtrain.train.callbacks import RunCallback
from advtrain.train.checkpoint import checkpoints
from advtrain.models import ResNet
from advtrain.dist import all_gather,run_forked,on_rank0,rank,ranks_together

class Steps(Callback):
    "Note the loss of each step; compute in double precision, if asked to"
    def __init__(self, double): self.double = double
    def before_fit(self): self.losses = []
    def before_batch(self):
        if self.double: self.learn.xb = tuple(x.double() for x in self.xb)
    def after_loss(self):
        if self.training: self.losses.append(self.loss.item())
        self.learn.loss = self.loss.float()

resnet10 = partial(ResNet, (1,1,1,1)) # a block a stage
PATIENCE = 600 # seconds that nothing takes, however busy the machine is

AUGS = {'none': lambda: None, 'cutout': lambda: cutout_augs(16, 2, 8), 'trivial': lambda: trivial_augs(16, 2),
    'rand': lambda: rand_augs(16, 2, num_ops=1)}

def learner(data, augs='cutout', double=False, lr=1e-5, fraction=1, label_smoothing=0., **kwargs):
    set_seed(1)
    dls = image_dls(data, AUGS[augs](), size=16, bs=20, fraction=fraction)
    options = dict(width=4, lr=lr, precision='fp32', label_smoothing=label_smoothing)
    learn = resnet_learner(dls, resnet10, **options, **kwargs).add_cb(Steps(double))
    if double:
        learn.remove_cbs(Precision).model.double()
        learn.loss_func = nn.CrossEntropyLoss(label_smoothing=label_smoothing) # fastai's turns double into single
    return learn

def trained(data, epochs=2, **kwargs):
    "Losses of the first 50 steps, the record, the lives of all images, and the confusion matrix of validation"
    learn = learner(data, **kwargs).add_cb(FilmLog(6))
    with learn.no_bar(), learn.distributed():
        learn.fit(epochs)
        losses,n = learn.steps.losses[:50],sum(len(x) for x,_ in learn.dls.valid)
        interp = learn.interpret('valid')
        film = [learn.film.paths,learn.film.predicted.tolist()] if rank()==0 else None
    confusion = interp.confusion_matrix().tolist()
    outside = learn.interpret('valid').confusion_matrix().tolist() # each process by itself
    return dict(losses=losses, rows=learn.epoch_log.rows, own_images=n, confusion=confusion, outside=outside,
        n=len(interp.table), life=np.hstack([learn.life.margins, learn.life.valid.margins]),
        film=film)

def same(data):
    "How far several processes are from one, in single and in double precision"
    res = {}
    hows = dict(plain=dict(augs='none'), augmented={}, double=dict(double=True, lr=.01))
    hows['adamw'] = dict(double=True, lr=.001, opt='adamw', schedule='one_cycle', warmup=1, ema=.9)
    unequal = dict(double=True, lr=.01, fraction=.98) # shares of the last batch
    hows['mixed'] = dict(augs='trivial', mix='cutmix', class_weights='balanced', label_smoothing=.1, **unequal)
    hows['rand'] = dict(augs='rand', mix='mixup', **unequal)
    for name,how in hows.items():
        runs = {n: run_forked(partial(trained, data, **how), n, PATIENCE) for n in (1,2,4)}
        failed = [o for ranks in runs.values() for o in ranks if not isinstance(o, dict)]
        if failed: raise RuntimeError(f'{name}: {failed}')
        one = runs[1][0]
        res[name] = dict(
            steps=len(one['losses']),
            moved=one['losses'][0]-one['losses'][-1],
            valid_n=one['rows'][0]['valid_n'],
            difference=max(float(np.abs(np.array(o['losses'])/one['losses']-1).max()) for n in (2,4) for o in runs[n]),
            counts_equal=all(
                [r[k] for r in o['rows']]==[r[k] for r in one['rows']]
                for n in (2,4) for o in runs[n] for k in ('train_n','valid_n','valid_correct','lr')),
            lives_equal=all(np.array_equal(o['life'], one['life'], equal_nan=True) for n in (2,4) for o in runs[n]),
            films_equal=all(runs[n][0]['film']==one['film'] for n in (2,4)),
            ranks_equal=all(o['rows']==runs[n][0]['rows'] for n in (2,4) for o in runs[n]),
            confusion_equal=all(
                o[k]==one['confusion'] for n in (2,4) for o in runs[n] for k in ('confusion','outside')),
            predicted=one['n'],
            own_images={n: [o['own_images'] for o in runs[n]] for n in (2,4)})
    return res

class Die(RunCallback):
    "Kill rank 1 in the fifth step of epoch 3"
    order,passive = 60,True
    def after_step(self):
        if rank()==1 and len(self.epoch_log.rows)==2 and self.iter==4: os.kill(os.getpid(), signal.SIGKILL)

def rows(learn): return [{k: v for k,v in r.items() if k!='seconds'} for r in learn.epoch_log.rows]

def short(data):
    "A learner that computes in double precision, at the preset's learning rate, nine steps an epoch"
    return learner(data, double=True, lr=.01, fraction=1/3)

def fit(data, folder, epochs, cbs=()):
    "Train from the start"
    learn = short(data)
    with learn.no_bar(), learn.distributed(): learn.fit(epochs, cbs=[Checkpoint(folder), *cbs])
    return rows(learn)

def resume(data, folder, epochs):
    "Go on"
    learn = short(data)
    with learn.no_bar(), learn.distributed(): learn.resume(epochs, folder)
    return rows(learn)

def apart(a, b):
    "The largest relative difference between two records; infinite if they have other epochs"
    return max(abs(x[k]-y[k])/max(abs(y[k]), 1e-9) for x,y in zip(a, b) for k in y) if len(a)==len(b) else float('inf')

def killed(data, folder):
    "Kill one of two in the middle of an epoch, and go on with one; go on with two where one stopped"
    folder = Path(folder)
    whole, = run_forked(lambda: fit(data, folder/'whole', 4), 1, PATIENCE)
    first,second = run_forked(lambda: fit(data, folder/'killed', 4, [Die()]), 2, PATIENCE)
    kept = [load_tensors(o)[1]['epoch'] for o in checkpoints(folder/'killed')] # reading checks every bit
    left = sorted(o.name for o in (folder/'killed').glob('*.safetensors'))
    alone, = run_forked(lambda: resume(data, folder/'killed', 4), 1, PATIENCE)
    run_forked(lambda: fit(data, folder/'grows', 2), 1, PATIENCE)
    grown = run_forked(lambda: resume(data, folder/'grows', 4), 2, PATIENCE)
    return dict(first=str(first), second=second, kept=kept, left=left, epochs=len(alone),
        resumed=apart(alone, whole), grown=[apart(o, whole) for o in grown])

def stop_for_good(other):
    "Stop this process, as one that hangs or cannot be reached; it is killed when the other has ended"
    me = os.getpid()
    if os.fork()==0:
        select.select([os.pidfd_open(other)], [], [])
        os.kill(me, signal.SIGKILL)
        os._exit(0)
    os.kill(me, signal.SIGSTOP)

def outlives(victim, waits):
    "Act together with a process that is stopped"
    dist._SILENCE,dist._GRACE = 3,1
    with ranks_together():
        pids = all_gather(os.getpid())
        if rank()==victim: stop_for_good(pids[1-victim])
        if waits: all_gather('an exchange')
        else: time.sleep(PATIENCE)

def stopped():
    "How two processes end when one of them is stopped; rank 0 keeps the store"
    return [run_forked(partial(outlives, victim, waits), 2, 60) for victim,waits in ((0,False),(1,True))]

class Broken(Exception): pass

def one_told():
    "How many processes fastai knows of together, on rank 0, and after an error; is its own function back?"
    own = fastai.torch_core.num_distrib
    def told(): return fastai.torch_core.num_distrib()
    try:
        with ranks_together():
            res = [told(), on_rank0(told)]
            raise Broken
    except Broken: return [*res, told(), fastai.torch_core.num_distrib is own]

def told(): return run_forked(one_told, 2, PATIENCE)

def mapped(data):
    "MB of the file of decoded images in this process, its share of them, and MB that are its own"
    with ranks_together():
        dls = image_dls(data)
        for dl in dls.loaders:
            for rows in chunked(range(dl.n), 1000): dl.create_batch(rows) # every page is read
        torch.distributed.barrier()
        smaps = Path('/proc/self/smaps').read_text()
        sizes = {k: 0 for k in ('Rss','Pss','Private_Dirty')}
        for block in re.split(r'^(?=[0-9a-f]+-[0-9a-f]+ )', smaps, flags=re.M):
            if 'advtrain_images' in block.partition('\n')[0]:
                for k in sizes: sizes[k] += int(re.search(rf'^{k}:\s+(\d+) kB', block, re.M)[1])/1000
        torch.distributed.barrier()
        return sizes | dict(array=dls.train.images.pixels.nbytes/1e6)

def memory(data): return run_forked(lambda: mapped(data), 2, PATIENCE)

def one_followed(data, folder):
    "Run an experiment that is asked for its end in epoch 2; what its page should show"
    from conftest import little_drawn,tiny
    from advtrain.launch.live_page import LivePage
    from advtrain.launch.runner import Runner
    validate,finish,res = LivePage.before_validate,Runner.finish,{}
    def _ask(cb):
        if rank()==1 and len(cb.epoch_log.rows)==1: (cb.own.folder/'stop').touch()
        validate(cb)
    def _finish(runner):
        if rank()==0: shutil.copy(runner.out/'live.html', folder/'before the end.html')
        learn = runner.learn
        with learn.no_bar(): table = learn.interpret('valid').table
        worst = table.sort_values('loss', ascending=False).path[:8]
        res.update(worst=[Path(o).name for o in worst], correct=learn.epoch_log.rows[-1]['valid_correct'])
        return finish(runner)
    with patch.object(LivePage, 'before_validate', _ask), patch.object(Runner, 'finish', _finish), little_drawn():
        run = Runner(tiny(epochs=4, precision='fp32'), data, folder/'run', quiet=True).run()
    return res | dict(epochs=len(run.history), stopped=run.metrics['stopped'])

def followed(data, folder):
    res = run_forked(partial(one_followed, data, Path(folder)), 2, PATIENCE)
    failed = [o for o in res if not isinstance(o, dict)]
    if failed: raise RuntimeError(failed)
    return res

def tell(name, *args):
    "Print what a function finds out"
    what = dict(same=same, killed=killed, stopped=stopped, told=told, memory=memory,
        followed=followed)
    print(json.dumps(what[name](*args), default=str))

if __name__=='__main__': tell(*sys.argv[1:])
