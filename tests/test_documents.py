"""Documents: links lead somewhere, and the README's numbers are those of the files beside them."""
import ast,importlib.util,json,re
from pathlib import Path

import pytest

from advtrain.runs.presets import EXPERIMENTS
from advtrain.runs.experiment import Experiment

ROOT = Path(__file__).parents[1]
TEXTS = [*ROOT.glob('*.md'), *ROOT.glob('nbs/docs/*.md'), ROOT/'benchmarks/README.md']
NOTEBOOKS = sorted(o for o in ROOT.glob('nbs/**/*.ipynb') if '.ipynb_checkpoints' not in o.parts)

def prose(file):
    "The Markdown of a text or a notebook, without blocks of code"
    if file.suffix=='.md': text = file.read_text(encoding='utf-8')
    else:
        text = '\n\n'.join(
            ''.join(c['source']) for c in json.loads(file.read_text(encoding='utf-8'))['cells']
            if c['cell_type']=='markdown')
    return re.sub('```.*?```', '', text, flags=re.S)

def anchors(file):
    "Names of headings, as GitHub makes them"
    return [re.sub(r'[^\w\- ]', '', o.lower()).replace(' ', '-') for o in re.findall(r'^#+ (.*)', prose(file), re.M)]

@pytest.mark.parametrize('file', [*TEXTS, *NOTEBOOKS], ids=lambda o: str(o.relative_to(ROOT)))
def test_links_lead_somewhere(file):
    for target in re.findall(r'\]\(([^)\s]+)\)', prose(file)):
        if re.match('https?:', target): continue
        path,_,anchor = target.partition('#')
        there = (file.parent/path).resolve() if path else file
        assert there.exists(), f'{target} does not exist'
        if anchor: assert anchor in anchors(there), f'{there.name} has no heading {anchor}'

def place(file): return file.relative_to(ROOT/'nbs').as_posix()

@pytest.mark.parametrize('file', NOTEBOOKS, ids=place)
def test_another_notebook_is_a_link(file):
    unlinked = re.sub(r'\[[^\]]*\]\([^)]*\)', '', prose(file))
    assert not re.findall('(?:next|previous|last) notebook', unlinked, re.I)

EXPORTING = [o for o in NOTEBOOKS if '#| default_exp' in o.read_text(encoding='utf-8')]

@pytest.mark.parametrize('file', EXPORTING, ids=place)
def test_cells_that_import_hold_nothing_else(file):
    "nbdev runs such a cell alone for the site"
    for cell in json.loads(file.read_text(encoding='utf-8'))['cells']:
        if cell['cell_type']!='code': continue
        source = re.sub(r'^[ ]*[%!].*', '', ''.join(cell['source']), flags=re.M)
        kinds = {isinstance(o, (ast.Import,ast.ImportFrom)) for o in ast.parse(source).body}
        assert kinds!={True,False} or 'nbdev_export()' in source, source

def test_notebooks_are_small():
    large = [o.name for o in NOTEBOOKS if o.stat().st_size>=500_000]
    assert NOTEBOOKS and not large, f'{large}: show less, or python tools/small_pictures.py'

@pytest.fixture(scope='module')
def make_figures():
    spec = importlib.util.spec_from_file_location('make_figures', ROOT/'tools/make_figures.py')
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module

def test_the_readme_has_the_numbers_of_the_files(make_figures):
    cell, = [
        ''.join(c['source']) for c in json.loads(make_figures.INDEX.read_text(encoding='utf-8'))['cells']
        if make_figures.BEGIN in ''.join(c['source'])]
    assert make_figures.measured(cell)==cell, 'benchmarks/results/ has changed: make readme'
    readme = (ROOT/'README.md').read_text(encoding='utf-8')
    lines = [o.replace('](../', '](').replace('](docs/', '](nbs/docs/').replace('](tutorials/', '](nbs/tutorials/')
        for o in [make_figures.machine(), *make_figures.table().splitlines()]]
    assert len(lines)>5 and not [o for o in lines if o not in readme.splitlines()]

@pytest.mark.parametrize('folder', sorted((ROOT/'benchmarks/results/runs').glob('*/')), ids=lambda o: o.name)
def test_a_kept_run_is_what_its_command_does_today(folder):
    assert Experiment.from_toml(folder/'experiment.toml')==EXPERIMENTS[folder.name]

def test_a_number_that_changes_changes_the_table(make_figures, tmp_path, monkeypatch):
    before = make_figures.table()
    monkeypatch.setattr(make_figures, 'RESULTS', tmp_path)
    assert '**' in before and '**' not in make_figures.table() # no accuracy without its file
    assert make_figures.table().count('not measured')==1+len(make_figures.GOALS)
    old = json.loads((ROOT/'benchmarks/results/step.json').read_text())
    old['numbers']['ratios']['fastai']['speed']['median'] = 123.4
    (tmp_path/'step.json').write_text(json.dumps(old))
    assert '123.4 times as fast' in make_figures.table()
    assert 'without a GPU' in make_figures.machine() and 'anything on a GPU' in make_figures.table()
    (tmp_path/'step.json').write_text(json.dumps(old | dict(machine=dict(cores=16, cpu='Xeon', gpu='H200'))))
    assert 'On 16 cores of Xeon, H200, shared' in make_figures.machine()
    assert 'anything on a GPU' not in make_figures.table()
    (tmp_path/'step.json').unlink()
    (tmp_path/'gpu').mkdir()
    about = dict(
        command='python benchmarks/gpu.py',
        versions=dict(torch='2.11.0'),
        machine=dict(cores=16, cpu='Xeon', gpu='H100'))
    (tmp_path/'gpu/step.json').write_text(json.dumps(
        about | dict(figures={'learn.fit / bare loop, batch 128': '0.98 (0.97 to 0.99)'})))
    assert '| on a GPU, learn.fit / bare loop, batch 128 | 0.98 (0.97 to 0.99) | H100 |' in make_figures.table()
    assert 'On 16 cores of Xeon, H100, shared' in make_figures.machine()
    assert 'anything on a GPU' not in make_figures.table()
