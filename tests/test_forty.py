"""The rounds of the forty epochs, and what is measured at each of their epochs."""
import sys
from pathlib import Path

import pytest,torch

from advtrain.data.sources import fashion_sample
from advtrain.runs.experiment import Experiment,FIELDS,differing_fields
from advtrain.runs.make_learner import make_learner
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
        'layernorm-40-best': None, 'layernorm-40-best-lr-0.05': .8, 'layernorm-40-best-lr-0.01': .7}
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

def test_steps_grow_above_the_limit_of_curvature():
    def _end(curvature, **kwargs):
        "Where gradient descent on a parabola is after many steps from 1"
        w = torch.tensor([1.], requires_grad=True)
        opt = torch.optim.SGD([w], lr=.1, **kwargs)
        for _ in range(2000):
            w.grad = curvature*w.detach()
            opt.step()
        return abs(float(w))
    for mom,nesterov in ((0,False),(.9,False),(.9,True)):
        limit = dynamics.curvature_limit(.1, mom, nesterov)
        ends = [_end(share*limit, momentum=mom, nesterov=nesterov) for share in (.98,1.02)]
        assert ends[0]<1e-3 and not ends[1]<1e3

@pytest.mark.parametrize('nesterov', (False,True))
def test_steps_and_weight_decay_balance(nesterov):
    lr,wd,mom = .1,.002,.9
    rng = torch.Generator().manual_seed(0)
    w = torch.randn(1000, generator=rng)
    opt = torch.optim.SGD([w], lr, mom, weight_decay=wd, nesterov=nesterov)
    steps = []
    for _ in range(4000):
        noise,before = torch.randn(1000, generator=rng),w.clone()
        across = noise-w*(noise@w)/(w@w) # the length of the weights makes no difference to the loss
        w.grad = across/w.norm() # longer weights have smaller gradients
        opt.step()
        steps.append(float((w-before).norm()/before.norm()))
    assert sum(steps[2000:])/2000==pytest.approx(dynamics.balanced_step(lr, wd, mom, nesterov), rel=.02)

def test_checkpoints_of_all_epochs_are_kept_and_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, 'BATCHES', 5)
    exp = forty.scaled(forty.RECIPE, 'tiny').replace(epochs=3)
    forty.run_one(exp.to_toml(), None, str(tmp_path/'run'), 1, str(tmp_path/'kept'))
    kept = tmp_path/'kept'/exp.name
    files = sorted(o.name for o in kept.glob('checkpoint-*'))
    assert files==[f'checkpoint-000{i}.safetensors' for i in (1,2,3)]
    measured = dynamics.of_run(kept, None, 1)
    assert measured['choices']['norm']=='layer' and [o['epoch'] for o in measured['rows']]==[1,2,3]
    assert [o['epoch'] for o in dynamics.of_run(kept, None, 2)['rows']]==[1,3]
    *rows,last = measured['rows']
    assert 'noise' not in last
    of_one = 1/360 # in bf16, an image between two classes may go either way
    assert last['clean_train_acc']==pytest.approx(accuracy_of_averaged_weights(exp, kept), abs=1.5*of_one)
    stages = ['conv1','layer1','layer2','layer3','layer4']
    for row,following in zip(rows, measured['rows'][1:]):
        assert row['step_lr']==following['lr'] and row['curvature_limit']==pytest.approx(3.8/2.8/row['step_lr'])
        assert list(row['noise'])==[*stages,'norm','fc'] and all(v>0 for v in row['noise'].values())
        assert list(row['weight_norm'])==list(row['relative_step'])==stages
    monkeypatch.setattr(dynamics, 'BATCHES', 100)
    with pytest.raises(ValueError, match='batches an epoch; 200 are measured'): dynamics.of_run(kept, None, 1)

