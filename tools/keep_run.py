#!/usr/bin/env python3
"""Keep the numbers of a finished run in `benchmarks/results/runs/`: its choices, history, metrics, predictions and
environment.

    python tools/keep_run.py runs/layernorm-40-ws
"""
import argparse,json,shutil
from pathlib import Path

from advtrain.runs.presets import EXPERIMENTS
from advtrain.runs.run import Run

RUNS = Path(__file__).parents[1]/'benchmarks/results/runs'
ABOUT = ('python advtrain fastai torch torchvision albumentations numpy '
    'cpu instructions cores threads gpu device').split()

def command(name, data):
    "The command that repeats a run: its preset, or the choices that are kept"
    what = name if name in EXPERIMENTS else f'benchmarks/results/runs/{name}/experiment.toml'
    return f"advtrain_run {what}{' --data cifar10.tgz' if data.startswith('cifar10') else ''}"

def keep_run(run):
    "Copy the numbers of a run, without images, weights or paths of this machine"
    out = RUNS/run.folder.name
    out.mkdir(parents=True, exist_ok=True)
    for name in ('experiment.toml','history.csv','metrics.json','model.csv'): shutil.copyfile(run.folder/name, out/name)
    run.predictions.drop(columns='path').round(4).to_csv(out/'predictions.csv')
    about = {k: v for k in ABOUT if (v := run.environment.get(k)) is not None} | dict(
        command=command(out.name, run.environment['data']['name']),
        data=run.environment['data']['name'], fingerprint=run.environment['data']['fingerprint'])
    (out/'about.json').write_text(json.dumps(about, indent=2, ensure_ascii=False)+'\n', encoding='utf-8')
    return out

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('runs', nargs='+', help='folders of finished runs')
    for o in p.parse_args().runs:
        run = Run(o)
        if run.problems: raise SystemExit(f'{o} has changed since it finished: {run.problems}')
        print(keep_run(run))

if __name__=='__main__': main()
