"""How training differs between LayerNorm, with and without standardised weights, and batch norm.

Reads folders with the checkpoints of all epochs, which `forty.py --kept` fills. For each of these epochs it measures:

- accuracy on training images without augmentation, with the weights that validation used;
- the gradient noise scale (McCandlish et al. 2018, appendix A.1): the batch size whose gradient is half noise;
- for each stage, the norm of a convolution's weights, and their relative change in the next step, which is the
  effective learning rate. Numbers of a stage are medians over its convolutions.

    python benchmarks/dynamics.py --data cifar10.tgz runs/kept/layernorm-40-ws [MORE ...] [--every 2] [--save]

The last epoch has no next step, so only accuracy is measured there.
"""
import argparse,math,shutil,tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from fastai.callback.core import CancelFitException,CancelStepException
from torch import nn

from keep import keep,with_save

from advtrain.data.sources import fashion_sample
from advtrain.runs.experiment import Experiment
from advtrain.runs.make_learner import make_learner
from advtrain.train.callbacks import RunCallback
from advtrain.train.checkpoint import checkpoints,read_checkpoint

BATCHES = 8 # for the noise scale
IMAGES = 5000 # training images whose accuracy is measured

def squared(tensors): return sum(float(o.float().square().sum()) for o in tensors)

def noise_scale(small, big, bs, n):
    "Estimate the noise scale from the squared norm of the gradient of one batch (mean of `n`), and of `n` together"
    gradient = (n*big-small)/(n-1) # of all images
    noise = (small-big)*bs*n/(n-1) # of one image
    return noise/gradient if gradient>0 else math.inf

class Probe(RunCallback):
    "Collect the gradients of some batches at the same weights, take one step, and end the training"
    passive = True # a checkpoint doesn't know it
    def before_fit(self):
        self.norms,self.total = [],[]

    def before_step(self):
        grads = [p.grad.detach().float().clone() for p in self.model.parameters()]
        self.norms.append(squared(grads))
        self.total = [a+b for a,b in zip(self.total, grads)] if self.total else grads
        if len(self.norms)<BATCHES: raise CancelStepException
        self.before = {k: v.clone() for k,v in weights_of(self.model).items()}

    def after_step(self):
        if len(self.norms)<BATCHES: return
        after = weights_of(self.model)
        self.moved = {k: math.sqrt(squared([after[k]-v])/squared([v])) for k,v in self.before.items()}
        self.lengths = {k: math.sqrt(squared([v])) for k,v in self.before.items()}
        raise CancelFitException

    def numbers(self, bs):
        "Gather what was measured"
        big = squared(self.total)/BATCHES**2
        scale = noise_scale(sum(self.norms)/BATCHES, big, bs, BATCHES)
        return dict(noise_scale=scale, weight_norm=by_stage(self.lengths), relative_step=by_stage(self.moved))

def weights_of(model): return {k: m.weight.detach() for k,m in model.named_modules() if isinstance(m, nn.Conv2d)}

def by_stage(values):
    "Compute medians over the convolutions of each stage; the first part of a name is its stage"
    stages = defaultdict(list)
    for k,v in values.items(): stages[k.split('.')[0]].append(v)
    return {k: median(v) for k,v in stages.items()}

def some_of(items): return list(items[::max(1, len(items)//IMAGES)])

def at_epoch(file, exp, data):
    "Measure at one checkpoint"
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copyfile(file, Path(tmp)/file.name) # `resume` takes the newest checkpoint of a folder
        _,state,meta = read_checkpoint(tmp, False)
        learn = make_learner(exp, data)
        learn.model.load_state_dict(state['model'])
        table = learn.interpret(some_of(learn.dls.train.items), labelled=True).table
        row = {k: meta['row'][k] for k in 'epoch lr train_acc valid_acc'.split()}
        row['clean_train_acc'] = float((table.actual==table.predicted).mean())
        if row['epoch']==exp.epochs: return row
        learn.resume(exp.epochs, tmp, cbs=[probe := Probe()])
    return row | probe.numbers(exp.bs)

def of_run(folder, data, every):
    "Measure at every so many epochs of a run, the last one among them"
    exp = Experiment.from_toml(folder/'experiment.toml')
    files = checkpoints(folder)[::-every][::-1]
    rows = [at_epoch(o, exp, data or fashion_sample()) for o in files]
    return dict(choices={k: getattr(exp, k) for k in 'norm weight_std width epochs bs'.split()}, rows=rows)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('folders', nargs='+', type=Path, help='folders of checkpoints that forty.py --kept filled')
    p.add_argument('--data', help='folder or archive of CIFAR-10; default: the Fashion-MNIST sample')
    p.add_argument('--every', type=int, default=2, help='measure at every so many epochs')
    p.add_argument('--name', default='dynamics', help='name of the file that --save writes')
    o = with_save(p).parse_args()
    numbers = {}
    for folder in o.folders:
        numbers[folder.name] = of_run(folder, o.data, o.every)
        for row in numbers[folder.name]['rows']: print(folder.name, row)
    keep(o.save, numbers, 'fastai', name=o.name)

if __name__=='__main__': main()
