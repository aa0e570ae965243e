"""The pages in a browser: what they show is what the runs have written, for the eye, the keyboard and on paper."""
import base64,csv,io,json,re,shutil
from functools import partial
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from conftest import axe_faults,little_drawn,quiet_run,scroll_width,tiny

PAGES = ['report_page','comparison_page','hostile_page']
CARD = '#cards > li'

@pytest.fixture
def visit(open_page):
    "Open a page with a gallery"
    visit = partial(open_page, ready='#tools:visible')
    visit.faults = open_page.faults
    return visit

@pytest.fixture
def report(visit, report_page): return visit(report_page)

@pytest.fixture
def comparison(visit, comparison_page): return visit(comparison_page)

def read_predictions(folder):
    "The rows of `predictions.csv` with numbers as numbers, by path"
    with open(Path(folder)/'predictions.csv', encoding='utf-8', newline='') as f: rows = list(csv.DictReader(f))
    for row in rows:
        row.update({k: float(row[k]) for k in ('p_actual','p_predicted','loss')}, right=row['actual']==row['predicted'])
    return {row['path']: row for row in rows}

@pytest.fixture
def rows(report_page): return read_predictions(report_page.parent)

@pytest.fixture
def runs(compared_runs): return [read_predictions(o) for o in compared_runs]

def control(page, name): return page.locator(f'#tools [name="{name}"]')
def kind(page, value): page.locator(f'#kinds label:has(input[value="{value}"])').click()
def choose(page, **labels):
    for name,label in labels.items(): control(page, name).select_option(label=label)
def slide(page, name, value): control(page, name).fill(str(value))

def files(page):
    "The file names of all cards, after \"Show more\" to the end"
    page.evaluate("() => { const more = document.getElementById('more'); while (!more.hidden) more.click() }")
    return page.locator(f'{CARD} .file').all_text_contents()

def same_files(page, expected):
    shown = files(page)
    assert len(shown)==len(set(shown)) and set(shown)=={o['path'] for o in expected}

def worst(rows): return max(rows.values(), key=lambda o: (not o['right'], o['loss']))
def gallery_data(page): return json.loads(page.locator('#gallery-data').text_content())
def cell(page, actual, predicted):
    classes = gallery_data(page)['classes']
    return page.locator(
        f'#confusion [data-actual="{classes.index(actual)}"][data-predicted="{classes.index(predicted)}"]')

# The page as a whole

@pytest.mark.parametrize('name', PAGES)
def test_opens_without_network(visit, request, name):
    "Offline, without a message in the console or a request (`visit` looks), and with cards"
    page = visit(request.getfixturevalue(name))
    assert page.locator(CARD).count()>0
    assert "default-src 'none'" in page.locator('meta[http-equiv="Content-Security-Policy"]').get_attribute('content')

def test_only_the_known_script_runs(visit, report_page, tmp_path):
    file = tmp_path/'changed.html'
    file.write_text(
        report_page.read_text(encoding='utf-8').replace('</body>', "<script>document.title = 'owned'</script></body>"),
        encoding='utf-8')
    assert visit(file).title()!='owned'
    assert 'Content Security Policy' in visit.faults.pop()

@pytest.mark.parametrize('name', PAGES)
@pytest.mark.parametrize('size', [48,192])
def test_no_sideways_scroll_on_a_phone(visit, request, name, size):
    page = visit(request.getfixturevalue(name), width=375)
    page.evaluate("document.querySelectorAll('details').forEach(o => o.open = true)")
    slide(page, 'size', size)
    assert scroll_width(page)<=375

@pytest.mark.parametrize('scheme,width', [('light',1280),('dark',1280),('light',375),('dark',375)])
@pytest.mark.parametrize('name', PAGES)
def test_axe_finds_nothing_serious(visit, request, name, scheme, width):
    page = visit(request.getfixturevalue(name), look=True, width=width, color_scheme=scheme)
    assert not axe_faults(page)

@pytest.mark.parametrize('name', PAGES)
def test_pictures_have_words(visit, request, name):
    page = visit(request.getfixturevalue(name), look=True)
    words = page.evaluate(
        "[...document.querySelectorAll('img, [role=img]')].map(o => o.alt ?? o.getAttribute('aria-label'))")
    assert len(words)>20 and all(o and o.strip() for o in words)

@pytest.mark.parametrize('name', PAGES)
def test_headings_are_in_order(visit, request, name):
    levels = visit(request.getfixturevalue(name), look=True).evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map(o => +o.tagName[1])")
    assert levels[0]==1 and levels.count(1)==1 and all(b-a<=1 for a,b in zip(levels, levels[1:]))

@pytest.mark.parametrize('name', PAGES)
def test_paper_has_cards_and_no_controls(visit, request, name):
    page = visit(request.getfixturevalue(name), color_scheme='dark')
    assert page.locator('#tools').is_visible()
    assert page.locator('body').evaluate('o => getComputedStyle(o).backgroundColor')!='rgb(255, 255, 255)'
    page.emulate_media(media='print')
    assert not any(page.locator(o).is_visible() for o in ('#tools','#more','.skip'))
    assert page.locator(CARD).first.is_visible()
    assert page.locator(f'{CARD} canvas').first.evaluate('o => getComputedStyle(o).printColorAdjust')=='exact'
    assert page.locator('body').evaluate('o => getComputedStyle(o).backgroundColor')=='rgb(255, 255, 255)'

