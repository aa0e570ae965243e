"""The rounds of the forty epochs, and what is measured at each of their epochs."""
import sys
from pathlib import Path

import pytest,torch

from advtrain.runs.experiment import Experiment,FIELDS,differing_fields
from advtrain.runs.presets import EXPERIMENTS
from advtrain.train.checkpoint import read_checkpoint

BENCHMARKS = Path(__file__).parents[1]/'benchmarks'
sys.path.insert(0, str(BENCHMARKS))
import dynamics,forty,keep

@pytest.mark.parametrize('folder', sorted((BENCHMARKS/'results/runs').glob('*/')), ids=lambda o: o.name)
def test_a_kept_run_is_what_its_command_does_today(folder):
    today = EXPERIMENTS | {o.name: o for o in forty.plan('full')}
    differ = differing_fields([Experiment.from_toml(folder/'experiment.toml'), today[folder.name]])
    assert not [k for k in differ if FIELDS[k].metadata['decides']]

def test_the_rounds_of_the_queue():
    first = forty.plan('full')
    assert first[0]==forty.RECIPE and forty.cost(first[0])==1
    assert len({o.name for o in first})==len(first)
    ended = {o.name: .9 for o in first} | {'layernorm-40-ws-wd-0.001': .91, 'layernorm-40-ws-wd-0.0002': .92,
        'layernorm-40-ws-hole-8': .903, 'layernorm-40-ws-mix-cutmix': .901, 'layernorm-40-ws-lr-0.2': None,
        'layernorm-40-best': None, 'layernorm-40-best-lr-0.05': .8}
    unfinished = {k: v for k,v in ended.items() if 'one_cycle' not in k}
    assert forty.plan('full', unfinished)==first
    assert forty.best_changes(ended)==dict(wd=2e-4, hole=8)
    third = [o for o in forty.plan('full', ended) if o not in first]
    together = [o for o in third if o.wd==2e-4]
    assert len(third)==16 and [(o.norm,o.seed,o.watch) for o in together]==[
        *((norm,seed,'valid') for norm in ('layer','batch') for seed in (42,1,2)), ('layer',42,'test')]
    assert all(o.hole==8 and o.lr==.1 and o.mix=='none' for o in together)
    assert [(o.lr,o.seed) for o in third if o.name.startswith('layernorm-40-best')]==[(.05,1),(.05,2)]

def test_a_proxy_counts_in_shorter_times():
    proxy,tiny = (forty.scaled(forty.RECIPE, o) for o in ('proxy','tiny'))
    assert (proxy.width,proxy.epochs,proxy.patience)==(32,16,1) and tiny.epochs==2
    assert proxy.min_delta==pytest.approx(.025) and proxy.ema==pytest.approx(.995, abs=1e-4)
    names = [o.name for o in forty.plan('full')]
    assert [o.name for o in forty.plan('proxy')]==names
    different = {o.id for o in forty.plan('proxy')}
    assert len(different)==len(names)

def test_the_table_compares_with_the_recipe_and_survives_the_archive(tmp_path):
    exps = forty.plan('tiny')[:2]
    for o in exps: forty.run_one(o.to_toml(), None, str(tmp_path/'runs'/o.name), 1)
    forty.pack(tmp_path/'runs', archive := tmp_path/'runs.tar.gz')
    forty.unpack(archive, tmp_path/'elsewhere')
    numbers = forty.numbers_of(tmp_path/'elsewhere', exps, {})
    recipe,batch = numbers['lines'].values()
    compared = batch['against_recipe']
    assert numbers['best'] is None and 'against_recipe' not in recipe
    assert compared['difference']==pytest.approx(batch['test_accuracy']-recipe['test_accuracy'])
    assert compared['low']<=compared['difference']<=compared['high']

def test_gradient_and_noise_are_estimated_without_bias():
    gradient,noise = 3.,120. # squared lengths: of the gradient over all images, and of the noise of one
    one,eight = (gradient+noise/n for n in (16, 8*16)) # expected for one batch of 16 images, and for eight together
    assert dynamics.gradient_and_noise(one, eight, 16, 8)==pytest.approx((gradient, noise))

