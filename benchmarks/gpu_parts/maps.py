"""Heat maps against pytorch-grad-cam and torch-cam, answers about predictions against fastai, and memory of a step."""
import gc

import gradcam,interpret
import torch
from advtrain.all import GradCAM,resnet_learner
from keep import over
from step import Few,bare,ours,seconds

from . import loaders,width

def races(o, note):
    "Race heat maps of 1,000 images, at one layer and at four"
    n,rounds = (4,1) if o.tiny else (1000,2)
    for name,layers in (('four layers',gradcam.LAYERS), ('one layer',gradcam.LAYERS[-1:])):
        result = gradcam.report(f'{n} images, {name}', *gradcam.race(n, layers, rounds, o.device))
        note(**{name: result})
        for peer in ('pytorch-grad-cam','torch-cam'):
            pair = f'advtrain, fp32 / {peer}'
            note.figure(f'heat maps, {name}: {pair}', result['ratios'][pair])

def eigencam(o, note):
    "Measure EigenCAM, which takes a singular value decomposition of each image"
    n = 4 if o.tiny else 256
    model,_,x,targets = gradcam.make(n, o.device)
    cam = GradCAM(model, ['layer1','layer4'], 'eigencam')
    cam(x[:2], targets[:2])
    took = seconds(lambda: cam(x, targets))
    note(eigencam=dict(images=n, layers=2, seconds=took))
    note.figure(f'EigenCAM of {n} images, 2 layers', took, 's')

def answers(o, note):
    "Race five questions about predictions against fastai"
    learn = resnet_learner(loaders(o), width=width(o))
    learn.model.to(o.device)
    images = 200 if o.tiny else 10_000
    rounds,equal = interpret.race(learn, interpret.many(learn, images), 1 if o.tiny else 2)
    ratio = over(slow/fast for fast,slow in rounds)
    took = dict(advtrain=over(r[0] for r in rounds), fastai=over(r[1] for r in rounds))
    note(interpret=dict(images=images, seconds=took, ratio=ratio, same_answers=equal))
    note.figure('answers about predictions: advtrain / fastai', ratio)

def memory(o, note):
    "Measure the peak of training beyond loader and images, in MB"
    dls,peaks = loaders(o),{}
    next(iter(Few(dls.train, 1)))
    for name,peer in (('bare',bare), ('learn.fit',ours)):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        train = peer(None, 20, dls=dls, width=width(o))
        train()
        peaks[name] = (torch.cuda.max_memory_allocated()-before)/1e6
        del train
    note(memory_MB=peaks)
    note.figure('memory of learn.fit / bare loop', peaks['learn.fit']/peaks['bare'])

def run(o, note):
    races(o, note)
    if o.device=='cpu': note(memory_MB='not measured')
    else: memory(o, note)
    answers(o, note)
    eigencam(o, note)
