"""Mixed images, class weights and early stopping change training, and nothing else."""
import contextlib,io,json

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.block import CategoryBlock,DataBlock,MultiCategoryBlock
from fastai.data.transforms import get_image_files
from fastai.vision.data import ImageBlock
from sklearn.utils.class_weight import compute_class_weight
from torchvision.transforms import v2

from advtrain.all import Checkpoint,EarlyStopping,Experiment,Run,Runs,image_dls,resnet18,resnet_learner,run_experiment
from advtrain.all import load_tensors,set_seed
from advtrain.launch.search import ReportTrial
from advtrain.launch.many import run_many
from advtrain.runs.status import read_status
from advtrain.train.callbacks import callback_of
from advtrain.train.record import EpochLog
from advtrain.train.training_loss import TrainingLoss,labels_of
from conftest import little_drawn,tiny

def quiet(f, *args, **kwargs):
    "What it prints, and what it returns"
    with contextlib.redirect_stdout(io.StringIO()) as out: res = f(*args, **kwargs)
    return out.getvalue(),res

def learner(data, seed=0, **kwargs):
    set_seed(seed)
    learn = resnet_learner(image_dls(data, size=16, bs=40), resnet18, width=4, lr=.02, precision='fp32', **kwargs)
    learn.remove_cb(learn.progress)
    return learn

class Before(Callback):
    "Note a batch before it is mixed, and where NumPy's generator is"
    order = 4
    def before_fit(self): self.seen = []
    def before_batch(self):
        if self.training: self.seen.append((self.xb[0], self.yb[0], np.random.get_state()))

class After(Before):
    order = 6

@pytest.mark.parametrize('mix, kind', [('mixup',v2.MixUp), ('cutmix',v2.CutMix)])
def test_a_batch_is_what_torchvision_makes_of_it(few, mix, kind):
    "For the same seed, torchvision's own call draws the same numbers, and gives the same bits"
    learn = learner(few, mix=mix, mix_alpha=.4)
    before,after,soft = Before(),After(),[]
    class KeepLabels(Callback):
        def after_loss(self):
            if self.training: soft.append(self.training_loss.soft)
    quiet(learn.fit, 1, cbs=[before, after, KeepLabels()])
    assert len(before.seen)==4
    for (x,y,state),(mixed,stronger,_),labels in zip(before.seen, after.seen, soft):
        np.random.set_state(state)
        torch.manual_seed(int(np.random.randint(2**31)))
        images,expected = kind(alpha=.4, num_classes=3)(x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor))
        assert images.equal(mixed.as_subclass(torch.Tensor)) and expected.equal(labels)
        assert (type(mixed),type(stronger))==(type(x),type(y)) and (expected.argmax(1)==stronger).all()

def test_what_training_counts_and_validation_leaves_alone(few):
    "The same validation loss as a plain cross-entropy; accuracies count images"
    learn = learner(few, mix='cutmix', class_weights='balanced', label_smoothing=.1)
    said,_ = quiet(learn.fit, 2)
    assert said.count('training accuracy counts the stronger label of each mixed image')==1
    assert (learn.history.train_n==135).all() and (learn.history.train_correct<=135).all()
    logits,targs = quiet(learn.get_preds)[1]
    plain = torch.nn.functional.cross_entropy(logits.log(), targs, label_smoothing=.1)
    assert abs(plain-learn.history.valid_loss.iloc[-1])<1e-4

def test_nothing_is_added_unless_it_is_chosen(few):
    learn = learner(few)
    assert not callback_of(learn, TrainingLoss) and not callback_of(learn, EarlyStopping)

def test_the_finder_tries_the_loss_of_training_and_puts_everything_back(few):
    learn = learner(few, mix='mixup', ema=.9)
    plain,state = learn.loss_func,np.random.get_state()[1].copy()
    used = []
    class KeepLoss(Callback):
        def before_batch(self): used.append(self.learn.loss_func)
    learn.add_cb(KeepLoss())
    said,_ = quiet(learn.lr_find, num_it=10, show_plot=False)
    assert used and all(o==learn.training_loss.batch_loss for o in used)
    assert learn.loss_func is plain and (np.random.get_state()[1]==state).all() and 'stronger' not in said

def test_profiling_puts_the_loss_back(few):
    learn = learner(few, mix='mixup')
    plain = learn.loss_func
    quiet(learn.profile, 2)
    assert learn.loss_func is plain

