"""Runs of many classes and images: a page stays small and usable, and says what it left out."""
import json,re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import axe_faults,scroll_width

N,C = 4000,120
CARD = '#cards > li'
MOST = 4_850_000

def made_up(n, classes, seed=0, path='test/train-{:05d}.parquet#{}'):
    "Predictions that no network made, with images that no file has"
    from advtrain.look.interpret import ImageInterpretation
    from advtrain.look.saved_paths import SavedPaths
    class MadeUp(ImageInterpretation):
        size = 16
        def pixels(self, rows, x=None):
            idxs = np.asarray(rows)
            return np.random.default_rng(int(idxs[0])).random((len(idxs),self.size,self.size,3), dtype=np.float32)
        def gradcam(self, rows, layers=('layer4',), targets='predicted', raw=False):
            return torch.rand(len(layers), len(rows), self.size, self.size)
    rng = torch.Generator().manual_seed(seed)
    c = len(classes)
    targs = torch.arange(n)%c
    logits = torch.randn(n, c, generator=rng)
    logits[torch.arange(n),targs] += 1 + 4*torch.rand(n, generator=rng)
    logits[torch.arange(n),(targs//2*2+1).clamp(max=c-1)] += 2 # pairs of classes are confused
    interp = MadeUp.__new__(MadeUp)
    interp._learn,interp._dl,interp.vocab,interp.weights = None,None,classes,'0'*16
    interp.items = interp.files = SavedPaths(Path('/made up'), [path.format(i//500, i%500) for i in range(n)])
    interp._know(logits, targs, torch.nn.functional.cross_entropy(logits, targs, reduction='none'))
    return interp

def as_run(tiny_run, interp, name='many', layers=('layer4',), size=16):
    "A finished run, but with other predictions"
    from advtrain.runs.run import Run
    run = Run(tiny_run.folder, interpretation=interp)
    type(interp).size = size
    run.experiment = tiny_run.experiment.replace(name=name, size=size, life=False, film=0) # whose images are made up
    n = int((interp.predicted==interp.targs).sum())
    images = len(interp.table)
    run.metrics = tiny_run.metrics | dict(test_correct=n, test_images=images, test_accuracy=n/images)
    run.predictions = interp.table.assign(path=interp.table.path.str.removeprefix('/made up/'))
    run.layers = list(layers)
    return run

ANIMALS = 'bird fish moth leaf crab seal wolf toad worm wasp'.split()
NAMES = [f'{a}{b} {i}' for i in range(4) for a in ('gold','silver','Iron') for b in ANIMALS]

@pytest.fixture(scope='module')
def interp(): return made_up(N, sorted(NAMES))

@pytest.fixture(scope='module')
def many_page(tiny_run, interp, tmp_path_factory):
    from advtrain.pages.report import _page
    file = tmp_path_factory.mktemp('many')/'report.html'
    file.write_text(_page(as_run(tiny_run, interp)), encoding='utf-8')
    return file

@pytest.fixture(scope='module')
def many_comparison(tiny_run, interp, tmp_path_factory):
    from advtrain.pages.comparison import write_comparison
    runs = [as_run(tiny_run, o, name) for name,o in (('one',interp), ('two',made_up(N, interp.vocab, 1)))]
    from advtrain.runs.compare import Comparison
    return write_comparison(Comparison(runs), tmp_path_factory.mktemp('many')/'comparison.html')

@pytest.fixture
def visit(open_page): return partial(open_page, ready='#tools:visible')

@pytest.fixture
def page(visit, many_page):
    page = visit(many_page)
    page.locator('#matrix-picture').scroll_into_view_if_needed()
    return page

def control(page, name): return page.locator(f'#tools [name="{name}"]')
def status(page): return page.locator('#status').inner_text()
def gallery_of(page): return json.loads(page.locator('#gallery-data').text_content())

def shown(page):
    "The pairs of actual and predicted class of all cards"
    page.evaluate("() => { const more = document.getElementById('more'); while (!more.hidden) more.click() }")
    pairs = page.evaluate('found.map(i => [data.actual[i], data.predictions[0].predicted[i]])')
    assert page.locator(CARD).count()==len(pairs)
    return {tuple(o) for o in pairs}

# The page as a whole

@pytest.mark.parametrize('scheme,width', [('light',1280),('dark',1280),('light',375),('dark',375)])
@pytest.mark.parametrize('name', ['many_page','many_comparison'])
def test_axe_finds_nothing_serious(visit, request, name, scheme, width):
    page = visit(request.getfixturevalue(name), look=True, width=width, color_scheme=scheme)
    assert not axe_faults(page)
    assert scroll_width(page)<=width

def test_tab_reaches_picture_and_pairs(page):
    "The pairs are one Tab stop, and the arrow keys move between them"
    for selector in ('#matrix [data-zoom]','#matrix-picture','#pairs button[tabindex="0"]'):
        page.locator(selector).first.focus()
        assert page.locator(selector).first.evaluate('o => o === document.activeElement && o.checkVisibility()')
    assert page.locator('#pairs button[tabindex="0"]').count()==1
    first = page.evaluate('document.activeElement.textContent')
    page.keyboard.press('ArrowDown')
    assert page.evaluate('document.activeElement.textContent')!=first
    assert page.evaluate('document.activeElement.tabIndex')==0

# The picture of the confusion matrix

def cell_words(page): return page.locator('#matrix-cell').text_content()

def test_the_picture_has_every_count(page, interp):
    counts = np.zeros((C,C), int)
    cells = page.evaluate('matrix.counts.flatMap((row, i) => [...row].map(([j, n]) => [i, j, n]))')
    for row,column,n in cells: counts[row,column] = n
    assert np.array_equal(counts, interp.confusion_matrix())

def test_a_cell_says_its_classes_and_count(page, interp):
    "Under the pointer and under the cursor"
    cm = interp.confusion_matrix()
    picture = page.locator('#matrix-picture')
    for row,column in ((0,0),(6,7),(119,118)):
        x,y = page.evaluate(f'[matrix.left({column}+.5), matrix.top({row}+.5)]')
        page.evaluate(f'matrix.say({{row: {row}, column: {column}}})')
        words = cell_words(page)
        n = cm[row,column]
        number = f'{n} image' if n else 'no image'
        how = 'right' if row==column else f'as {interp.vocab[column]}'
        assert words.startswith(f'{interp.vocab[row]}, predicted {how}: {number}')
        if n: picture.hover(position=dict(x=x, y=y))
        if n: assert cell_words(page)==words
    picture.focus()
    for key,cell in (('Home',(0,0)), ('End',(0,C-1)), ('ArrowDown',(1,C-1)), ('ArrowLeft',(1,C-2))):
        page.keyboard.press(key)
        assert page.evaluate('[matrix.cursor.row, matrix.cursor.column]')==list(cell)
        assert cell_words(page).startswith(interp.vocab[cell[0]])
    page.keyboard.press('Home')
    page.keyboard.press('Shift+ArrowRight') # to the next cell that has images
    row,column = page.evaluate('[matrix.cursor.row, matrix.cursor.column]')
    assert row==1 and column==np.flatnonzero(cm[1,1:])[0]+1

def test_zoom_with_buttons_keys_and_wheel(page):
    def zoom(): return page.evaluate('matrix.zoom')
    assert zoom()==1
    page.get_by_role('button', name='Zoom in').click()
    assert zoom()==1.5
    picture = page.locator('#matrix-picture')
    picture.hover()
    page.mouse.wheel(0, -300) # before a click, the page scrolls
    page.wait_for_timeout(100)
    assert zoom()==1.5
    picture.focus()
    page.keyboard.press('+')
    assert zoom()==2.25
    picture.hover()
    page.mouse.wheel(0, -300)
    page.evaluate('new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))')
    assert zoom()>2.3
    page.keyboard.press('-')
    page.get_by_role('button', name='Whole matrix').click()
    assert zoom()==1 and page.evaluate('[matrix.x, matrix.y]')==[0,0]

def test_the_view_moves_with_pointer_and_cursor(page):
    picture = page.locator('#matrix-picture')
    page.evaluate('matrix.look(4, 40, 40)')
    box = picture.bounding_box()
    x,y = box['x']+300,box['y']+300
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x-100, y-50, steps=4)
    page.mouse.up()
    moved = page.evaluate('[matrix.x, matrix.y]')
    assert moved[0]>40 and moved[1]>40 and moved[0]>moved[1]
    assert page.locator('#matrix-picture').evaluate('o => document.activeElement.id')!='gallery-title' # no click
    picture.focus()
    page.keyboard.press('End')
    assert page.evaluate('matrix.x + matrix.n / matrix.zoom')==C

@pytest.mark.parametrize('how', ['click','Enter'])
def test_a_cell_shows_its_images(page, interp, how):
    a,p,n = next(o for o in interp.most_confused())
    row,column = (interp.vocab.index(o) for o in (a,p))
    if how=='click': page.locator('#matrix-picture').click(
        position=dict(zip('xy', page.evaluate(f'[matrix.left({column}+.5), matrix.top({row}+.5)]'))))
    else:
        page.locator('#matrix-picture').focus()
        page.evaluate(f'matrix.goTo({{row: {row}, column: {column}}})')
        page.keyboard.press('Enter')
    assert page.evaluate('document.activeElement.id')=='gallery-title'
    assert (control(page, 'actual').input_value(),control(page, 'predicted').input_value())==(a,p)
    assert shown(page)=={(row,column)} and status(page).startswith(f'{n} of {N:,} images')
    assert page.evaluate('[matrix.chosen.row, matrix.chosen.column]')==[row,column]
    assert page.locator('#pairs [aria-pressed=true]').text_content()==f'{a} → {p}'

def test_pairs_are_the_most_confused(page, interp):
    wanted = interp.most_confused()
    rows = page.locator('#pairs tbody tr')
    assert rows.count()==100<len(wanted)
    assert f'The 100 most confused of {len(wanted):,} pairs' in page.locator('#pairs caption').text_content()
    for row,(a,p,n) in zip(rows.all()[:5], wanted):
        assert row.locator('td').all_text_contents()[:2]==[f'{a} → {p}',str(n)]
    rows.first.locator('button').click()
    assert shown(page)=={tuple(interp.vocab.index(o) for o in wanted[0][:2])}

def test_a_picture_draws_right_and_wrong_in_colour(page, interp):
    "A pixel inside a cell is green on the diagonal, red elsewhere, grey without images"
    cm = interp.confusion_matrix()
    wrong = np.argwhere(cm*(1-np.eye(C, dtype=int))>2)[0].tolist()
    none = np.argwhere(cm==0)[0].tolist()
    def colour(row, column):
        page.evaluate(f'matrix.look(matrix.most, {column}-1, {row}-1)')
        x,y = page.evaluate(f'[matrix.left({column}+.5), matrix.top({row}+.5)]')
        page.evaluate('document.activeElement.blur()')
        return page.locator('#matrix-picture').evaluate(
            'o => { const dot = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});'
            f'dot.drawImage(o, -Math.round({x}*devicePixelRatio), -Math.round({y}*devicePixelRatio));'
            'return [...dot.getImageData(0, 0, 1, 1).data] }')
    red,green,grey = colour(*wrong),colour(5, 5),colour(*none)
    assert red[0]>red[1]+30 and green[1]>green[0]+30 and max(grey[:3])-min(grey[:3])<6

# Classes chosen by typing

@pytest.mark.parametrize('name', ['many_page','many_comparison'])
def test_a_class_is_chosen_by_typing(visit, request, name):
    page = visit(request.getfixturevalue(name))
    if name=='many_page': page.locator('#kinds label:has(input[value=all])').click()
    classes = gallery_of(page)['classes']
    field = control(page, 'actual')
    def actual(text):
        field.fill(text)
        return {classes[a] for a,_ in shown(page)}
    everything = page.evaluate('found.length')
    all_classes = {classes[a] for a,_ in shown(page)}
    assert actual('goldbird 2')=={'goldbird 2'}
    assert actual('  GOLDBIRD 2 ')=={'goldbird 2'}
    assert actual('iron')==set() and 'is the beginning of 40 classes' in status(page)
    assert field.get_attribute('aria-invalid')=='true'
    assert page.locator('#class-names option').count()==40
    assert actual('nothing')==set() and 'No class begins with “nothing”' in status(page)
    assert page.locator(CARD).count()==0
    assert actual('')==all_classes and page.evaluate('found.length')==everything
    assert field.get_attribute('aria-invalid')=='false'
    control(page, 'predicted').fill('silverwolf 1')
    some = page.evaluate('found.map(i => data.classes[data.predictions[state.b].predicted[i]])')
    assert set(some)=={'silverwolf 1'}
    page.locator('#tools [type=reset]').click()
    page.evaluate('new Promise(done => setTimeout(done, 50))') # the page updates after the reset
    assert page.evaluate('found.length')>len(some)
    assert control(page, 'predicted').input_value()==''

def test_a_unique_beginning_is_enough(tiny_run, visit, tmp_path):
    from advtrain.pages.report import _page
    names = [f'class {i:03d}' for i in range(35)]+['zebra','zebra crossing','Änderung']
    (file := tmp_path/'page.html').write_text(_page(as_run(tiny_run, made_up(400, names))), encoding='utf-8')
    page = visit(file)
    page.locator('#kinds label:has(input[value=all])').click()
    for text,name in (('zebra c','zebra crossing'), ('zebra','zebra'), ('än','Änderung')):
        control(page, 'actual').fill(text)
        assert {a for a,_ in shown(page)}=={names.index(name)}, text

# What fits, and what doesn't

def left_out(g): return [int(o.replace(',', '')) for o in re.findall(r'[\d,]+', g['unlisted'])]

@pytest.mark.parametrize('n,n_classes,length,size', [
    (12_000,1000,30,16), (12_000,300,230,16), (9000,1000,20,160), (3000,2500,200,16)])
def test_a_page_stays_small_and_says_what_is_missing(tiny_run, n, n_classes, length, size):
    "Whatever the number of classes and the length of names and paths"
    from advtrain.pages.report import _page
    names = [f'{i:05d} <&> '.ljust(length//2, '&') for i in range(n_classes)]
    interp = made_up(n, names, path='{:05d}/' + 'é'*length + '{}.png')
    text = _page(as_run(tiny_run, interp, size=size))
    assert len(text.encode())<=MOST
    g = json.loads(re.search('id="gallery-data">(.*?)</script>', text, re.S)[1])
    wrong = (interp.predicted!=interp.targs).numpy()
    listed = {o: i for i,o in enumerate(interp.table.path.str.removeprefix('/made up/'))}
    on_page = np.array([listed[o] for o in g['file']])
    assert len(set(on_page))==len(on_page)>400
    assert g['cut']==(len(on_page)<n)
    missing = [(o.sum()-o[on_page].sum()) for o in (wrong,~wrong)]
    assert left_out(g)==[o for o in missing if o]
    assert (np.diff(wrong[on_page].astype(int))<=0).all() # mistakes first
    losses = interp.losses.numpy()[on_page]
    assert (np.diff(losses[wrong[on_page]])<=0).all() and (np.diff(losses[~wrong[on_page]])>=0).all()
    if size>64: assert 64<=g['images']['side']<=160 and g['images']['n']>=500 and g['maps']['side']==64

def test_every_confused_pair_and_class_is_there(tiny_run):
    "Of 20,000 images, the page has the worst mistakes, all classes with mistakes, and the pairs of its list"
    from advtrain.pages.report import report_gallery
    interp = made_up(20_000, [str(i) for i in range(200)])
    g = report_gallery(as_run(tiny_run, interp), 3_000_000)
    actual,predicted = np.array(g['actual']),np.array(g['predictions'][0]['predicted'])
    wrong = (interp.predicted!=interp.targs).numpy()
    assert g['cut'] and set(interp.targs.numpy()[wrong])==set(actual[actual!=predicted])
    for a,p,n in interp.most_confused()[:100]: assert ((actual==int(a))&(predicted==int(p))).sum()>=min(n, 3)
    worst = interp.misclassified(100).path.str.removeprefix('/made up/')
    nearly = interp.correct().path.str.removeprefix('/made up/')[-50:]
    assert set(worst)|set(nearly)<=set(g['file'])

def test_a_cell_says_how_many_of_its_images_are_missing(tiny_run, visit, tmp_path):
    from advtrain.pages.report import _page
    interp = made_up(15_000, [f'class {i}' for i in range(40)])
    (file := tmp_path/'page.html').write_text(_page(as_run(tiny_run, interp)), encoding='utf-8')
    page = visit(file)
    assert 'Not on this page:' in status(page) and page.locator('#chosen').is_visible()
    page.evaluate('showPairOf(3, 3)')
    n = int(interp.confusion_matrix()[3,3])
    on_page = page.evaluate('found.length')
    assert on_page<n and f'{n-on_page} images of these two classes aren\'t on this page' in status(page)

# Large tiles

def test_large_tiles_are_sharp_and_fit(tiny_run, visit, tmp_path):
    from advtrain.pages.report import _page
    interp = made_up(60, ['a','b'])
    (file := tmp_path/'page.html').write_text(_page(as_run(tiny_run, interp, size=224)), encoding='utf-8')
    assert file.stat().st_size<=MOST
    page = visit(file)
    g = gallery_of(page)
    assert g['images']['side']==224 and g['maps']['side']==64 and g['images']['n']==60
    control(page, 'size').fill('224')
    assert page.locator('.stack').first.bounding_box()['width']==224
    tile = page.locator('.picture').first
    assert tile.evaluate('o => [o.width, getComputedStyle(o).imageRendering]')==[224,'auto']

# Data that aren't a list of paths

class Places:
    def __init__(self, select): self.select = select
    def __getitem__(self, i): return self.select(np.asarray(i).tolist())

class Images:
    "What `ImageList` offers: a sequence of paths that knows their texts"
    def __init__(self, paths): self.paths = list(paths)
    def __len__(self): return len(self.paths)
    def __getitem__(self, i): return Images(self.paths[i]) if isinstance(i, slice) else Path(self.paths[i])
    def texts(self): return list(map(str, self.paths))
    def find(self, path): return self.paths.index(Path(path)) if Path(path) in self.paths else None
    @property
    def iloc(self):
        def _select(i): return Images(self.paths[k] for k in i) if np.ndim(i) else Path(self.paths[i])
        return Places(_select)

def test_an_image_list_is_not_a_table(sample):
    from advtrain.look.predict import item_files,select_items
    images = Images(sorted((sample/'test').rglob('*.png'))[:5])
    assert item_files(images, None) is images
    assert select_items(images, [3,1]).texts()==[images.texts()[i] for i in (3,1)]

def test_rows_of_a_file_are_saved_and_found_again(tiny_run, tmp_path, monkeypatch):
    "Paths are relative to the folder of the only file; also as a tensor"
    from advtrain.launch.results import predictions_csv
    from advtrain.look import saved_paths
    from advtrain.look.interpret import ImageInterpretation
    from fastai.learner import Learner
    (table := tmp_path/'x.parquet').touch()
    interp = made_up(50, ['a','b'], path=f'{tmp_path}/x.parquet#{{}}{{}}')
    interp._learn = Learner.__new__(Learner)
    interp._learn.dls = SimpleNamespace(source=table)
    for most in (100,10):
        monkeypatch.setattr(saved_paths, '_MOST_LISTED', most)
        interp.save(tmp_path/'kept.safetensors')
        again = ImageInterpretation.load(tmp_path/'kept.safetensors', lambda: None, root=table)
        assert again.table.equals(interp.table) and torch.equal(again.logits, interp.logits)
        assert again.items[7]==interp.items[7]
    assert predictions_csv(interp, table).splitlines()[3].split(',')[1]=='"x.parquet#02"'
