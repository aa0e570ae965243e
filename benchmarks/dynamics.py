"""Measure how training goes with different norms.

Reads folders with the checkpoints of all epochs, which `forty.py --kept` fills. At each epoch it measures:

- accuracy on training images without augmentation, with the averaged weights, as in validation. The rest is measured
  with the weights that are trained.
- the gradient and its noise (McCandlish et al. 2018, appendix A.1): the squared length of the gradient over all images,
  and the variance of the gradient of one image with its augmentation. Average both over epochs before you divide them.
  Their ratio is the gradient noise scale: a batch of so many images is half signal, half noise. It's rough above the
  number of images measured, 32 batches. With batch norm, a gradient depends on the other images of its batch, so the
  scale holds for batches of this size. Gradient and noise are sums over all parameters of a stage.
- the curvature of the loss along the mean gradient of these batches, averaged over a plain step at the run's rate
  (without momentum and weight decay): the gradient of the same batches is measured before and after it. Late in
  training, most of this direction is noise.
- the curvature above which steps along one direction grow, if there's no noise: 2/lr for plain gradient descent,
  higher with momentum, lower with Nesterov's (Cohen et al. 2021, appendix B).
- for each stage, the length of a convolution's weights and how far the next step moves them, relative to this length.
  Both are medians over the convolutions of a stage. If a norm follows a convolution, or its weights are standardised,
  the length makes no difference to the network. The relative step, or angular update, is then the rate at which it
  learns, and it settles where steps and weight decay balance (Wan et al. 2021).

The last epoch has no next step, so only accuracy is measured there.

    python benchmarks/dynamics.py --data cifar10.tgz kept/proxy/layernorm-40-ws [MORE ...] [--every 2] [--save]
"""
import argparse,math,shutil,tempfile
from collections import Counter,defaultdict
from pathlib import Path
from statistics import median

from fastai.callback.core import CancelFitException,CancelStepException
import torch
from torch import nn

from keep import keep,with_save

from advtrain.data.sources import fashion_sample
from advtrain.runs.experiment import Experiment
from advtrain.runs.make_learner import make_learner
from advtrain.train.callbacks import RunCallback
from advtrain.train.checkpoint import checkpoints,read_checkpoint

BATCHES = 32 # for the gradient and its noise
IMAGES = 5000 # training images whose accuracy is measured
CHOICES = 'norm weight_std pre_act width epochs bs lr warmup wd mom nesterov ema schedule seed'.split()

def squared(tensor): return float(tensor.detach().float().square().sum())

def length(tensor): return math.sqrt(squared(tensor))

def stage(name): return name.split('.')[0]

def gradient_and_noise(
    one, # Squared length of the gradient of one batch, mean of `n` batches
    mean, # Squared length of the mean gradient of these batches
    bs, # Images in a batch
    n, # Number of batches
): # Squared length of the gradient over all images, and variance of one image's gradient; the first may be negative
    "Estimate signal and noise of a gradient, without bias if all images are drawn independently"
    return (n*mean-one)/(n-1),(one-mean)*bs*n/(n-1)

def curvature(
    own, # Squared length of a gradient
    after, # Product of this gradient and the one after a plain step along it
    lr, # Learning rate of that step
):
    "Compute the mean curvature along a plain step"
    return (own-after)/own/lr

def curvature_limit(lr, mom, nesterov):
    "Compute the curvature above which steps along one direction grow"
    return 2*(1+mom)/(1+2*mom if nesterov else 1)/lr

def balanced_step(lr, wd, mom, nesterov):
    "Compute the relative step at which steps and weight decay balance, for weights whose length makes no difference"
    more = 1+2*mom-2*mom**3 if nesterov else 1 # times the squared length of a step; gradients are independent
    return math.sqrt(2*lr*wd*more/(1+mom))

def convolutions(model):
    "List the names of their weights"
    return [f'{k}.weight' for k,m in model.named_modules() if isinstance(m, nn.Conv2d)]

def by_stage(values):
    "Compute medians over the convolutions of each stage"
    stages = defaultdict(list)
    for k,v in values.items(): stages[stage(k)].append(v)
    return {k: median(v) for k,v in stages.items()}