# The contents bar

ARRIVED = """o => { // its section is at the top, or as far up as the end of the page allows
    const section = document.querySelector(o.hash), {top} = section.getBoundingClientRect();
    const atEnd = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
    const title = section.matches('section') ? section.querySelector('h2') : section;
    return title.textContent === o.textContent && (Math.abs(top) < 40 || atEnd && top > 0 && top < innerHeight);
}"""

@pytest.mark.parametrize('name', ['report_page','hostile_page'])
@pytest.mark.parametrize('scripts', [True,False])
def test_contents_lead_to_every_section(open_page, request, name, scripts):
    "Each section has its link, in order, at the top of the page; a click goes there, with scripts and without"
    ready = '#tools:visible' if scripts else None
    page = open_page(request.getfixturevalue(name), width=375, scripts=scripts, ready=ready)
    links = page.get_by_role('navigation', name='Contents').get_by_role('link')
    assert links.all_text_contents()==page.locator('section > h2').all_text_contents() and links.count()>3
    assert page.locator('nav').bounding_box()['y']<page.locator('h1').bounding_box()['y']
    for link in links.all():
        link.click()
        assert link.evaluate(ARRIVED)
    assert scroll_width(page)<=375

def test_a_short_page_needs_no_contents(visit, comparison_page):
    page = visit(comparison_page)
    assert page.locator('section').count()<=3 and not page.locator('nav').count()

def test_contents_move_without_motion_where_that_is_asked_for(visit, report_page):
    page = visit(report_page) # its context asks for reduced motion
    def behaviour(): return page.locator('html').evaluate('o => getComputedStyle(o).scrollBehavior')
    assert behaviour()=='auto'
    page.emulate_media(reduced_motion='no-preference')
    assert behaviour()=='smooth'
    page.emulate_media(reduced_motion='reduce')

# Names from elsewhere

def test_hostile_names_are_text(visit, hostile_page, hostile_names):
    page = visit(hostile_page, look=True)
    assert page.title().endswith(' · advtrain')
    assert page.locator('script').count()==2
    assert page.locator('main :is(script, img:not([src^="data:"]))').count()==0
    names = sorted(hostile_names)
    assert sorted(page.locator('#confusion tbody th').all_text_contents())==names
    for name in ('actual','predicted'):
        assert sorted(control(page, name).locator('option').all_text_contents()[1:])==names

def test_hostile_names_on_cards(visit, hostile_page, hostile_names):
    page,rows = visit(hostile_page),read_predictions(hostile_page.parent)
    kind(page, 'all')
    same_files(page, rows.values())
    shown = page.locator(f'{CARD} h3 bdi').all_text_contents()
    assert set(shown)=={o[k] for o in rows.values() for k in ('actual','predicted')}<=set(hostile_names)

# The report

def test_confusion_cells_are_the_counts(report, rows):
    classes,total = gallery_data(report)['classes'],0
    for o in report.locator('#confusion button').all():
        actual,predicted = (classes[int(o.get_attribute(f'data-{k}'))] for k in ('actual','predicted'))
        n = sum((r['actual'],r['predicted'])==(actual,predicted) for r in rows.values())
        assert int(o.text_content())==n
        pair = f'actual and predicted {actual}' if actual==predicted else f'actual {actual}, predicted {predicted}'
        assert re.match(rf'{n} images?, {re.escape(pair)}: show', o.get_attribute('aria-label'))
        total += n
    assert total==len(rows)

@pytest.mark.parametrize('right', [False,True])
def test_cell_leaves_exactly_its_images(report, rows, right):
    row = next(o for o in rows.values() if o['right']==right)
    report.locator('#tools [name=text]').fill('nothing is called so')
    choose(report, actual=next(o['actual'] for o in rows.values() if o['actual']!=row['actual']))
    button = cell(report, row['actual'], row['predicted'])
    button.click()
    assert report.evaluate('document.activeElement.id')=='gallery-title'
    assert 0<=report.locator('#gallery-title').bounding_box()['y']<300
    assert button.get_attribute('aria-pressed')=='true' and report.locator('#confusion [aria-pressed=true]').count()==1
    same_files(report, [o for o in rows.values() if (o['actual'],o['predicted'])==(row['actual'],row['predicted'])])

@pytest.mark.parametrize('which', ['misclassified','correct','all'])
def test_filters_combine(report, rows, which):
    kinds = {'misclassified': lambda o: not o['right'], 'correct': lambda o: o['right'], 'all': lambda o: True}
    row = next(o for o in rows.values() if kinds[which](o))
    part = Path(row['path']).stem[-1]
    kind(report, which)
    expected = [o for o in rows.values() if kinds[which](o)]
    same_files(report, expected)
    choose(report, actual=row['actual'])
    same_files(report, expected := [o for o in expected if o['actual']==row['actual']])
    control(report, 'text').fill(part)
    same_files(report, expected := [o for o in expected if part.lower() in o['path'].lower()])
    choose(report, predicted=row['predicted'])
    same_files(report, expected := [o for o in expected if o['predicted']==row['predicted']])
    assert row in expected

def test_search_ignores_case(report, rows):
    path = worst(rows)['path']
    control(report, 'text').fill(path.swapcase())
    assert files(report)==[path]

