"""Interpretation and page of a run that tests a tiny network on many images.

The training images of a large set become test images, and those of a small set train the network for one epoch, so
almost all predictions are wrong, and the page has as much to show as possible.
"""
import contextlib,io,os,shutil,time
from functools import partial
from pathlib import Path

import torch
from advtrain.all import Run,run_experiment,write_report
from advtrain.launch import runner
from advtrain.runs.experiment import Experiment
from keep import over

from .common import memory

CHROMIUM = '/usr/bin/chromium'
WIDTH = 4 # channels of the network's first stage
QUESTIONS = dict(
    per_class=lambda interp: interp.per_class(),
    confusion_matrix=lambda interp: interp.confusion_matrix(),
    most_confused=lambda interp: interp.most_confused(5),
    misclassified=lambda interp: interp.misclassified(20),
    correct=lambda interp: interp.correct(20))

def tested_set(few, many, kind, folder):
    "Make a data set of links: training images of the set `few`, and for the test those of the set `many`"
    few,many,folder = Path(few),Path(many),Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if kind=='files':
        folder.mkdir(parents=True)
        for name,source in dict(train=few, test=many).items(): (folder/name).symlink_to(source/'train')
        return folder
    below = 'data' if kind=='parquet' else '.'
    (folder/below).mkdir(parents=True)
    for name,source in dict(train=few, test=many).items():
        for o in sorted((source/below).glob('train-*')):
            (folder/below/o.name.replace('train', name, 1)).symlink_to(o)
    return folder

def timed(f):
    "Call `f`; its result and the seconds"
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()): res = f()
    return res,time.perf_counter()-start

def _trained(exp, data, out):
    "Train, test and write everything; the run, and the seconds after training"
    train,ended = runner.Runner.train,[]
    def _train(self, *args, **kwargs):
        train(self, *args, **kwargs)
        ended.append(time.perf_counter())
    runner.Runner.train = _train
    try: run,_ = timed(lambda: run_experiment(exp, data, out, overwrite=True))
    finally: runner.Runner.train = train
    return run,time.perf_counter()-ended[0]

def _opened(page):
    "Measure how long a browser takes to open the page, in seconds, or say why that isn't known"
    if not os.path.exists(CHROMIUM): return f'no browser at {CHROMIUM}'
    from report import open_times
    try: return over(open_times(page, CHROMIUM, 3))
    except Exception as e: return str(e).splitlines()[0] # Playwright has its own kinds of exception

def look(few, many, kind, folder):
    "Measure inference, questions, and the page"
    torch.set_num_threads(1)
    folder = Path(folder)
    data = tested_set(few, many, kind, folder/'data')
    return _whole_run(data, folder/'run') | _page(folder/'run')

def _whole_run(data, out):
    "Measure what a run does after training, inference, and questions to its predictions"
    exp = Experiment('growth', width=WIDTH, augs='flip_cutout', epochs=1, lr=.02, n_images=20)
    run,after = _trained(exp, data, out)
    res = dict(predictions=run.metrics['test_images'], wrong=run.metrics['test_images']-run.metrics['test_correct'])
    res |= dict(after_training_s=after, whole_run=memory())
    learn = run.interpretation.learn
    with learn.no_bar(): interp,res['inference_s'] = timed(lambda: learn.interpret('test'))
    res['questions_s'] = {name: timed(partial(f, interp))[1] for name,f in QUESTIONS.items()}
    return res

def _page(folder):
    "Measure reading a run, and writing and opening its page"
    run = Run(folder)
    interp,loaded = timed(lambda: run.interpretation)
    page,written = timed(lambda: write_report(run))
    return dict(load_s=loaded, write_report_s=written, page_MB=page.stat().st_size/1e6, opens_s=_opened(page),
        predictions_MB=(folder/'predictions.safetensors').stat().st_size/1e6, **memory())
