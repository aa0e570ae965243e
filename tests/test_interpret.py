"""What is kept of one pass equals what fastai's own interpretation computes again for every question."""
import contextlib,io
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.interpret import ClassificationInterpretation

from advtrain.all import Experiment,ImageInterpretation,make_learner

@pytest.fixture(scope='module', params=['fp32','auto'])
def learner(request, sample):
    "A learner that has trained a little, in a precision"
    with contextlib.redirect_stdout(io.StringIO()):
        learn = make_learner(Experiment('small', norm='batch', width=8, size=16, bs=60, augs='flip_cutout', lr=.02,
            precision=request.param), sample)
        with learn.no_bar(): learn.fit(1)
    return learn

def printed(f):
    with contextlib.redirect_stdout(out := io.StringIO()): f()
    return out.getvalue()

@pytest.mark.filterwarnings('ignore:Precision is ill-defined')
def test_every_number_is_fastais(learner):
    with learner.no_bar(): ours,theirs = learner.interpret('valid'),ClassificationInterpretation.from_learner(learner)
    assert torch.equal(ours.losses, theirs.losses)
    for largest in (True,False):
        for a,b in zip(ours.top_losses(9, largest, items=True), theirs.top_losses(9, largest, items=True)):
            assert list(a)==list(b)
    with learner.no_bar():
        assert np.array_equal(ours.confusion_matrix(), theirs.confusion_matrix())
        assert ours.confusion_matrix().dtype==theirs.confusion_matrix().dtype
        assert ours.most_confused(2)==theirs.most_confused(2)
        assert printed(ours.print_classification_report)==printed(theirs.print_classification_report)
        probs,targs = learner.get_preds(dl=theirs.dl)
    assert torch.equal(ours.probs, probs.as_subclass(torch.Tensor))
    assert torch.equal(ours.targs, targs.as_subclass(torch.Tensor))

def test_items_are_fastais(learner):
    "The same images and classes; the probabilities of another batch differ by rounding"
    with learner.no_bar():
        ours,theirs = learner.interpret('valid'),ClassificationInterpretation.from_learner(learner)
        for a,b in zip(ours[[3,50,7]], theirs[[3,50,7]]):
            assert a.dtype==b.dtype and torch.allclose(a.float(), b.float(), atol=.02)
    assert torch.equal(ours[[3,50,7]][0], theirs[[3,50,7]][0])

def test_one_pass_is_all(learner):
    "No question asks the model again"
    with learner.no_bar(): interp = learner.interpret('valid')
    hook = learner.model.register_forward_hook(lambda *args: pytest.fail('the model was asked again'))
    try:
        interp.confusion_matrix()
        interp.most_confused()
        printed(interp.print_classification_report)
        interp.top_losses(5)
        interp.misclassified(5)
        interp.per_class()
        interp.calibration()
        for draw in (
                lambda: interp.plot_top_losses(4), lambda: interp.show_results([1,2]),
                interp.plot_confusion_matrix, interp.plot_per_class, interp.plot_calibration): draw()
    finally:
        hook.remove()
        import matplotlib.pyplot as plt
        plt.close('all')

@pytest.mark.parametrize('ds', ['train','valid','test'])
def test_kept_and_read_back(learner, ds, tmp_path):
    with learner.no_bar(): interp = learner.interpret(ds)
    interp.save(tmp_path/'kept.safetensors')
    again = ImageInterpretation.load(tmp_path/'kept.safetensors', learner)
    assert torch.equal(again.logits, interp.logits)
    assert torch.equal(again.losses, interp.losses) and again.table.equals(interp.table)
    assert np.array_equal(again.pixels([0,5]), interp.pixels([0,5]))
    data = bytearray((tmp_path/'kept.safetensors').read_bytes())
    data[len(data)//2] ^= 1
    (tmp_path/'kept.safetensors').write_bytes(data)
    with pytest.raises(ValueError, match='damaged'): ImageInterpretation.load(tmp_path/'kept.safetensors', learner)

def test_any_fastai_learner(sample):
    "Loaders and a network that are not advtrain's"
    import matplotlib.pyplot as plt
    from fastai.data.transforms import Normalize
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.vision.augment import Resize
    from fastai.vision.data import ImageDataLoaders
    from torchvision.models import resnet18
    dls = ImageDataLoaders.from_folder(sample, valid='test', item_tfms=Resize(32),
        batch_tfms=Normalize.from_stats([.3]*3, [.35]*3), bs=100, device='cpu', num_workers=0)
    torch.manual_seed(0)
    learn = Learner(dls, resnet18(num_classes=10), loss_func=CrossEntropyLossFlat())
    learn.model.train()
    with learn.no_bar(): interp,theirs = learn.interpret('valid'),ClassificationInterpretation.from_learner(learn)
    assert torch.equal(interp.losses, theirs.losses)
    wrong = interp.misclassified(2)
    fig = interp.plot_gradcam(wrong, ['layer2'], against='actual')
    assert interp.pixels(wrong).shape==(2,32,32,3)
    assert interp.gradcam(wrong, 'layer2.1.conv2', 'hirescam').shape==(1,2,32,32)
    plt.close(fig)

def test_a_vanished_file_is_named(sample, tmp_path):
    "Where images are not kept in memory"
    import shutil
    for c in ('Bag','Coat'): shutil.copytree(sample/'train'/c, tmp_path/'data'/c)
    with contextlib.redirect_stdout(io.StringIO()):
        learn = make_learner(Experiment('tiny', width=4, bs=20), tmp_path/'data', fast=False)
        with learn.no_bar(): interp = learn.interpret()
    gone = interp.misclassified(1)
    Path(gone.path.iloc[0]).unlink()
    with pytest.raises(ValueError, match=f'1 of 1 images cannot be read: .*{gone.path.iloc[0][-9:]}'):
        interp.plot_predictions(gone)
    with pytest.raises(ValueError, match=f'1 of {len(interp.table)} images cannot be read'): learn.interpret()