@pytest.mark.parametrize('order', ['highest loss','lowest loss','file name'])
def test_report_is_sorted(report, rows, order):
    kind(report, 'all')
    choose(report, sort=order)
    shown = files(report)
    losses = np.array([rows[o]['loss'] for o in shown])
    if order=='file name': assert shown==sorted(rows, key=lambda o: o.encode('utf-16-be'))
    else:
        assert len(shown)==len(rows)
        assert (np.diff(losses)*(-1 if order=='highest loss' else 1)>-1e-3).all() and losses.std()>0

def test_cards_say_what_was_predicted(report, rows):
    for card in report.locator(CARD).all()[:5]:
        row,text = rows[card.locator('.file').text_content()],card.locator('h3').text_content()
        # the first ones are misclassified
        assert card.locator('h3 bdi').all_text_contents()==[row['actual'],row['predicted']]
        assert re.sub(r'[\d.]+ %', '', text).startswith(f"actual {row['actual']} (), predicted {row['predicted']} ()")
        said = [float(o) for o in re.findall(r'\(([\d.]+) %\)', text)] + [float(re.search(r'loss ([\d.]+)', text)[1])]
        assert np.allclose(said, [100*row['p_actual'],100*row['p_predicted'],row['loss']], atol=.06)
        assert '✗ wrong' in text and '✓' not in text
    kind(report, 'correct')
    assert all('✓ right' in o and '✗' not in o for o in report.locator(f'{CARD} h3').all_text_contents())
    card = report.locator(CARD).first
    actual = rows[card.locator('.file').text_content()]['actual']
    assert re.match(rf'actual and predicted {re.escape(actual)} \([\d.]+ %\)', card.locator('h3').text_content())

def test_numbers_as_classes_say_which_is_actual(visit, some, shared, tmp_path):
    "A pair of digits names the actual and the predicted class, on a tile and in the name of a cell"
    from advtrain.pages.comparison import write_comparison
    from conftest import tiny
    digits = tmp_path/'digits'
    for i,folder in enumerate(sorted((some/'train').iterdir())):
        for part in ('train','test'): shutil.copytree(some/part/folder.name, digits/part/str(i))
    runs = [shared(tiny(name=o, norm=o), digits, f'digits {o}', drawn=False) for o in ('batch','group')]
    sure = r'\d \([\d.]+ %\)'
    tile = f'actual {sure}, predicted {sure}'
    page = visit(runs[0].folder/'report.html')
    assert all(re.match(tile+'✗ wrong', o) for o in page.locator(f'{CARD} h3').all_text_contents())
    for o in page.locator('#confusion button').all():
        actual,predicted = (o.get_attribute(f'data-{k}') for k in ('actual','predicted'))
        pair = f'actual and predicted {actual}:' if actual==predicted else f'actual {actual}, predicted {predicted}:'
        assert pair in o.get_attribute('aria-label')
    for o in page.locator(f'{CARD} [role=img]').all():
        assert re.search(r'(actual|predicted) class \d', o.get_attribute('aria-label'))
    page = visit(write_comparison(runs, tmp_path/'comparison.html'))
    kind(page, 'all')
    assert all(re.match(r'actual \d$', o) for o in page.locator(f'{CARD} h3').all_text_contents())
    lines = page.locator(f'{CARD} .run > p').all_text_contents()
    assert all(re.match(f'.*({tile}✗|actual and predicted {sure}✓)', o) for o in lines) and len(lines)>2

def test_counts_and_status(report, rows):
    wrong = [o for o in rows.values() if not o['right']]
    assert f'misclassified {len(wrong)}' in report.locator('#kinds').inner_text()
    assert report.locator('#status').inner_text().startswith(f'{len(wrong)} misclassified image')
    choose(report, actual=wrong[0]['actual'])
    n = sum(o['actual']==wrong[0]['actual'] for o in wrong)
    assert report.locator('#status').inner_text().startswith(f'{n} of {len(wrong)} misclassified image')

def test_show_more_adds_a_step(report):
    step = gallery_data(report)['step']
    kind(report, 'all')
    assert report.locator(CARD).count()==step
    report.locator('#more').click()
    assert report.locator(CARD).count()==2*step

def test_no_match_says_so_and_reset_helps(report):
    before = files(report)
    control(report, 'text').fill('nothing is called so')
    assert report.locator(CARD).count()==0 and 'Reset' in report.locator('#status').inner_text()
    slide(report, 'blend', 90)
    report.locator('#tools [type=reset]').click()
    report.wait_for_selector(CARD)
    assert files(report)==before and control(report, 'blend').input_value()=='50'

# Training images

def training(page, value): page.locator(f'#training-kinds label:has(input[value="{value}"])').click()
def open_map(page):
    page.locator('#data-map summary').click()
    page.locator('#life-map').focus()

@pytest.mark.parametrize('which', ['suspect','forgotten','never','late'])
def test_training_images_of_a_kind(report, tiny_run, some, which):
    "All of them are on the page, if it has room; nearly all are here, where 540 are trained on"
    life,data = tiny_run.life,gallery_data(report)['train']
    names = [str(Path(o).relative_to(some)) for o in life.table.path[life.kinds()[which]]]
    assert data['totals'][which]==len(names) and (which in ('suspect','late') or len(names)>0)
    training(report, which)
    expected = sorted(set(names) & set(data['file']))
    assert sorted(files(report))==expected
    left = f'{len(names)-len(expected)} more such training image' if len(names)>len(expected) else ''
    assert left in report.locator('#status').inner_text()

