"""Documents: links lead somewhere, prose is plain, examples run, and numbers come from the files of results."""
import ast,importlib.util,json,re,statistics
from pathlib import Path

import pytest

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

@pytest.mark.parametrize('file', NOTEBOOKS, ids=place)
def test_outputs_name_no_folder_of_a_machine(file):
    "Tables of images would, as their paths are absolute; temporary folders are everywhere"
    outputs = [o for c in json.loads(file.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', [])]
    for o in outputs: o.get('data', {}).pop('image/png', None)
    assert not re.search(r'/(root|home|Users)/\S*', json.dumps(outputs))

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

def tool(name):
    "A script of `tools/`, imported"
    spec = importlib.util.spec_from_file_location(name, ROOT/f'tools/{name}.py')
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module

# How the documents read

@pytest.fixture(scope='module')
def prose_tool(): return tool('prose')

def test_the_documents_avoid_the_turns_that_contributing_lists(prose_tool):
    found = [(o.relative_to(ROOT).as_posix(),*place) for o in prose_tool.written() for place in prose_tool.places(o)]
    assert len(prose_tool.written())>100 and not found

def test_each_turn_is_listed_in_contributing(prose_tool):
    table = (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8').split('| not | but |')[1].split('\n\n')[0]
    rows = [o.split('|')[1:3] for o in table.splitlines()[2:]]
    turns,instead = ['\n'.join(o) for o in zip(*rows)]
    for pattern in prose_tool.AVOIDED:
        assert re.search(pattern, turns), f'{pattern} is not in the list of CONTRIBUTING.md'
        assert not re.search(pattern, instead)

def test_a_turn_is_found_wherever_it_stands(prose_tool, tmp_path):
    texts = {
        'a.md': 'Fine.\n\n| here | it is no\nvalid | table |',
        'b.py': 'def f():\n    "Made anew"\n    raise ValueError(f"{1} is " "no number")\nanew = 1\n# in\n# vain',
        'c.ipynb': json.dumps(dict(cells=[
            dict(cell_type='markdown', source=['Learnt by heart']), dict(cell_type='code', source=['f() # at will'])]))}
    found = []
    for name,text in texts.items():
        (tmp_path/name).write_text(text)
        found += [turn for turn,_ in prose_tool.places(tmp_path/name)]
    assert sorted(found)==['anew','at will','by heart','in vain','is no number','is no valid']
    (tmp_path/'d.ipynb').write_text('')
    with pytest.raises(SystemExit, match="d.ipynb isn't a notebook"): prose_tool.prose(tmp_path/'d.ipynb')
    with pytest.raises(SystemExit, match='nowhere: no document'): prose_tool.chosen([str(tmp_path/'nowhere')])

def test_sentences_are_short(prose_tool):
    said = prose_tool.measured(prose_tool.written())
    assert len(said)>1000
    assert statistics.median(len(o.split()) for o in said)<=prose_tool.MEDIAN
    assert 100*statistics.fmean(map(prose_tool.says_that, said))<=prose_tool.THAT
    assert len((ROOT/'README.md').read_text(encoding='utf-8').split())<=prose_tool.README_WORDS

def test_sentences_of_markdown(prose_tool):
    text = '# Not this\n\nOne [link](a.md). Two `x.y. Z`\nlines!\n\n| no | no |\n- three here\n```py\nNo. No.\n```'
    assert prose_tool.sentences(text)==['One link.', 'Two CODE lines!', 'three here']

# Examples

FLAG = re.compile(r'^#\|\s*(\w+)', re.M)
CALLED_BY_FASTAI = {'do_item','create_batches'}
NOT_SHOWN = {'exporti','slow','cuda','eval'} # cells that tests don't run, or that hold the library

def tree(source):
    "A cell as Python, without magics"
    return ast.parse(re.sub(r'^\s*[%!].*', 'pass', source, flags=re.M))

def used(source):
    "Names that a cell uses: neither imports nor comments"
    nodes = list(ast.walk(tree(source)))
    return {o.id for o in nodes if isinstance(o, ast.Name)} | {o.attr for o in nodes if isinstance(o, ast.Attribute)}

def public(source):
    "Names of the functions and classes that an exported cell defines"
    names = [o.name for o in tree(source).body if isinstance(o, (ast.FunctionDef,ast.ClassDef))]
    return [o for o in names if not o.startswith('_') and o not in CALLED_BY_FASTAI]

@pytest.mark.parametrize('file', EXPORTING, ids=place)
def test_each_public_object_is_used_in_a_cell_that_runs(file):
    cells = json.loads(file.read_text(encoding='utf-8'))['cells']
    code = [''.join(o['source']) for o in cells if o['cell_type']=='code']
    exported = [o for o in code if 'export' in FLAG.findall(o)]
    shown = [o for o in code if o not in exported and not NOT_SHOWN & set(FLAG.findall(o))]
    in_use = set().union(*map(used, shown))
    names = [name for o in exported for name in public(o)]
    assert [o for o in names if o not in in_use]==[]

@pytest.mark.parametrize('file', NOTEBOOKS, ids=place)
def test_outputs_hold_no_warning(file):
    cells = json.loads(file.read_text(encoding='utf-8'))['cells']
    outputs = [o for c in cells for o in c.get('outputs', [])]
    assert [o for o in outputs if 'Warning: ' in ''.join(o.get('text', ''))]==[]

# Results

@pytest.fixture(scope='module')
def make_figures(): return tool('make_figures')

def test_documents_have_the_numbers_of_the_files(make_figures):
    cell, = [
        ''.join(c['source']) for c in json.loads(make_figures.INDEX.read_text(encoding='utf-8'))['cells']
        if make_figures.BEGIN in ''.join(c['source'])]
    made = f'{make_figures.six()}\n\n{make_figures.notes()}'
    assert make_figures.put(cell, made)==cell, 'benchmarks/results/ has changed: make readme'
    assert made in (ROOT/'README.md').read_text(encoding='utf-8')
    assert len(make_figures.six().splitlines())==2+6
    everything = f'{make_figures.machine()}\n\n{make_figures.table()}'
    assert everything in make_figures.ALL.read_text(encoding='utf-8')
    guide = make_figures.GUIDE.read_text(encoding='utf-8')
    assert make_figures.put(guide, make_figures.choices())==guide

def test_a_number_that_changes_changes_the_table(make_figures, tmp_path, monkeypatch):
    before = make_figures.table()
    six = make_figures.six()
    monkeypatch.setattr(make_figures, 'RESULTS', tmp_path)
    assert '**' in six and '×' in six and not re.search(r'\*\*|×', make_figures.six())
    assert make_figures.six().count('not measured')>=6
    assert '**' in before and '**' not in make_figures.table() # no accuracy without its file
    assert make_figures.table().count('not measured')==1+len(make_figures.GOALS)
    old = json.loads((ROOT/'benchmarks/results/step.json').read_text())
    old['numbers']['ratios']['fastai']['speed']['median'] = 123.4
    (tmp_path/'step.json').write_text(json.dumps(old))
    assert '123.4 times as fast' in make_figures.table() and '| 123.4× |' in make_figures.six()
    assert 'Nothing was measured on a GPU' in make_figures.notes()
    assert 'without a GPU' in make_figures.machine() and 'anything on a GPU' in make_figures.table()
    (tmp_path/'step.json').write_text(json.dumps(old | dict(machine=dict(cores=16, cpu='Xeon', gpu='H200'))))
    assert 'on 16 cores of Xeon, H200, shared' in make_figures.machine()
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
    assert 'on 16 cores of Xeon, H100, shared' in make_figures.machine()
    assert 'anything on a GPU' not in make_figures.table()