def test_curvature_is_exact_for_a_quadratic():
    curvatures,lr = torch.tensor([2.,50.]),.03
    w = torch.tensor([1.,1.])
    gradient = curvatures*w
    after = curvatures*(w-lr*gradient)
    expected = (gradient@(curvatures*gradient))/(gradient@gradient)
    assert dynamics.curvature(gradient@gradient, gradient@after, lr)==pytest.approx(expected)

def test_checkpoints_of_all_epochs_are_kept_and_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, 'BATCHES', 8)
    exp = forty.scaled(forty.RECIPE, 'tiny').replace(epochs=3)
    forty.run_one(exp.to_toml(), None, str(tmp_path/'run'), 1, str(tmp_path/'kept'))
    kept = tmp_path/'kept'/exp.name
    files = sorted(o.name for o in kept.glob('checkpoint-*'))
    assert files==[f'checkpoint-000{i}.safetensors' for i in (1,2,3)]
    measured = dynamics.of_run(kept, None, 1)
    assert measured['choices']['norm']=='layer' and [o['epoch'] for o in measured['rows']]==[1,2,3]
    assert [o['epoch'] for o in dynamics.of_run(kept, None, 2)['rows']]==[1,3]
    *rows,last = measured['rows']
    assert 'noise' not in last and 0<=last['clean_train_acc']<=1
    stages = ['conv1','layer1','layer2','layer3','layer4']
    for row,following in zip(rows, measured['rows'][1:]):
        assert 0<=row['clean_train_acc']<=1 and row['step_lr']==following['lr']
        assert list(row['noise'])==[*stages,'norm','fc'] and all(v>0 for v in row['noise'].values())
        assert list(row['weight_norm'])==list(row['relative_step'])==stages

def test_a_step_is_measured_at_the_trained_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, 'BATCHES', 2)
    exp = forty.scaled(forty.RECIPE, 'tiny').replace(epochs=2, mom=0, nesterov=False, wd=0, warmup=0, ema=.9)
    forty.run_one(exp.to_toml(), None, str(tmp_path/'run'), 1, str(tmp_path/'kept'))
    seen = []
    def vector(tensors): return torch.cat([o.detach().flatten() for o in tensors])
    class SeenProbe(dynamics.Probe):
        def before_step(self):
            parameters = list(self.model.parameters())
            seen.append((vector(parameters), vector(p.grad for p in parameters), self.xb[0].clone()))
            super().before_step()
    monkeypatch.setattr(dynamics, 'Probe', SeenProbe)
    row = dynamics.of_run(tmp_path/'kept'/exp.name, None, 1)['rows'][0]
    weights,grads,images = zip(*seen)
    assert len(seen)==4 and torch.equal(weights[0], weights[1]) # both batches see the same weights
    _,state,_ = read_checkpoint(tmp_path/'kept'/exp.name, True)
    averaged = state['model']['conv1.weight']
    n = averaged.numel() # it's the first parameter
    assert not torch.equal(averaged.flatten(), weights[0][:n].cpu())
    w,grad = weights[1][:n],grads[1][:n]
    assert row['weight_norm']['conv1']==pytest.approx(float(w.norm()), rel=1e-5)
    assert row['relative_step']['conv1']==pytest.approx(float(exp.lr*grad.norm()/w.norm()), rel=1e-3)
    assert torch.equal(images[0], images[2]) and torch.equal(images[1], images[3]) # the same batches after the plain step
    mean,after = (grads[0]+grads[1])/2,(grads[2]+grads[3])/2
    for o in weights[2:]: torch.testing.assert_close(o, weights[0]-row['step_lr']*mean)
    assert row['curvature']==pytest.approx(float((mean@mean-mean@after)/(mean@mean)/row['step_lr']), rel=1e-3)

def test_a_kept_command_names_no_folder_of_the_machine(monkeypatch):
    words = '/root/benchmarks/dynamics.py --data /data/cifar10.tgz /root/kept/full/run --out=/tmp/out --every 2 --save'
    monkeypatch.setattr(sys, 'argv', words.split())
    assert keep.command()=='python benchmarks/dynamics.py --data cifar10.tgz run --out=out --every 2'
