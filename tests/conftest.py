"""What the tests share."""
import contextlib,gc,io,os,shutil,sys,tempfile
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ.setdefault('MPLBACKEND', 'Agg')
# Hypothesis does not write into the repository, and threads of several processes do not spin against each other
os.environ.setdefault('HYPOTHESIS_STORAGE_DIRECTORY', str(Path(tempfile.gettempdir())/'advtrain_hypothesis'))
if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1')

LONGEST = 'many index distributed page run search extras gradcam kill pipeline'.split()

def pytest_addoption(parser):
    parser.addoption('--device', default='cuda', choices=('cuda','cpu'),
        help="where tests marked `cuda` run: 'cpu' rehearses them")

def pytest_configure(config): config.addinivalue_line('markers', 'cuda: needs a GPU, or --device cpu')

def pytest_collection_modifyitems(items):
    "Files that take long begin first, so that at the end no process waits for another one with its last file"
    def _place(item):
        name = item.path.stem.removeprefix('test_')
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)
    items.sort(key=_place)

def pytest_collection_finish():
    "Garbage collection does not look through what was imported, which takes a tenth of the tests' time"
    gc.freeze()

@pytest.fixture(autouse=True)
def same_draws():
    "PyTorch draws the same numbers in each run of a test"
    if 'torch' in sys.modules: sys.modules['torch'].manual_seed(0)

@pytest.fixture
def home(tmp_path, monkeypatch):
    "A separate fastai data directory"
    home = tmp_path/'home'
    home.mkdir()
    monkeypatch.setattr('advtrain.files.make_once.fastai_cfg', lambda: SimpleNamespace(path=lambda name: home))
    return home

@pytest.fixture(scope='module')
def device(request):
    "The GPU; with --device cpu, a CPU that takes the paths of one"
    import torch
    kind = request.config.getoption('--device')
    if kind=='cuda' and not torch.cuda.is_available(): pytest.skip('there is no GPU')
    with pytest.MonkeyPatch.context() as m:
        if kind=='cpu':
            m.setattr('advtrain.devices.GPUS', ('cpu',))
            m.setattr('torch.Tensor.pin_memory', lambda t: t)
            m.setattr('torch.cuda.synchronize', lambda *args: None)
            m.setattr('torch.cuda.mem_get_info', lambda *args: (10**12,10**12))
        yield torch.device(kind, torch.cuda.current_device()) if kind=='cuda' else torch.device(kind)

@pytest.fixture(scope='session')
def sample():
    "The embedded sample"
    from advtrain.data.sources import fashion_sample
    return fashion_sample()

@pytest.fixture(scope='session')
def few():
    "Three classes of the sample with 50 images each, and 5 for the test"
    from advtrain.data.sources import fashion_sample
    return fashion_sample(few=True)

def tiny(**changes):
    "A small experiment, which no preset changes"
    from advtrain.runs.experiment import Experiment
    small = dict(width=4, size=16, augs='flip_cutout', hole=4, epochs=2, bs=50, lr=.02, n_images=6,
        layers=['layer2','layer4'])
    return Experiment(**dict(name='tiny') | small | changes)

def quiet_run(exp, data, out):
    "Run an experiment without its lines, unless it has been run"
    from advtrain.launch.runner import run_experiment
    with contextlib.redirect_stdout(io.StringIO()): return run_experiment(exp, data, out, resume=True)

@pytest.fixture(scope='session')
def shared_folder(tmp_path_factory):
    "A folder for all processes of pytest"
    root = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ: root = root.parent
    (folder := root/'shared').mkdir(exist_ok=True)
    return folder

@pytest.fixture(scope='session')
def some(sample, shared_folder):
    "The ten classes of the sample with 60 images each, and 20 for the test"
    from filelock import FileLock
    root = shared_folder/'some'
    with FileLock(f'{root}.lock'):
        for folder in [] if root.exists() else sorted(sample.glob('t*/*/')):
            (to := root/folder.parent.name/folder.name).mkdir(parents=True)
            for f in sorted(folder.iterdir())[:60 if folder.parent.name=='train' else 20]: shutil.copy2(f, to)
    return root

@contextlib.contextmanager
def little_drawn():
    "Runs draw one picture, for tests that look at none"
    from advtrain.runs.run_figures import DRAW
    before = dict(DRAW)
    for o in before.keys()-{'curves'}: del DRAW[o]
    try: yield
    finally:
        DRAW.clear()
        DRAW.update(before)

@pytest.fixture(scope='session')
def shared(shared_folder):
    "Run an experiment once for all processes of pytest, which read back what the first one made"
    from filelock import FileLock
    def run(exp, data, name, drawn=True):
        with FileLock(shared_folder/f'{name}.lock'), contextlib.nullcontext() if drawn else little_drawn():
            return quiet_run(exp, data, shared_folder/name)
    return run

@pytest.fixture(scope='session')
def tiny_run(some, shared):
    "A small finished run"
    return shared(tiny(), some, 'tiny')

@pytest.fixture(scope='session')
def report_page(tiny_run): return tiny_run.folder/'report.html'

@pytest.fixture(scope='session')
def compared_runs(tiny_run, some, shared):
    "Folders of three runs that differ in their norm"
    others = [
        shared(tiny(name=f'tiny, {norm}', norm=norm, bs=30), some, norm, drawn=False) for norm in ('batch','group')]
    return [o.folder for o in (tiny_run, *others)]