def test_weights_come_from_the_labels_of_the_images_that_are_used(some, few, tmp_path, monkeypatch):
    "Also for loaders that open files, and after `fraction`; none is opened"
    folders = sorted(o for o in (some/'train').iterdir())
    for i,folder in enumerate(folders[:3]):
        (to := tmp_path/'train'/folder.name).mkdir(parents=True)
        for f in sorted(folder.iterdir())[:60-20*i]: (to/f.name).write_bytes(f.read_bytes())
    for how in (dict(fraction=.5), dict(fast=False), {}):
        dls = image_dls(tmp_path, bs=10, valid_pct=.2, **how)
        with monkeypatch.context() as m:
            m.setattr('PIL.Image.open', lambda *a, **k: pytest.fail('an image was opened'))
            labels = labels_of(dls.train)
            learn = resnet_learner(dls, width=4, class_weights='balanced')
            weights = learn.training_loss._weights()
        names = [o.parent.name for o in dls.train.items]
        assert [dls.vocab[i] for i in labels]==names and len({names.count(o) for o in dls.vocab})==3
        expected = compute_class_weight('balanced', classes=np.array(dls.vocab), y=np.array(names))
        assert np.allclose(weights, expected, rtol=1e-6)

def test_tasks_that_it_does_not_suit(few):
    block = DataBlock((ImageBlock, MultiCategoryBlock), get_items=get_image_files, get_y=lambda f: [f.parent.name])
    for how in (dict(mix='mixup'), dict(class_weights='balanced')):
        learn = resnet_learner(block.dataloaders(few, bs=20, num_workers=0), width=4, **how)
        with pytest.raises(TypeError, match='one class index per image'): quiet(learn.fit, 1)
    one = DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, get_y=lambda f: 'image')
    with pytest.raises(ValueError, match='need two or more classes'):
        resnet_learner(one.dataloaders(few, bs=20, num_workers=0), width=4, mix='cutmix')
    learn = learner(few, mix='cutmix')
    learn.dls.train.after_batch.fs.clear() # images stay whole numbers
    with pytest.raises(TypeError, match='add IntToFloatTensor'): quiet(learn.fit, 1)

def test_another_mix_is_another_run(few, tmp_path):
    quiet(learner(few, mix='mixup').fit, 1, cbs=Checkpoint(tmp_path))
    for how in (dict(mix='cutmix'), dict(mix='mixup', mix_alpha=.2), dict(mix='mixup', class_weights='balanced')):
        k = list(how)[-1]
        with pytest.raises(ValueError, match=f'callback.training_loss.{k} is .* in the checkpoint and'):
            quiet(learner(few, **how).resume, 2, tmp_path)
    with pytest.raises(ValueError, match='callback.training_loss is only in the checkpoint'):
        quiet(learner(few).resume, 2, tmp_path)

# Early stopping

LOSSES = [3.,2.,1.,1.5,1.,1.2,.5,.4]

@pytest.fixture
def given_losses(monkeypatch):
    "The record has these validation losses"
    own = EpochLog.after_epoch
    def after_epoch(self):
        own(self)
        if self.sums[True]: self.rows[-1]['valid_loss'] = LOSSES[len(self.rows)-1]
    monkeypatch.setattr(EpochLog, 'after_epoch', after_epoch)

SENTENCE = 'stopped after epoch 5 of 8: no lower validation loss since epoch 3'

def weights(folder): return load_tensors(folder/'weights.safetensors')[0]

def test_a_run_says_why_it_ended(few, tmp_path, given_losses):
    exp = tiny(epochs=8, stop_after=2, mix='cutmix', class_weights='balanced')
    with little_drawn(): said,run = quiet(run_experiment, exp, few, tmp_path/'run')
    assert said.count(SENTENCE)==1 and len(run.history)==5
    assert json.loads((tmp_path/'run/metrics.json').read_text())['stopped']==SENTENCE
    assert f'Training {SENTENCE}.' in (tmp_path/'run/report.html').read_text()
    readme = (tmp_path/'run/README.md').read_text()
    assert SENTENCE in readme and 'Epoch 5/8' in readme
    seen = read_status(tmp_path/'run')
    assert (seen.state,seen.reason)==('finished',SENTENCE)
    row = Runs(tmp_path).table.loc['run']
    assert (row.epochs,row.of,row.state)==(5,8,'finished')
    with little_drawn(): said,again = quiet(run_experiment, exp, few, tmp_path/'run', resume=True) # nothing to do
    assert 'Epoch' not in said and again.metrics==run.metrics