class Probe(RunCallback):
    "Collect the gradients of some batches, measure a step and undo it, take a plain step, and collect them again"
    passive = True # a checkpoint doesn't know it
    order = 100 # other callbacks have prepared a batch and its gradient
    def before_fit(self):
        self.n = 0
        self.batches = []
        self.one = Counter() # stage -> squared length of a batch's gradient, mean of all
        self.after = 0 # product of the mean gradient and that of the same batches after the plain step
        self.mean = {} # parameter -> mean gradient

    def before_batch(self):
        if self.n>=BATCHES: self.learn.xb,self.learn.yb = self.batches[self.n-BATCHES]

    def before_step(self):
        "Stop before all steps but one: that of the last batch"
        self.n += 1
        if self.n>BATCHES: self.after += sum(float((p.grad*self.mean[k]).sum()) for k,p in self._parameters())/BATCHES
        if self.n==2*BATCHES: raise CancelFitException
        if self.n>BATCHES: raise CancelStepException
        self._collect()
        if self.n<BATCHES: raise CancelStepException
        self.step_lr = self.opt.hypers[0]['lr']
        self.before = {k: p.detach().clone() for k,p in self._parameters()}

    def _parameters(self): return self.model.named_parameters()

    def _collect(self):
        "Keep a batch, and add its gradient"
        self.batches.append((self.xb, self.yb))
        for k,p in self._parameters():
            self.one[stage(k)] += squared(p.grad)/BATCHES
            self.mean[k] = self.mean.get(k, 0)+p.grad.detach().float()/BATCHES

    def after_step(self):
        "Measure the step, and take the plain one from the same weights"
        if self.n!=BATCHES: return
        parameters = dict(self._parameters())
        self.lengths = {k: length(self.before[k]) for k in convolutions(self.model)}
        self.steps = {k: length(parameters[k].detach()-self.before[k])/v for k,v in self.lengths.items()}
        with torch.no_grad():
            for k,p in parameters.items(): p.copy_(self.before[k]-self.step_lr*self.mean[k])

    def numbers(self, bs):
        "Gather what was measured"
        mean = Counter()
        for k,v in self.mean.items(): mean[stage(k)] += squared(v)
        estimates = {k: gradient_and_noise(v, mean[k], bs, BATCHES) for k,v in self.one.items()}
        return dict(step_lr=self.step_lr, curvature=curvature(sum(mean.values()), self.after, self.step_lr),
            gradient={k: o[0] for k,o in estimates.items()}, noise={k: o[1] for k,o in estimates.items()},
            weight_norm=by_stage(self.lengths), relative_step=by_stage(self.steps))

def theory(exp, lr):
    "Compute what to compare the numbers with"
    return dict(curvature_limit=curvature_limit(lr, exp.mom, exp.nesterov),
        balanced_step=balanced_step(lr, exp.wd, exp.mom, exp.nesterov))

def some_of(items): return list(items[::max(1, len(items)//IMAGES)])

def choices_of(folder):
    "Read the choices of a run that can be measured"
    if not (folder/'experiment.toml').is_file() or not checkpoints(folder):
        raise ValueError(f"{folder}: no experiment.toml or no checkpoints; `forty.py --kept` makes such folders")
    exp = Experiment.from_toml(folder/'experiment.toml')
    if exp.mix!='none': raise ValueError(f"{folder}: mix = '{exp.mix}': batches with mixed images can't be repeated")
    return exp

def at_epoch(file, exp, data):
    "Measure at one checkpoint"
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copyfile(file, Path(tmp)/file.name) # `resume` takes the newest checkpoint of a folder
        _,state,meta = read_checkpoint(tmp, previous=False)
        learn = make_learner(exp, data)
        learn.model.load_state_dict(state['model']) # the averaged weights; `resume` swaps them for the trained ones
        table = learn.interpret(some_of(learn.dls.train.items), labelled=True).table
        row = {k: meta['row'][k] for k in 'epoch lr train_acc valid_acc'.split()}
        row['clean_train_acc'] = float((table.actual==table.predicted).mean())
        if row['epoch']==exp.epochs: return row
        if (n := len(learn.dls.train))<2*BATCHES: raise ValueError(f'{n} batches an epoch; {2*BATCHES} are measured')
        learn.resume(exp.epochs, tmp, cbs=[probe := Probe()])
    return row | probe.numbers(exp.bs) | theory(exp, probe.step_lr)

def of_run(folder, data, every):
    "Measure at every so many epochs of a run, the last one among them, and print what was measured"
    exp,rows = choices_of(folder),[]
    of_epoch = {int(o.stem.removeprefix('checkpoint-')): o for o in checkpoints(folder)}
    if missing := sorted({*range(1, exp.epochs+1)}-{*of_epoch}): print(f'{folder}: no checkpoints of epochs {missing}')
    for n in (o for o in of_epoch if (exp.epochs-o)%every==0):
        try: rows.append(at_epoch(of_epoch[n], exp, data or fashion_sample()))
        except Exception as e:
            e.add_note(f'while measuring {of_epoch[n]}')
            raise
        print(exp.name, rows[-1], flush=True)
    return dict(choices={k: getattr(exp, k) for k in CHOICES}, rows=rows)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('folders', nargs='+', type=Path, help='folders of checkpoints that forty.py --kept filled')
    p.add_argument('--data', help='folder or archive of CIFAR-10; default: the Fashion-MNIST sample')
    p.add_argument('--every', type=int, default=2, help='measure at every so many epochs')
    p.add_argument('--name', default='dynamics', help='name of the file that --save writes')
    o = with_save(p).parse_args()
    if o.every<1: p.error('--every: at least 1')
    folders = {}
    for f in o.folders:
        try: name = choices_of(f).name
        except (OSError,ValueError) as e: p.error(str(e))
        if name in folders: p.error(f'two folders have a run of the same name: {name}')
        folders[name] = f
    numbers = {name: of_run(f, o.data, o.every) for name,f in folders.items()}
    keep(o.save, numbers, 'fastai', name=o.name)

if __name__=='__main__': main()
