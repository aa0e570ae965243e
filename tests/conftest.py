"""What the tests share."""
import contextlib,io,os,shutil

import pytest

os.environ.setdefault('MPLBACKEND', 'Agg')

@pytest.fixture(scope='session')
def sample():
    "The embedded sample"
    from advtrain.data import fashion_sample
    return fashion_sample()

def quiet_run(exp, data, out):
    "Run an experiment without its lines"
    from advtrain.experiment import run_experiment
    with contextlib.redirect_stdout(io.StringIO()): return run_experiment(exp, data, out)

def tiny(**changes):
    "A small experiment"
    from advtrain.choices import EXPERIMENTS
    return EXPERIMENTS['quickstart'].replace(**dict(name='tiny', width=8, epochs=2, bs=100, n_images=6) | changes)

@pytest.fixture(scope='session')
def tiny_run(sample, tmp_path_factory):
    "A small finished run"
    return quiet_run(tiny(), sample, tmp_path_factory.mktemp('runs')/'tiny')

@pytest.fixture(scope='session')
def report_page(tiny_run): return tiny_run.folder/'report.html'

@pytest.fixture(scope='session')
def compared_runs(tiny_run, sample, tmp_path_factory):
    "Folders of three runs that differ in their norm"
    out = tmp_path_factory.mktemp('compared')
    return [tiny_run.folder] + [quiet_run(tiny(name=f'tiny, {norm}', norm=norm, bs=50), sample, out/norm).folder for norm in ('batch','group')]

@pytest.fixture(scope='session')
def comparison_page(compared_runs, tmp_path_factory):
    from advtrain.report import write_comparison
    return write_comparison(compared_runs, tmp_path_factory.mktemp('comparison')/'comparison.html')

@pytest.fixture(scope='session')
def hostile_names():
    "Class names that a page must show as they are"
    return ["<script>document.title='owned'<script>", '"quoted" & \'single\' &amp;', '日本語のクラス', 'صنف عربي', 'x'*200, r'$\frac$ {{ 7*7 }} `code`', '👟 shoe\\back']

@pytest.fixture(scope='session')
def hostile_page(hostile_names, sample, tmp_path_factory):
    "The page of a run whose classes, files, folders and name are odd"
    root = tmp_path_factory.mktemp('odd')/'da ta\'s "x" <b> データ'
    source = sorted(o for o in (sample/'train').iterdir())
    for name,folder in zip(hostile_names, source):
        for i,f in enumerate(sorted(folder.iterdir())[:16]):
            to = root/('train' if i<12 else 'test')/name/f"{i} <script>alert(1)<script> 'é' {'y'*150}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f, to)
    exp = tiny(name='<img src=x onerror=alert(1)> "q" 実験', width=4, bs=12, epochs=1, n_images=3)
    return quiet_run(exp, root, tmp_path_factory.mktemp('odd runs')/'a <b> "run"').folder/'report.html'

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
