"""What the tests share."""
import contextlib,io,os

import pytest

os.environ.setdefault('MPLBACKEND', 'Agg')

@pytest.fixture(scope='session')
def sample():
    "The embedded sample"
    from advtrain.data import fashion_sample
    return fashion_sample()

@pytest.fixture(scope='session')
def tiny_run(sample, tmp_path_factory):
    "The folder of a small finished run with its page"
    from dataclasses import replace
    from advtrain.experiment import EXPERIMENTS,run_experiment
    from advtrain.report import write_report
    exp = replace(EXPERIMENTS['quickstart'], name='tiny', width=8, epochs=2, bs=100, n_images=6)
    with contextlib.redirect_stdout(io.StringIO()): run = run_experiment(exp, sample, tmp_path_factory.mktemp('runs')/'tiny')
    write_report(run.folder)
    return run

@pytest.fixture
def shell(capsys):
    "Call `advtrain_run` with the words of a command line; gives exit code, output lines and error lines"
    from advtrain.cli import advtrain_run
    def call(*words):
        try: code = advtrain_run([str(o) for o in words])
        except SystemExit as e: code = e.code
        out,err = capsys.readouterr()
        return code,out.splitlines(),err.splitlines()
    return call