def test_suspicion_sorts_by_the_margin(report, tiny_run, some):
    aum = {str(Path(o.path).relative_to(some)): o.aum for o in tiny_run.life.table.itertuples()}
    training(report, 'any')
    assert control(report, 'sort').input_value()=='suspicion'
    margins = [aum[o] for o in files(report)]
    assert len(margins)>100 and all(a<=b+.01 for a,b in zip(margins, margins[1:])) # rounded on the page
    kind(report, 'all')
    assert control(report, 'sort').input_value()=='highest'

def test_a_card_tells_the_life_of_its_image(report, tiny_run, some):
    training(report, 'forgotten')
    card = report.locator(CARD).first
    table = tiny_run.life.table.set_index('path')
    row = table.loc[str(some/card.locator('.file').inner_text())]
    in_epoch = f'learned in epoch {row.learned:.0f} of {tiny_run.life.epochs}'
    learned = in_epoch if row.learned>0 else 'not learned'
    assert row.forgotten==1 and 'forgotten 1 time' in card.inner_text()
    assert learned in card.inner_text()
    text = card.inner_text()
    assert f'label {row.label}' in text or f'label and predicted {row.label}' in text
    curve = card.locator('.confidence svg')
    words = f'Confidence in the label over {tiny_run.life.epochs} epochs'
    assert curve.get_attribute('aria-label').startswith(words)

def test_test_images_with_a_suspicious_label(report, tiny_run):
    kind(report, 'doubtful')
    assert sorted(files(report))==sorted(tiny_run.predictions.path[tiny_run.interpretation.suspects().index])

def in_box(page, x, y):
    "The training images whose point is in a rectangle of the data map"
    data = gallery_data(page)['train']
    def _inside(v, c): return x[0]-1e-9<=v<=x[1]+1e-9 and y[0]-1e-9<=c<=y[1]+1e-9
    return sorted(f for f,v,c in zip(data['file'], data['variability'], data['confidence']) if _inside(v, c))

def test_a_rectangle_by_keyboard(report):
    "The arrows move it, with Shift they change its size, Esc clears it; training images take the place of test images"
    open_map(report)
    report.keyboard.press('ArrowUp')
    low = round(min(gallery_data(report)['train']['confidence'])+.1, 6)
    assert sorted(files(report))==in_box(report, (0,.5), (0,low))
    report.locator('#life-map').focus() # "Show more" took the focus to the cards
    for _ in range(20): report.keyboard.press('Shift+ArrowUp')
    for _ in range(30): report.keyboard.press('Shift+ArrowLeft')
    for _ in range(10): report.keyboard.press('ArrowUp')
    expected = in_box(report, (0,.2), (.2,low+.6))
    assert sorted(files(report))==expected and len(expected)>5
    report.locator('#life-map').focus()
    words = f'Variability 0.00 to 0.20, confidence 0.20 to {low+.6:.2f}'
    assert f'{words}: {len(expected)} images shown' in report.locator('#map-status').inner_text()
    training(report, 'never')
    n = len(files(report))
    assert n<len(expected) and f'{words}: {n} ' in report.locator('#map-status').inner_text()
    training(report, 'any')
    report.locator('#life-map').focus()
    report.keyboard.press('Escape')
    assert len(files(report))==len(gallery_data(report)['train']['file'])
    assert not report.locator('#map-status').inner_text()
    report.locator('#life-map').focus()
    report.keyboard.press('ArrowUp')
    kind(report, 'all') # test images have no place on the map
    assert not report.locator('#map-status').inner_text()
    training(report, 'any')
    assert len(files(report))==len(gallery_data(report)['train']['file'])

def test_a_rectangle_by_mouse(report):
    "Dragged over the whole map it has all, and Reset goes back to the test images"
    before = files(report)
    open_map(report)
    box = report.locator('#life-map').bounding_box()
    report.mouse.move(box['x']+2, box['y']+2)
    report.mouse.down()
    report.mouse.move(box['x']+box['width']-2, box['y']+box['height']-2)
    report.mouse.up()
    assert len(files(report))==len(gallery_data(report)['train']['file'])
    report.locator('#life-map').click(position=dict(x=box['width']-10, y=20)) # where no image is
    assert report.locator(CARD).count()==0
    report.locator('#tools [type=reset]').click()
    report.wait_for_selector(CARD)
    assert files(report)==before

# Uncertain images, the address, one image alone

def test_uncertain_images(report, tiny_run):
    t = tiny_run.interpretation.uncertain()
    paths = tiny_run.predictions.path
    kind(report, 'uncertain')
    choose(report, sort='smallest margin')
    margins = dict(zip(paths[t.index], t.margin))
    shown = files(report)
    assert sorted(shown)==sorted(o for o,m in margins.items() if round(m, 3)<.2) and len(shown)>3
    found = [round(margins[o], 3) for o in shown]
    assert found==sorted(found)
    kind(report, 'all')
    choose(report, sort='highest entropy')
    entropies = dict(zip(paths[t.index], t.entropy))
    found = [round(entropies[o], 3) for o in files(report)]
    assert found==sorted(found, reverse=True)

def linked(page): return page.evaluate('location.hash')

