"""The main job from end to end."""
import os,re

import numpy as np
import pytest
import torch
from PIL import Image

from advtrain.all import CIFAR10_STATS,EXPERIMENTS,FIGURES,cifar10,class_files,compare_runs,image_dls,image_stats,make_learner,scan_images

def test_page_and_readme_show_every_figure(tiny_run):
    page,readme = ((tiny_run.folder/n).read_text() for n in ('report.html','README.md'))
    assert page.count('data:image/png;base64,')==len(FIGURES)
    assert not re.search(r'(src|href)="https?:', page)
    for name in FIGURES:
        assert f'figures/{name}.png' in readme
        with Image.open(tiny_run.folder/'figures'/f'{name}.png') as im: assert min(im.size) > 100
    assert f"{tiny_run.metrics['test_accuracy']:.2%}" in page

def test_metrics_agree_with_predictions(tiny_run):
    t,m,h = tiny_run.predictions,tiny_run.metrics,tiny_run.history
    assert m['test_correct']==(t.actual==t.predicted).sum() and m['test_images']==len(t)==500
    assert m['best_epoch']==h.sort_values(['valid_acc','valid_loss'], ascending=[False,True]).epoch.iloc[0]
    assert np.allclose(h.train_acc, h.train_correct/h.train_n) and (h.train_n==1800).all()
    assert compare_runs([tiny_run.folder]).test_accuracy.item()==m['test_accuracy']

@pytest.mark.parametrize('name', [n for n in EXPERIMENTS if n!='quickstart'])
def test_every_preset_takes_a_step(name, sample):
    from dataclasses import replace
    exp = replace(EXPERIMENTS[name], width=4, bs=50)
    learn = make_learner(exp, sample)
    x,y = learn.dls.one_batch()
    loss = learn.loss_func(learn.model(x), y)
    loss.backward()
    assert x.shape==(50,3,32,32) and torch.isfinite(loss)

def test_same_seed_same_run(sample):
    from dataclasses import replace
    def weights():
        learn = make_learner(replace(EXPERIMENTS['quickstart'], width=4, bs=200, epochs=1), sample)
        with learn.no_bar(): learn.fit(1)
        return torch.cat([p.flatten() for p in learn.model.parameters()])
    assert torch.equal(weights(), weights())

def test_cifar10_copy():
    if not os.environ.get('ADVTRAIN_CIFAR10'): pytest.skip('ADVTRAIN_CIFAR10 names no copy of CIFAR-10')
    path = cifar10()
    dls = image_dls(path, watch='test')
    assert [len(o.dataset) for o in dls.loaders]==[50000,10000,10000]
    dls = image_dls(path)
    assert [len(o.dataset) for o in dls.loaders]==[45000,5000,10000]
    files = class_files(path)
    stats = image_stats(scan_images(files)[['train' in f.parts for f in files]])
    assert np.allclose(stats, CIFAR10_STATS, atol=2e-3)
