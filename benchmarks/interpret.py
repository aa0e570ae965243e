"""Claim: five questions about 10,000 predictions are answered 4 times faster than by fastai's interpretation.

The questions are the confusion matrix, the most confused classes, the classification report, the top losses, and the
misclassified images by falling loss. fastai predicts for the losses and again for each of the first three. It has no
method for the last, so a user calls `get_preds`. advtrain predicts once. Both use the same learner, loader and
precision. They take turns for several rounds. Figures are medians, ratios are within a round. The images come from the
embedded sample or from `--data`, repeated until there are enough.

    python benchmarks/interpret.py [--data cifar10.tgz] [--images 10000] [--width 64] [--rounds 3]
"""
import argparse,contextlib,io,platform,statistics,time

import fastai
import torch
from keep import keep,over,with_save
from advtrain.data.sources import fashion_sample
from advtrain.data.image_dls import image_dls
from advtrain.look.interpret import ImageInterpretation
from advtrain.train.resnet_learner import resnet_learner
from advtrain.train.state import set_seed
from fastai.interpret import ClassificationInterpretation

def with_fastai(learn, dl):
    "Answer with fastai: confusion matrix, most confused, losses, misclassified"
    interp = ClassificationInterpretation.from_learner(learn, dl=dl)
    interp.print_classification_report()
    losses,idxs = interp.top_losses()
    probs,targs = learn.get_preds(dl=dl)
    wrong = idxs[(probs.argmax(1)!=targs)[idxs]]
    return interp.confusion_matrix(),interp.most_confused(),losses,wrong

def with_advtrain(learn, dl):
    "Answer with advtrain: confusion matrix, most confused, losses, misclassified"
    interp = ImageInterpretation.from_learner(learn, dl=dl)
    interp.print_classification_report()
    return (interp.confusion_matrix(), interp.most_confused(), interp.top_losses()[0],
        torch.tensor(interp.misclassified().index))

def timed(f, learn, dl):
    start = time.perf_counter()
    with learn.no_bar(),contextlib.redirect_stdout(io.StringIO()): res = f(learn, dl)
    return time.perf_counter()-start,res

def same(ours, theirs, losses):
    "Are the answers equal? Images with the same loss may be in another order"
    return ((ours[0]==theirs[0]).all() and ours[1]==theirs[1] and torch.equal(ours[2], theirs[2])
        and torch.equal(losses[ours[3]], losses[theirs[3]]))

def race(learn, dl, rounds):
    "Measure the seconds of each in each round, and compare the last answers"
    seconds = []
    for _ in range(rounds):
        fast,ours = timed(with_advtrain, learn, dl)
        slow,theirs = timed(with_fastai, learn, dl)
        seconds.append((fast,slow))
    losses = ImageInterpretation.from_learner(learn, dl=dl).losses
    return seconds,bool(same(ours, theirs, losses))

def many(learn, n):
    "Make a loader of the test images, repeated until there are `n`"
    items = list(learn.dls.test.items)
    return learn.dls.test_dl((items*(-(-n//len(items))))[:n], with_labels=True)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help='folder or archive of images; default: the embedded sample')
    p.add_argument('--images', type=int, default=10000, help='number of predictions')
    p.add_argument('--width', type=int, default=64, help='channels of the first stage')
    p.add_argument('--rounds', type=int, default=3, help='number of rounds')
    o = with_save(p).parse_args()
    set_seed(0)
    learn = resnet_learner(image_dls(o.data or fashion_sample()), width=o.width)
    rounds,equal = race(learn, many(learn, o.images), o.rounds)
    ratio = over(slow/fast for fast,slow in rounds)
    print(f'{platform.processor() or platform.machine()}, torch {torch.__version__}, fastai {fastai.__version__}, '
          f'{learn.precision.used} on {learn.dls.device}, '
          f'ResNet-18 of width {o.width}, {o.images:,} images, {o.rounds} rounds')
    print(f'fastai {statistics.median(r[1] for r in rounds):.1f} s, '
          f'advtrain {statistics.median(r[0] for r in rounds):.1f} s, '
          f"{ratio['median']:.2f} times as fast (from {ratio['low']:.2f} to {ratio['high']:.2f}); "
          f'the same answers: {equal}')
    keep(o.save, dict(
        images=o.images,
        seconds=dict(advtrain=over(r[0] for r in rounds), fastai=over(r[1] for r in rounds)),
        ratio=ratio,
        same_answers=equal), 'fastai')

if __name__=='__main__': main()