def test_a_link_shows_what_you_saw(report, report_page, visit):
    training(report, 'forgotten')
    choose(report, actual=gallery_data(report)['classes'][1], sort='file name')
    control(report, 'text').fill('.png')
    slide(report, 'size', 112)
    shown = files(report)
    again = visit(report_page, fragment=linked(report))
    assert files(again)==shown and len(shown)>1 and control(again, 'size').input_value()=='112'
    again.locator('#tools [type=reset]').click()
    again.wait_for_url(lambda url: '=' not in url) # the page allows no `wait_for_function`

def test_a_link_to_a_rectangle(report, report_page, visit):
    open_map(report)
    report.keyboard.press('ArrowUp')
    shown = files(report)
    assert files(visit(report_page, fragment=linked(report)))==shown and len(shown)>1

@pytest.mark.parametrize('odd', [
    '#kind=unheard&sort=of&actual=nobody&box=1,2&image=none', '#a=%25&=&text=zzz%3Cb%3E', '#box=a,b,c,d'])
def test_an_odd_link_shows_the_page(report_page, visit, odd):
    "Unknown choices are left out"
    page = visit(report_page, fragment=odd)
    assert page.locator('#status').inner_text()

def test_an_image_alone(report):
    "The arrow keys go through the images that were found; Esc goes back to the card"
    shown = files(report)
    button = report.locator(f'{CARD} .enlarge').nth(1)
    button.focus()
    report.keyboard.press('Enter')
    alone = report.locator('#large')
    def _file(): return alone.locator('.file').inner_text()
    assert _file()==shown[1] and alone.locator('.panels').count()==1
    for key,file in (('ArrowRight',shown[2]), ('ArrowLeft',shown[1]), ('ArrowLeft',shown[0]), ('ArrowLeft',shown[0])):
        report.keyboard.press(key)
        assert _file()==file
    assert alone.locator('#large-before').is_disabled()
    report.keyboard.press('Escape')
    assert not alone.is_visible()
    assert report.evaluate("document.activeElement.className")=='enlarge'

# In a notebook's cell

def in_a_frame(visit_frame, cell, file):
    file.write_text(f'<!doctype html><title>cell</title><body>{cell.data}</body>', encoding='utf-8')
    page = visit_frame(file, ready='iframe')
    frame = page.frame_locator('iframe')
    frame.locator('#tools').wait_for()
    return frame

def test_a_cell_has_the_gallery(open_page, tiny_run, tmp_path):
    "Of the images that were passed, or of all; the matrix chooses images"
    import advtrain.pages.show # noqa: F401 it adds `show`
    interp = tiny_run.interpretation
    frame = in_a_frame(open_page, interp.show(interp.uncertain(7)), tmp_path/'some.html')
    frame.locator('#kinds label:has(input[value=all])').click()
    paths = tiny_run.predictions.path[interp.uncertain(7).index]
    assert sorted(frame.locator(f'{CARD} .file').all_text_contents())==sorted(paths)
    frame = in_a_frame(open_page, interp.show(), tmp_path/'all.html')
    frame.locator('summary').click()
    button = frame.locator('#confusion button').first
    n = button.inner_text()
    button.click()
    assert frame.locator('#status').inner_text().startswith(f'{n} of 200 images')
    assert frame.locator(f'{CARD} canvas.map').count()>0

def test_a_cell_compares_runs(open_page, compared_runs, tmp_path):
    import advtrain.pages.show # noqa: F401 it adds `show`
    from advtrain.runs.compare import compare_runs
    c = compare_runs(compared_runs[:2])
    rows = c.flipped().head(5)
    frame = in_a_frame(open_page, c.show(rows), tmp_path/'compared.html')
    frame.locator('#kinds label:has(input[value=all])').click()
    assert sorted(frame.locator(f'{CARD} .file').all_text_contents())==sorted(rows.path)

# Heat maps

def looks(page, selector):
    shot = page.locator(selector).first.screenshot()
    return np.array(Image.open(io.BytesIO(shot)).convert('RGB')).astype(int)

@pytest.mark.parametrize('name', ['report_page','comparison_page'])
def test_slider_blends(visit, request, name):
    page,seen = visit(request.getfixturevalue(name)),{}
    for blend in (0,50,100):
        slide(page, 'blend', blend)
        assert float(page.locator('.map').first.evaluate('o => getComputedStyle(o).opacity'))==blend/100
        seen[blend] = looks(page, '.stack:has(.map)')
    plain = looks(page, '.panels:has(.map) .stack:not(:has(.map))')
    assert abs(seen[0]-plain).mean()<1 and abs(seen[0]-seen[100]).mean()>10
    assert abs(seen[50] - (seen[0]+seen[100])/2).mean()<2

def test_sizes_of_panels(report):
    for size in (48,160):
        slide(report, 'size', size)
        assert report.locator('.stack').first.bounding_box()['width']==size

def sprite(url): return np.array(Image.open(io.BytesIO(base64.b64decode(url.split(',')[1]))).convert('L')).astype(int)
def tile(g, grey, number):
    y,x = divmod(number, g['maps']['columns'])
    side = g['maps']['side']
    return grey[y*side:(y+1)*side, x*side:(x+1)*side]
READ = '''o => {
    const copy = new OffscreenCanvas(o.width, o.height).getContext('2d', {willReadFrequently: true})
    copy.drawImage(o, 0, 0)
    return [...copy.getImageData(0, 0, o.width, o.height).data]
}'''
def pixels(canvas):
    return np.array(canvas.evaluate(READ)).reshape(canvas.evaluate('o => [o.height, o.width, 4]'))[...,:3]