@pytest.fixture(scope='session')
def comparison_page(compared_runs, tmp_path_factory):
    from advtrain.pages.comparison import write_comparison
    return write_comparison(compared_runs, tmp_path_factory.mktemp('comparison')/'comparison.html')

@pytest.fixture(scope='session')
def hostile_names():
    "Class names that a page must show as they are"
    return ["<script>document.title='owned'<script>", '"quoted" & \'single\' &amp;', '日本語のクラス', 'صنف عربي',
        'x'*200, r'$\frac$ {{ 7*7 }} `code`', '👟 shoe\\back']

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
    layers = ['layer1','layer2','layer3','layer4']
    exp = tiny(name='<img src=x onerror=alert(1)> "q" 実験', bs=12, epochs=1, n_images=3, layers=layers)
    return quiet_run(exp, root, tmp_path_factory.mktemp('odd runs')/'a <b> "run"').folder/'report.html'

@pytest.fixture
def shell(capsys):
    "Call `advtrain_run` with the words of a command line; gives exit code, output lines and error lines"
    # pytest shows what its packages warn of when they are imported, which a shell does not
    import advtrain.all # noqa: F401 - for those warnings
    from advtrain.cli.commands import advtrain_run
    def call(*words):
        try: code = advtrain_run([str(o) for o in words])
        except SystemExit as e: code = e.code
        out,err = capsys.readouterr()
        return code,out.splitlines(),err.splitlines()
    return call

CHROMIUM = os.environ.get('ADVTRAIN_CHROMIUM', '/usr/bin/chromium')
AXE = Path(__file__).parents[1]/'.browser/node_modules/axe-core/axe.min.js'

def missing(reason):
    "Skip, or fail where tests in a browser are asked for"
    (pytest.fail if os.environ.get('ADVTRAIN_BROWSER_TESTS') else pytest.skip)(reason)

@pytest.fixture(scope='session')
def browser(tmp_path_factory):
    try: from playwright.sync_api import sync_playwright
    except ImportError: missing('Playwright is not installed')
    if not Path(CHROMIUM).exists(): missing(f'no browser at {CHROMIUM}')
    args = ['--no-sandbox','--no-first-run'] + [
        f'--disable-{o}' for o in ('gpu','background-networking','component-update','sync')]
    env = os.environ | dict(HOME=str(tmp_path_factory.mktemp('chromium')))
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=args, env=env, timeout=300_000)
        yield browser
        browser.close()

class Tabs:
    "Open pages, which tests take and leave to each other"
    def __init__(self, browser): self.browser,self.free,self.faults = browser,defaultdict(list),[]

    def new(self, **kwargs):
        "A page that notes whatever it complains of or asks the network for"
        page = self.browser.new_context(offline=True, reduced_motion='reduce', **kwargs).new_page()
        page.set_default_timeout(120_000)
        page.on('console', lambda o: self.faults.append(f'{o.type}: {o.text}'))
        page.on('pageerror', lambda o: self.faults.append(str(o)))
        page.on('dialog', lambda o: (self.faults.append(f'dialog: {o.message}'), o.dismiss()))
        page.on('request', lambda o: self._of_request(o.url))
        page.shows = None
        return page

    def _of_request(self, url):
        if not url.startswith(('about:','file:','data:','blob:')): self.faults.append(url)

@pytest.fixture(scope='session')
def tabs(browser): return Tabs(browser)

@pytest.fixture
def open_page(tabs):
    """Open a file as a page. Whatever it complains of or asks the network for fails the test.

    A test that says `look` changes nothing: the next one that looks gets the page as it is."""
    taken = []
    def _open(file, width=1280, ready=None, clock=False, fragment='', color_scheme='light', scripts=True, look=False):
        free = tabs.free[scripts]
        page = free.pop() if free and not clock else tabs.new(java_script_enabled=scripts)
        taken.append((page, scripts, clock))
        page.set_viewport_size(dict(width=width, height=900))
        page.emulate_media(media='screen', color_scheme=color_scheme)
        if clock: # stands still unless a test lets time pass
            page.clock.install(time=0)
            page.clock.pause_at(1000)
        if not look or page.shows!=file:
            page.mouse.move(0, 0)
            page.goto('about:blank') # going to another fragment alone would not load the page
            page.goto(Path(file).as_uri()+fragment)
        if ready: page.wait_for_selector(ready)
        page.shows = file if look else None
        return page
    _open.faults = tabs.faults
    tabs.faults.clear()
    yield _open
    for page,scripts,clock in taken:
        if clock: page.context.close()
        else: tabs.free[scripts].append(page)
    assert not tabs.faults

def axe_faults(page):
    "What axe-core finds that is serious, everything unfolded"
    if not AXE.is_file(): missing('no axe-core: npm install --no-save --prefix .browser axe-core@4')
    page.evaluate("document.querySelectorAll('details').forEach(o => o.open = true)")
    if page.evaluate('typeof axe')=='undefined': page.evaluate(AXE.read_text(encoding='utf-8'))
    found = page.evaluate("axe.run({resultTypes: ['violations', 'incomplete']})")
    assert len(found['passes'])>20
    serious = [o for o in found['violations'] if o['impact'] in ('serious','critical')]
    return [(o['id'], [n['html'] for n in o['nodes']]) for o in serious]

def scroll_width(page): return page.evaluate('document.documentElement.scrollWidth')