@pytest.mark.parametrize('killed_in', [3,5])
def test_a_killed_run_stops_where_it_would_have(few, tmp_path, given_losses, monkeypatch, killed_in):
    "After the last epoch was saved, or before: no other epoch, and the same weights"
    exp = tiny(epochs=8, stop_after=2, mix='mixup')
    class Killed(BaseException): pass
    def die(run):
        if len(run.history)==killed_in: raise Killed
    with little_drawn():
        quiet(run_experiment, exp, few, tmp_path/'whole')
        with monkeypatch.context() as m, pytest.raises(Killed):
            from advtrain.launch import runner
            own = runner.KeepHistory.after_epoch
            def after_epoch(self):
                own(self)
                die(self.learn)
            m.setattr(runner.KeepHistory, 'after_epoch', after_epoch)
            quiet(run_experiment, exp, few, tmp_path/'killed')
        seen = read_status(tmp_path/'killed')
        assert (seen.state,seen.reason)==(('trained',SENTENCE) if killed_in==5 else ('interrupted',''))
        said,run = quiet(run_experiment, exp, few, tmp_path/'killed', resume=True)
    assert said.count(SENTENCE)==1 and run.metrics['stopped']==SENTENCE
    epochs = [o for o in said.splitlines() if o.startswith('Epoch')]
    assert len(epochs)==5-killed_in and len(run.history)==5
    of_whole,of_killed = weights(tmp_path/'whole'),weights(tmp_path/'killed')
    assert of_whole.keys()==of_killed.keys() and all(of_whole[k].equal(of_killed[k]) for k in of_whole)
    there,here = (Run(tmp_path/o) for o in ('whole','killed'))
    assert there.history.drop(columns='seconds').equals(here.history.drop(columns='seconds'))
    assert (there.predictions.loss==here.predictions.loss).all()

def test_many_runs(few, tmp_path, given_losses):
    "The lines and the page of several runs count the epochs that were trained"
    exps = [tiny(name='stops', epochs=8, stop_after=2), tiny(name='ends', epochs=3)]
    with little_drawn(): said,runs = quiet(run_many, exps, few, tmp_path)
    lines = {o.partition(': test accuracy')[0]: o for o in said.splitlines()}
    assert ' of 5, ' in lines['stops'] and ' of 3, ' in lines['ends']
    assert runs.table.reason.tolist()==[SENTENCE,'']
    assert SENTENCE in (tmp_path/'index.html').read_text()

def test_the_watched_data_are_named(few, tmp_path, given_losses):
    exp = tiny(epochs=8, stop_after=2, watch='test')
    with little_drawn(): _,run = quiet(run_experiment, exp, few, tmp_path/'run')
    assert run.metrics['stopped']==SENTENCE.replace('validation', 'test')

def test_an_ended_trial_is_not_pruned(few, given_losses):
    "It is complete, like one that had all its epochs"
    class Trial:
        def __init__(self): self.reported = []
        def report(self, value, epoch): self.reported.append(epoch)
        def should_prune(self): return len(self.reported)==5
    for stop_after,pruned in ((2,False), (4,True)):
        report = ReportTrial(Trial(), set())
        learn = learner(few, stop_after=stop_after)
        quiet(learn.fit, 8, cbs=report)
        assert report.pruned==pruned and len(learn.history)==5

def test_curves_may_stop_too(few, given_losses):
    learn = learner(few, stop_after=2, schedule='one_cycle')
    said,_ = quiet(learn.fit, 8)
    assert SENTENCE in said and len(learn.history)==5

def test_choices_go_through_files(tmp_path):
    exp = Experiment(mix='cutmix', mix_alpha=.2, class_weights='balanced', stop_after=5)
    assert Experiment.from_toml(exp.to_toml())==exp and Experiment().id!=exp.id
    for bad in (dict(mix='cut'), dict(mix_alpha=0), dict(class_weights='sqrt'), dict(stop_after=0)):
        with pytest.raises(ValueError, match=next(iter(bad))): Experiment(**bad)
