"""Claim: the page of a run with 10,000 test predictions is written from its folder in under 30 seconds, is smaller
than 5 MB, and opens in a browser in under 2 seconds.

We train a network for one epoch on a few images of each class. Most of its predictions are wrong, so the page has as
much to show as possible. We measure once what `run_experiment` does after training (test, figures, files, page). Then,
for several rounds, we measure in turn the inference of the test set and `write_report` from the folder, which makes
the learner, reads the images and draws the maps again. The page is opened in headless Chromium without a network,
until its first cards are drawn. Figures are medians; the ratio is the time of the page over the time of the inference.

    python benchmarks/report.py [--data cifar10.tgz] [--train 500] [--width 64] [--rounds 3]
                                [--chromium /usr/bin/chromium]
"""
import argparse,contextlib,io,platform,shutil,statistics,tempfile,time
from pathlib import Path

import torch
from keep import keep,over,with_save
from advtrain.launch import runner
from advtrain.runs.presets import EXPERIMENTS
from advtrain.data.sources import cifar10
from advtrain.data.tables import data_source
from advtrain.launch.runner import run_experiment
from advtrain.pages.report import write_report
from advtrain.runs.run import Run

def some_images(source, out, n):
    "Make a folder of links to all test images and `n` training images of each class"
    for folder in sorted(source.glob('*/*')):
        if not folder.is_dir(): continue
        (out/folder.parent.name/folder.name).mkdir(parents=True)
        files = sorted(folder.iterdir())
        for f in files[:n] if folder.parent.name=='train' else files: (out/f.relative_to(source)).symlink_to(f)
    return out

def timed(f):
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()): res = f()
    return time.perf_counter()-start,res

def open_times(page, chromium, rounds):
    "Measure the seconds until the first cards are drawn"
    from playwright.sync_api import sync_playwright
    seconds = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=(
            '--no-sandbox --disable-gpu --no-first-run '
            '--disable-background-networking --disable-component-update --disable-sync').split())
        for _ in range(rounds):
            tab = browser.new_context(offline=True).new_page()
            start = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector('#cards canvas.map')
            seconds.append(time.perf_counter()-start)
        browser.close()
    return seconds

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', help='folder or archive of CIFAR-10')
    p.add_argument('--train', type=int, default=500, help='training images of each class')
    p.add_argument('--width', type=int, default=64, help='channels of the first stage')
    p.add_argument('--rounds', type=int, default=3, help='number of rounds')
    p.add_argument('--chromium', default='/usr/bin/chromium', help='browser that opens the page')
    args = with_save(p).parse_args()
    print(f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, '
          f'PyTorch {torch.__version__}, {args.rounds} rounds')
    with tempfile.TemporaryDirectory() as tmp:
        data = some_images(data_source(args.data) if args.data else cifar10(), Path(tmp)/'data', args.train)
        train,trained_at = runner.Runner.train,[]
        def _train(runner, *args, **kwargs):
            train(runner, *args, **kwargs)
            trained_at.append(time.perf_counter())
        runner.Runner.train = _train
        _,run = timed(lambda: run_experiment(
            EXPERIMENTS['layernorm-40'].replace(epochs=1, width=args.width), data, Path(tmp)/'run'))
        after = time.perf_counter()-trained_at[0]
        print(f"{run.metrics['test_images']} predictions, "
              f"{run.metrics['test_images']-run.metrics['test_correct']} misclassified, {run.metrics['precision']}")
        learn,infer,write = run.interpretation.learn,[],[]
        for _ in range(args.rounds):
            with learn.no_bar(): infer.append(timed(lambda: learn.interpret('test'))[0])
            seconds,page = timed(lambda: write_report(Run(run.folder)))
            write.append(seconds)
        inference,report = statistics.median(infer),statistics.median(write)
        print(f'inference                              {inference:6.1f} s  ({min(infer):.1f} to {max(infer):.1f})')
        print(f'all of a run after training, beyond it {after-inference:6.1f} s  (once)')
        print(f'write_report from the folder           {report:6.1f} s  '
              f'({min(write):.1f} to {max(write):.1f}), {report/inference:.2f} times the inference')
        opened = open_times(page, args.chromium, args.rounds) if shutil.which(args.chromium) else []
        print(f'page                                   {page.stat().st_size/1e6:6.2f} MB, opens in '
              + (f'{statistics.median(opened):.2f} s ({min(opened):.2f} to {max(opened):.2f})'
                 if opened else f'not measured: no {args.chromium}'))
        m = run.metrics
        keep(args.save, dict(
            predictions=m['test_images'],
            misclassified=m['test_images']-m['test_correct'],
            inference_s=over(infer),
            after_training_beyond_inference_s=after-inference,
            write_report_s=over(write),
            page_MB=page.stat().st_size/1e6,
            opens_s=over(opened) if opened else None))

if __name__=='__main__': main()