def accuracy_of_averaged_weights(exp, folder):
    "On training images without augmentation"
    _,state,_ = read_checkpoint(folder, previous=False)
    learn = make_learner(exp, fashion_sample())
    learn.model.load_state_dict(state['model'])
    train = learn.dls.train.items
    logits,labels = learn.get_preds(dl=learn.dls.test_dl(train[::max(1, len(train)//5000)], with_labels=True))
    return float((logits.argmax(1)==labels).float().mean())

def made_up(folder, **changes):
    "A folder with choices and an empty checkpoint"
    folder.mkdir(parents=True)
    (folder/'experiment.toml').write_text(forty.scaled(forty.RECIPE, 'tiny').replace(**changes).to_toml())
    (folder/'checkpoint-0001.safetensors').touch()
    return folder

def error_of(monkeypatch, capsys, script, *words):
    "The last line of a script that refuses its options"
    monkeypatch.setattr(sys, 'argv', [script.__name__, *map(str, words)])
    with pytest.raises(SystemExit, match='2'): script.main()
    return capsys.readouterr().err.splitlines()[-1]

def test_dynamics_refuses_what_it_cannot_measure(tmp_path, monkeypatch, capsys):
    def _error(*words): return error_of(monkeypatch, capsys, dynamics, *words)
    run,twin,mixed,bare = (made_up(tmp_path/o, **c) for o,c in
        (('a/run',{}), ('b/run',{}), ('mixed',dict(mix='cutmix')), ('bare',{})))
    (bare/'checkpoint-0001.safetensors').unlink()
    assert "mix = 'cutmix'" in _error(run, mixed)
    for o in (bare, tmp_path/'missing', tmp_path): assert f'{o}: no experiment.toml or no checkpoints' in _error(run, o)
    assert 'two folders have a run of the same name: layernorm-40-ws' in _error(run, twin)
    assert '--every: at least 1' in _error(run, '--every', 0)

def test_dynamics_names_a_damaged_checkpoint_and_missing_epochs(tmp_path, capsys):
    run = made_up(tmp_path/'run')
    with pytest.raises(Exception) as e: dynamics.of_run(run, None, 1)
    assert e.value.__notes__==[f'while measuring {run/"checkpoint-0001.safetensors"}']
    assert capsys.readouterr().out==f'{run}: no checkpoints of epochs [2]\n'

def test_forty_refuses_data_that_do_not_exist(tmp_path, monkeypatch, capsys):
    def _error(*words): return error_of(monkeypatch, capsys, forty, '--out', tmp_path/'out', *words)
    assert f'no such file or folder: {tmp_path/"missing"}' in _error('--data', tmp_path/'missing')
    assert '--jobs: at least 1' in _error('--jobs', 0)
    assert not (tmp_path/'out').exists()

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
    _,state,_ = read_checkpoint(tmp_path/'kept'/exp.name, previous=True)
    averaged = state['model']['conv1.weight']
    n = averaged.numel() # it's the first parameter
    assert not torch.equal(averaged.flatten(), weights[0][:n].cpu())
    w,grad = weights[1][:n],grads[1][:n]
    assert row['weight_norm']['conv1']==pytest.approx(float(w.norm()), rel=1e-5)
    assert row['relative_step']['conv1']==pytest.approx(float(exp.lr*grad.norm()/w.norm()), rel=1e-3)
    for i in (0,1): assert torch.equal(images[i], images[i+2]) # the same batches after the plain step
    mean,after = (grads[0]+grads[1])/2,(grads[2]+grads[3])/2
    for o in weights[2:]: torch.testing.assert_close(o, weights[0]-row['step_lr']*mean)
    assert row['curvature']==pytest.approx(float((mean@mean-mean@after)/(mean@mean)/row['step_lr']), rel=1e-3)

def test_a_kept_command_names_no_folder_of_the_machine(monkeypatch):
    words = '/a/benchmarks/dynamics.py --data /a/cifar10.tgz /a/kept/full/run --out=/a/out --every 2 --save'
    monkeypatch.setattr(sys, 'argv', words.split())
    assert keep.command()=='python benchmarks/dynamics.py --data cifar10.tgz run --out=out --every 2'
