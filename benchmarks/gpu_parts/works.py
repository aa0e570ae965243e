"""What works on this machine: the GPU tests, what users do from training to ONNX, and how well logits agree."""
import io,subprocess,time,traceback
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import pytest
import torch
from advtrain.all import AUGS,EXPERIMENTS,Checkpoint,Run,advtrain_predict,image_dls,make_learner,resnet_learner
from advtrain.all import run_experiment,set_seed,write_report
from advtrain.train.callbacks import RunCallback

from . import loaders,path,width

TESTS = Path(__file__).parents[2]/'tests/test_cuda.py'

def output(*command):
    "Get the output of a command, or why it can't run"
    try: return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as e: return f'not measured: {e}'

def machine(o, note):
    "Note the card, its driver and clocks, and how PyTorch was built"
    note(cudnn=torch.backends.cudnn.version(), built=torch.__config__.show().splitlines())
    if o.device=='cpu': return note(card='not measured', clocks='not measured')
    note(card=output('nvidia-smi', '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'))
    note(clocks=output('nvidia-smi', '-q', '-d', 'CLOCK').splitlines()[:40])

def decoding(o, note):
    "Measure making the loaders the first time, which unpacks and decodes, and the second time"
    times = []
    for _ in range(2):
        start = time.perf_counter()
        image_dls(path(o))
        times.append(time.perf_counter()-start)
    note(loaders=dict(first_seconds=times[0], second_seconds=times[1]))
    note.figure('unpacking and decoding', times[0], 's')

class Outcomes:
    "Note the outcome of each test at once"
    def __init__(self, note): self.note,self.tests = note,{}
    def pytest_runtest_logreport(self, report):
        if report.when!='call' and report.passed: return
        name = report.nodeid.split('::', 1)[-1]
        self.tests[name] = report.outcome if report.outcome!='failed' else report.longreprtext[-1500:]
        self.note(tests=self.tests)

def tests(o, note):
    if not TESTS.is_file(): return note(tests=f'{TESTS.name} is missing')
    outcomes = Outcomes(note)
    options = ['-m', 'cuda', '--device', o.device, '-q', '--tb=short', '-p', 'no:randomly']
    code = pytest.main([*options, str(TESTS)], plugins=[outcomes])
    note(tests=outcomes.tests, tests_exit_code=int(code))
    passed = sum(v=='passed' for v in outcomes.tests.values())
    note.figure('GPU tests passed', f'{passed} of {len(outcomes.tests)}')

def small(o, **changes):
    "Make an experiment that takes seconds"
    tiny = dict(width=4, size=16) if o.tiny else {}
    return EXPERIMENTS['quickstart'].replace(**dict(epochs=2, n_images=6, fraction=.2) | tiny | changes)

def quickstart(o): run_experiment(small(o), path(o), f'{o.work}/quickstart')

def finished(o): return Run(f'{o.work}/quickstart')

def read_back(o):
    "Draw heat maps, faithfulness and the page of a run read from its folder"
    run = finished(o)
    rows = run.interpretation.misclassified(6)
    run.interpretation.plot_gradcam(rows)
    run.interpretation.faithfulness(rows)
    write_report(run)

class Fails(RunCallback):
    "Raise an error in the second epoch"
    passive = True
    def before_train(self):
        if self.epoch==1: raise RuntimeError('on purpose')

def resumed(o):
    "Resume a run that stopped with an error"
    exp,folder = small(o),f'{o.work}/resumed'
    try: make_learner(exp, path(o)).fit(2, cbs=[Checkpoint(folder), Fails()])
    except RuntimeError: pass
    learn = make_learner(exp, path(o))
    learn.resume(2, folder)
    assert len(learn.history)==2

def trained(o, **changes):
    "Train a learner for an epoch"
    learn = make_learner(small(o, **changes), path(o))
    learn.fit(1)
    assert learn.history.train_loss.notna().all()

def by_item(o):
    "Load the images one by one in worker processes, after the GPU was used"
    dls = image_dls(path(o), AUGS['cutout'](32), bs=32, fraction=.05, fast=False, num_workers=2)
    resnet_learner(dls, width=width(o)).fit(1)

def found_lr(o): assert make_learner(small(o), path(o)).lr_find(num_it=40, show_plot=False).valley>0

def to_onnx(o): assert finished(o).to_onnx().is_file()

def predicted(o):
    "Predict images of a folder with the command"
    folder = next((path(o)/'test').iterdir())
    files = sorted(map(str, folder.iterdir()))[:3]
    words = [f'{o.work}/quickstart', *files, '--out', f'{o.work}/heat_maps']
    with redirect_stdout(out := io.StringIO()): code = advtrain_predict(words)
    assert code==0, out.getvalue()

CHECKS = { # name -> function of the options
    'quickstart, 2 epochs to the page': quickstart,
    'a run read back: heat maps, faithfulness, page': read_back,
    'resume after an exception': resumed,
    'fp16 and grad_clip': partial(trained, precision='fp16', grad_clip=1.),
    'EMA, warm-up and weight_std': partial(trained, ema=.9, warmup=1, weight_std=True),
    'item by item with workers': by_item,
    'lr_find': found_lr,
    'predict': predicted,
    'to_onnx': to_onnx,
}

def checks(o, note):
    "Try what users do; a failure doesn't stop the others"
    results = {}
    for name,check in CHECKS.items():
        start = time.perf_counter()
        try:
            check(o)
            results[name] = 'ok'
        except (Exception, SystemExit):
            traceback.print_exc()
            results[name] = ''.join(traceback.format_exc().splitlines(True)[-8:])
        print(f'{name}: {results[name]}, {time.perf_counter()-start:.1f} s')
        note(checks=results)
    failed = [k for k,v in results.items() if v!='ok']
    note.figure('checks passed', ', not '.join([f'{len(results)-len(failed)} of {len(results)}', *failed]))

def logits(o, note):
    "Measure how far logits of each device and precision are from the CPU's in fp32, ‖a−b‖/‖b‖"
    set_seed(0)
    learn = resnet_learner(loaders(o), width=width(o))
    n = 50 if o.tiny else 500
    dl = learn.dls.test_dl(learn.dls.test.items[:n])
    x = torch.cat([b[0] for b in dl]).as_subclass(torch.Tensor)
    def _logits(device, dtype=None):
        model = learn.model.to(device).eval()
        with torch.no_grad(),torch.autocast(device, dtype, enabled=dtype is not None):
            return model(x.to(device)).float().cpu()
    exact = _logits('cpu')
    def _distance(logits): return float((logits-exact).norm()/exact.norm())
    distances = dict(fp32=_distance(_logits(o.device)), bf16=_distance(_logits(o.device, torch.bfloat16)))
    note(logits_from_cpu_fp32=distances)
    for name,v in distances.items(): note.figure(f"logits of {o.device} in {name} from the CPU's in fp32", v)

def run(o, note):
    machine(o, note)
    tests(o, note)
    decoding(o, note)
    checks(o, note)
    logits(o, note)