def coloured(name, index): return matplotlib.colormaps[name](index)[...,:3]*255

def maps_are(page, view, runs):
    "Every heat map of the first card that has some is its tile of the sprite, coloured"
    g = gallery_data(page)
    grey,T,L = sprite(g['maps']['url']),len(g['targets']),[len(o['layers']) for o in g['runs']]
    control(page, 'maps').select_option(view)
    card = page.locator(f'{CARD}:has(.map)').first
    first = g['map'][g['file'].index(card.locator('.file').text_content())]*T*sum(L)
    def number(r, target, layer): return first + T*sum(L[:r]) + g['targets'].index(target)*L[r] + layer
    wanted = [(r,i) for r in runs for i in range(L[r])]
    shown = card.locator('.map').all()
    assert len(shown)==len(wanted)
    for canvas,(r,i) in zip(shown, wanted):
        if view=='difference':
            image = coloured('RdBu_r', (
                256 + tile(g, grey, number(r, 'predicted', i)) - tile(g, grey, number(r, 'actual', i)))//2)
        else: image = coloured('inferno', tile(g, grey, number(r, view, i)))
        assert abs(pixels(canvas)-image).max()<16

@pytest.mark.parametrize('view', ['predicted','actual','difference'])
def test_report_maps_are_the_tiles(report, view):
    maps_are(report, view, [0])

def test_comparison_maps_are_the_tiles(comparison):
    kind(comparison, 'changed')
    maps_are(comparison, 'predicted', [0,1])

def test_maps_are_named(report):
    control(report, 'maps').select_option('predicted')
    card,g = report.locator(f'{CARD}:has(.map)').first,gallery_data(report)
    labels = card.locator('.stack:has(.map)').evaluate_all('o => o.map(p => p.getAttribute("aria-label"))')
    file,predicted = card.locator('.file').text_content(),card.locator('h3 bdi').last.text_content()
    layers = g['runs'][0]['layers']
    for layer,label in zip(layers, labels, strict=True):
        assert f'at {layer} for the predicted class {predicted}, image {file}' in label

# The film

FILM = '#film-cards > li'

def film_says(page, film, i, frame):
    "Does the card of an image show this frame: its caption, and the tiles of its maps?"
    classes,card = gallery_data(page)['classes'],page.locator(FILM).nth(i)
    words = f"epoch {film['epochs'][frame]}: {classes[film['predicted'][i][frame]]} {100*film['p'][i][frame]:.0f} %"
    grey,targets,layers = sprite(film['maps']['url']),film['targets'],len(film['layers'])
    target = targets.index(page.locator('#film select').input_value())
    first = ((i*len(film['epochs'])+frame)*len(targets)+target)*layers
    tiles = [coloured('inferno', tile(film, grey, first+k)) for k in range(layers)]
    drawn = [pixels(o) for o in card.locator('.map').all()]
    same = len(drawn)==layers and all(abs(a-b).max()<16 for a,b in zip(drawn, tiles))
    return words in card.locator('.line').nth(1).text_content().replace('\xa0', ' ') and same

def test_a_slider_goes_through_the_epochs(report, tiny_run):
    film,own = gallery_data(report)['film'],tiny_run.film
    assert film['epochs']==own.epochs and film['predicted'][1]==own.predicted[:,1].tolist() and len(own.epochs)>1
    assert report.locator(FILM).count()==len(own.paths)
    assert film_says(report, film, 1, len(own.epochs)-1)
    slider = report.locator(f'{FILM} input[type=range]').nth(1)
    for frame in range(len(own.epochs)):
        slider.fill(str(frame))
        assert film_says(report, film, 1, frame)
        assert slider.get_attribute('aria-valuetext').startswith(f'epoch {own.epochs[frame]}: ')
    report.locator('#film select').select_option('actual')
    assert film_says(report, film, 1, len(own.epochs)-1) and film_says(report, film, 2, len(own.epochs)-1)

def test_one_slider_for_all_images(report):
    film = gallery_data(report)['film']
    report.locator('#film-player input').fill('0')
    assert all(film_says(report, film, i, 0) for i in (0,1,5))
    assert f"epoch {film['epochs'][0]}, learning rate {film['lr'][0]}" in report.locator('#film-epoch').text_content()

def test_play_and_pause(visit, report_page):
    page = visit(report_page, clock=True)
    page.emulate_media(reduced_motion='no-preference')
    film = gallery_data(page)['film']
    last = len(film['epochs'])-1
    page.locator('#film-player input').fill(str(last)) # the button learns that motion is welcome
    button = page.locator('#film-player button')
    button.focus()
    page.keyboard.press('Space')
    assert button.get_attribute('aria-label')=='Pause' and film_says(page, film, 0, 0)
    page.clock.run_for(650)
    assert film_says(page, film, 0, 1)
    page.clock.run_for(600*(last+1))
    assert film_says(page, film, 0, last) and button.get_attribute('aria-label')=='Play'
    button.click()
    button.click()
    page.clock.run_for(5000)
    assert film_says(page, film, 0, 0)

def test_with_reduced_motion_a_button_shows_the_next_epoch(visit, report_page):
    page = visit(report_page, clock=True)
    film,button = gallery_data(page)['film'],page.locator(f'{FILM} button').first
    assert button.get_attribute('aria-label')=='Next epoch'
    for frame in (0,1):
        button.click()
        page.clock.run_for(5000)
        assert film_says(page, film, 0, frame)

def test_keys_move_the_slider(report):
    film = gallery_data(report)['film']
    report.locator(f'{FILM} input[type=range]').first.focus()
    report.keyboard.press('Home')
    assert film_says(report, film, 0, 0)
    report.keyboard.press('ArrowRight')
    assert film_says(report, film, 0, 1)

# The keyboard alone

# Arrow keys reach the other cells of the matrix and the other kinds
REACHABLE = '''() => {
    const all = [...document.querySelectorAll('a[href], button, select, input, summary, [tabindex="0"]')]
        .filter(o => o.checkVisibility() && !o.matches('#confusion [tabindex="-1"], [type=radio]:not(:checked)'))
    window.missed = new Set(all)
    document.addEventListener('focusin', e => window.missed.delete(e.target))
    return all.length
}'''

@pytest.mark.parametrize('name', PAGES)
def test_tab_reaches_everything(visit, request, name):
    page = visit(request.getfixturevalue(name))
    n = page.evaluate(REACHABLE)
    for _ in range(n+5): page.keyboard.press('Tab')
    assert page.evaluate('[...window.missed].map(o => o.outerHTML)')==[] and n>10

def test_matrix_is_one_tab_stop(report):
    assert report.locator('#confusion button[tabindex="0"]').count()==1<report.locator('#confusion button').count()

def test_arrows_move_in_the_matrix(report):
    buttons = report.locator('#confusion button')
    def place():
        return report.evaluate('(({actual, predicted}) => [+actual, +predicted])(document.activeElement.dataset)')
    report.locator('#confusion button[tabindex="0"]').focus()
    seen = [place()]
    for _ in range(buttons.count()-1):
        report.keyboard.press('ArrowRight')
        seen.append(place())
    assert seen==sorted(seen) and len({tuple(o) for o in seen})==buttons.count()
    last = place()
    report.keyboard.press('ArrowUp')
    assert place()[0]<last[0]
    above = place()
    report.keyboard.press('Home')
    assert place()==min(o for o in seen if o[0]==above[0])
    report.keyboard.press('End')
    assert place()==max(o for o in seen if o[0]==above[0])
    report.keyboard.press('ArrowDown')
    assert place()[0]>above[0]
    report.keyboard.press('ArrowLeft')
    assert report.locator('#confusion button[tabindex="0"]').evaluate('o => o === document.activeElement')

@pytest.mark.parametrize('key', ['Enter','Space'])
def test_key_on_a_cell_filters(report, rows, key):
    row = worst(rows)
    cell(report, row['actual'], row['predicted']).focus()
    report.keyboard.press(key)
    same_files(report, [o for o in rows.values() if (o['actual'],o['predicted'])==(row['actual'],row['predicted'])])

@pytest.mark.parametrize('name,key,change', [
    ('blend','ArrowRight',1), ('blend','ArrowLeft',-1), ('size','ArrowRight',16)])
def test_arrows_move_sliders(report, name, key, change):
    before = int(control(report, name).input_value())
    control(report, name).focus()
    report.keyboard.press(key)
    assert int(control(report, name).input_value())==before+change
    assert report.locator('#gallery').evaluate(
        f'o => parseFloat(o.style.getPropertyValue("--{name}"))')==(before+change)/(100 if name=='blend' else 1)

def test_arrows_choose_the_kind(report, rows):
    report.locator('#kinds :checked').focus()
    report.keyboard.press('ArrowRight')
    same_files(report, [o for o in rows.values() if o['right']])

# The comparison

def choose_runs(page, a, b):
    if control(page, 'a').is_visible():
        control(page, 'a').select_option(str(a))
        control(page, 'b').select_option(str(b))

KINDS = {'fixed': (False,True), 'broken': (True,False), 'still wrong': (False,False)}

@pytest.mark.parametrize('a,b', list(combinations(range(3), 2)))
@pytest.mark.parametrize('which', KINDS)
def test_changes_are_recounted(comparison, runs, a, b, which):
    choose_runs(comparison, a, b)
    kind(comparison, which)
    expected = [o for o in runs[0].values() if (runs[a][o['path']]['right'],runs[b][o['path']]['right'])==KINDS[which]]
    assert re.search(rf'{which}\s+{len(expected)}\b', comparison.locator('#kinds').inner_text())
    same_files(comparison, expected)

def test_changed_is_fixed_or_broken(comparison, runs):
    kind(comparison, 'changed')
    same_files(comparison, [o for o in runs[0].values() if o['right']!=runs[1][o['path']]['right']])

def test_predicted_class_is_that_of_b(comparison, runs):
    choose_runs(comparison, 0, 2)
    kind(comparison, 'still wrong')
    row = next(o for k,o in runs[2].items() if not o['right'] and not runs[0][k]['right'])
    choose(comparison, predicted=row['predicted'])
    same_files(comparison, [
        o for k,o in runs[2].items()
        if not o['right'] and not runs[0][k]['right'] and o['predicted']==row['predicted']])

@pytest.mark.parametrize('order', ['change in loss','highest loss in B','file name'])
def test_comparison_is_sorted(comparison, runs, order):
    kind(comparison, 'changed')
    choose(comparison, sort=order)
    shown = files(comparison)
    if order=='file name': assert shown==sorted(shown, key=lambda o: o.encode('utf-16-be')) and len(shown)>1
    else:
        values = [runs[1][o]['loss'] - (runs[0][o]['loss'] if order.startswith('change') else 0) for o in shown]
        assert (np.diff(np.abs(values))<1e-3).all() and np.std(values)>0

def test_maps_of_both_runs_in_one_card(comparison):
    choose_runs(comparison, 1, 2)
    kind(comparison, 'all')
    choose(comparison, sort='highest loss in B')
    names = [o['name'] for o in gallery_data(comparison)['runs']]
    card = comparison.locator(f'{CARD}:has(.map)').first
    assert card.locator('.run b').all_text_contents()==names[1:]
    assert all(card.locator('.run').nth(k).locator('.map').count()>0 for k in (0,1))

def shared_similarity(page, a, b):
    "The similarity of two runs' heat maps of each image with maps, by file"
    g = gallery_data(page)
    return {file: g['similarity'][f'{min(a,b)}-{max(a,b)}'][k] for file,k in zip(g['file'], g['map']) if k>=0}

@pytest.mark.parametrize('a,b', [(0,1),(2,0)])
def test_looked_elsewhere_most(comparison, compared_runs, a, b):
    "Cards are sorted by the library's similarity, least alike first, and show it"
    from advtrain.runs.compare import compare_runs
    import advtrain.runs.elsewhere # noqa: F401 it gives comparisons their similarity
    c = compare_runs(compared_runs)
    places = {path: i for i,path in c.runs[0].predictions.path.items()}
    choose_runs(comparison, a, b)
    kind(comparison, 'all')
    choose(comparison, sort='looked elsewhere most')
    assert control(comparison, 'maps').input_value()=='actual'
    shown = files(comparison)
    assert len(shown)>5
    wanted = c.similarity([places[o] for o in shown], a, b)
    known = [o for o in wanted if o==o]
    assert len(known)>2 and (np.diff(known)>-2e-3).all() and wanted[:len(known)].notna().all()
    assert np.allclose([shared_similarity(comparison, a, b)[o] for o in shown[:len(known)]], known, atol=1e-3)
    lines = comparison.locator(f'{CARD} .between .line').all_text_contents()
    assert lines[0]=='B − A' + f'for the actual class, similarity {known[0]:.2f}'.replace('-', '−')

@pytest.mark.parametrize('a,b', [(0,1),(2,1)])
def test_the_difference_is_that_of_the_maps(comparison, a, b):
    "Red where the map of B is higher; each map is scaled to its own largest value"
    choose_runs(comparison, a, b)
    kind(comparison, 'changed')
    g = gallery_data(comparison)
    grey,L = sprite(g['maps']['url']),[len(o['layers']) for o in g['runs']]
    card = comparison.locator(f'{CARD}:has(.difference)').first
    first = g['map'][g['file'].index(card.locator('.file').text_content())]*2*sum(L)
    def scaled(r, layer):
        values = tile(g, grey, first + 2*sum(L[:r]) + g['targets'].index('actual')*L[r] + layer)
        return values*255/max(values.max(), 1)
    canvases = card.locator('.difference').all()
    assert len(canvases)==L[a]==L[b]
    for layer,canvas in enumerate(canvases):
        image = coloured('RdBu_r', ((256 + scaled(b, layer).round() - scaled(a, layer).round())//2).astype(int))
        assert abs(pixels(canvas)-image).max()<16
    labels = card.locator('.between [role=img]').evaluate_all('o => o.map(p => p.getAttribute("aria-label"))')
    assert all(f'of B minus that of A at {o}' in label for o,label in zip(g['runs'][b]['layers'], labels, strict=True))

def test_a_comparison_says_where_networks_looked(comparison):
    section = comparison.locator('section:has(h3:text("Where the networks looked"))')
    text = section.inner_text()
    assert text.count('median similarity of the heat maps')==3 and text.count('no baseline')==3
    assert 'the overlap of the top fifth of the pixels' in text

def test_a_comparison_without_images_says_why_maps_are_not_compared(open_page, compared_runs, tmp_path):
    from advtrain.pages.comparison import write_comparison
    from advtrain.runs.run import Run
    runs = [Run(o, data=tmp_path/'gone') for o in compared_runs[:2]]
    with pytest.warns(UserWarning, match='no images'): file = write_comparison(runs, tmp_path/'comparison.html')
    page = open_page(file, ready='#tools:visible')
    assert 'Heat maps not compared: the data of the run' in page.locator('main').inner_text()
    assert page.locator(CARD).count()>0 and page.locator('.between').count()==0

def test_seeds_are_the_baseline_of_a_verdict(some, tmp_path):
    "With `by`, the page takes the runs of other seeds from the folder"
    from advtrain.pages.comparison import write_comparison
    exps = [tiny(name=f'{n} {s}', norm=n, seed=s, bs=30, life=False) for n in ('layer','batch') for s in (1,2)]
    with little_drawn():
        for o in exps: quiet_run(o, some, tmp_path/'runs'/o.name)
    text = write_comparison(tmp_path/'runs', tmp_path/'comparison.html', by='norm').read_text()
    assert text.count('median similarity of the heat maps')==1
    assert 'with another seed as well; another seed alone' in text and 'in 2 pairs)' in text

def test_equal_runs_change_places(comparison):
    control(comparison, 'b').select_option('0')
    assert (control(comparison, 'a').input_value(),control(comparison, 'b').input_value())==('1','0')
