"""Training does not wait for a GPU: tensors without data play one that never answers, and whatever asks them is
counted."""
import traceback
from collections import Counter
from contextlib import ExitStack,nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from fastai.callback.core import Callback
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from advtrain.data.augment import cutout_augs
from advtrain.lazy_imports import A
from advtrain.train.callbacks import RunCallback
from advtrain.data.image_dls import image_dls
from advtrain.models import ResNet
from advtrain.train.resnet_learner import resnet_learner
from advtrain.launch.live_page import LivePage
from advtrain.runs.presets import EXPERIMENTS

aten = torch.ops.aten
META = torch.device('meta')

def place():
    "Who asked: the innermost line of advtrain or fastai"
    frames = [o for o in traceback.extract_stack() if any(f'/{p}/' in o.filename for p in ('advtrain','fastai'))]
    frames = [o for o in frames if not o.filename.endswith('torch_core.py')] or [
        traceback.FrameSummary(__file__, 0, 'the test')]
    return f'{Path(frames[-1].filename).name} {frames[-1].name}'

class Asked(TorchDispatchMode):
    "Count what waits for the device, and give it an answer"
    def __init__(self):
        super().__init__()
        self.waits,self.copies,self.kept,self.inside = Counter(),Counter(),[],False

    def pin(self, t):
        "Stands for `Tensor.pin_memory`, which needs a GPU"
        self.kept.append(t.clone()) # as long as it is kept, no other tensor gets its memory
        return self.kept[-1]

    def wait(self): self.waits['inside' if self.inside else 'at the ends', place()] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default and args[0].is_meta:
            self.wait()
            return True if args[0].dtype==torch.bool else 1
        if (func is aten._to_copy.default and kwargs.get('device')
                and self._crosses(args[0], torch.device(kwargs['device']), kwargs.get('non_blocking'))):
            return torch.ones(args[0].shape, dtype=kwargs.get('dtype') or args[0].dtype)
        if func is aten.copy_.default:
            self._crosses(args[1], args[0].device, args[2:]==(True,) or kwargs.get('non_blocking'))
        return func(*args, **kwargs)

    def _crosses(self, source, device, non_blocking):
        "Note a copy from one device to another; is it one to the CPU?"
        if source.device.type=='cpu' and device.type=='meta':
            pinned = source.untyped_storage().data_ptr() in [o.untyped_storage().data_ptr() for o in self.kept]
            self.copies['pinned' if pinned and non_blocking else place()] += 1
        to_cpu = source.is_meta and device.type=='cpu'
        if to_cpu: self.wait()
        return to_cpu

class Made(TorchFunctionMode):
    "Count what is made on the device from numbers on the CPU, which dispatch does not show"
    def __init__(self, asked):
        super().__init__()
        self.asked = asked

    def __torch_function__(self, func, types, args=(), kwargs=None):
        res = func(*args, **(kwargs or {}))
        numbers = args[1] if func is torch.Tensor.new_tensor else args[0] if args else None
        if (func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and res.is_meta
                and not torch.is_tensor(numbers)): self.asked.copies[place()] += 1
        return res

class Inside(RunCallback):
    "Tell when batches run"
    order,passive = -1000,True
    in_lr_find = in_predictions = True
    def __init__(self, asked): self.asked = asked
    def before_train(self): self.asked.inside = True
    def before_validate(self): self.asked.inside = True
    def after_train(self): self.asked.inside = False
    def after_validate(self): self.asked.inside = False

def on_meta(**kwargs):
    "A network of a block a stage, without numbers"
    with META: return ResNet((1,1,1,1), **kwargs)

def trained(sample, steps, change=lambda learn: learn, bars=False, **kwargs):
    "What an epoch, and validation, asked of its device"
    augs = A.Compose([A.HorizontalFlip(), A.RandomBrightnessContrast(), *cutout_augs(degrees=5).transforms])
    asked = Asked()
    with ExitStack() as stack:
        for name,value in {
            'advtrain.devices.GPUS': ('meta',),
            'torch.autocast': lambda *a, **k: nullcontext(),
            'torch.Tensor.pin_memory': lambda t: asked.pin(t),
            'torch.cuda.mem_get_info': lambda *a: (10**12,10**12),
        }.items(): stack.enter_context(patch(name, value))
        learn = change(resnet_learner(image_dls(sample, augs, bs=1800//steps, device=META), on_meta, width=4, **kwargs))
        assert len(learn.dls.train)==steps
        with learn.no_bar(): pass # fastai puts its own bars back
        if bars: stack.enter_context(patch('advtrain.train.learner.is_interactive', lambda stream: True))
        for o in (nullcontext() if bars else learn.no_bar(), learn.added_cbs(Inside(asked)), asked, Made(asked)):
            stack.enter_context(o)
        learn.fit(1)
    # curves are drawn on the CPU
    assert len(learn.recorder.losses)==steps and not any(o.is_meta for o in learn.recorder.losses)
    return asked

@pytest.mark.parametrize('mix', ['none','mixup','cutmix'])
def test_nothing_waits_inside_an_epoch(sample, mix):
    changes = {} if mix=='none' else dict(mix=mix, class_weights='balanced', stop_after=1)
    asked = trained(sample, 60, **changes,
        ema=.9, warmup=1, grad_clip=1., label_smoothing=.1, dropout=.1, weight_std=True, nesterov=True)
    inside = {place: n for (when,place),n in asked.waits.items() if when=='inside'}
    assert inside=={'finite_loss.py _look': 60//50} # losses are looked at every fifty steps
    ends = {place: n for (when,place),n in asked.waits.items() if when=='at the ends'}
    assert ends.pop('margin_log.py _of_all')==2 # all margins of training in one copy, and those of validation
    assert sum(ends.values())<=8 # and the sums of the epoch
    assert set(asked.copies)=={'pinned'}

def test_the_live_page_waits_at_the_end_of_an_epoch(sample, tmp_path):
    "Nothing inside, and then a few copies of small numbers; a network without numbers has no heat maps"
    asked = trained(sample, 60, lambda learn: learn.add_cb(LivePage(EXPERIMENTS['quickstart'], tmp_path)))
    assert {place: n for (when,place),n in asked.waits.items() if when=='inside'}=={'finite_loss.py _look': 60//50}
    assert set(asked.copies)=={'pinned'}
    ends = {place: n for (when,place),n in asked.waits.items() if when=='at the ends'}
    assert 0<sum(n for place,n in ends.items() if place.startswith('live_page.py'))<=8
    assert (tmp_path/'live.html').read_text().count('<img')==8

def test_bars_ask_seldom(sample):
    asked = trained(sample, 60, bars=True)
    assert {place: n for (when,place),n in asked.waits.items() if when=='inside'}=={
        'finite_loss.py _look': 60//50, 'record.py _show': 2}

class Asks(Callback):
    "What people write"
    def after_loss(self):
        if self.loss.item()>1e9 or not torch.isfinite(self.pred).all(): raise ValueError
    def after_step(self): self.seen = self.loss.new_tensor(3.)+torch.zeros(1).to(self.loss.device)

def test_what_waits_is_counted(sample):
    asked = trained(sample, 10, lambda learn: learn.add_cb(Asks()))
    assert sum(n for (when,_),n in asked.waits.items() if when=='inside')>=2*10
    assert sum(n for place,n in asked.copies.items() if place!='pinned')>=2*10
