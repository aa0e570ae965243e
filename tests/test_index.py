"""A folder of runs as a table and as a page: numbers by hand, runs in whatever state, and the page in a browser."""
import csv,json,os,re,shutil,statistics
from urllib.parse import quote

import pytest
from scipy import stats
from conftest import axe_faults,scroll_width

ODD = ['<script>document.title="owned"<script>','"quoted" & \'single\' &amp;','日本語 👟 #1','50% off? yes.html',
    'plain-2','plain-10','x'*120,'صنف عربي','&lt;b&gt; {{ 7*7 }}']
TRACEBACK = ('Traceback (most recent call last):\n  File "train.py", line 1\n'
    'RuntimeError: <script>alert(1)</script> at batch 17\n')
PAGES = ['live_page','done_page']
ROWS = '#runs tbody tr'

def write(folder, **files):
    "Write texts into a folder; `_` in a name stands for a dot"
    folder.mkdir(parents=True, exist_ok=True)
    for name,text in files.items():
        (folder/name.replace('_', '.')).write_text(
            text if isinstance(text, str) else json.dumps(text), encoding='utf-8')
    return folder

def lines_of(n, loss=1.):
    "A history of `n` epochs"
    rows = [f'{e},{loss},50,100,{e/100},{loss/e},40,100,{e/100},0.01,2\n' for e in range(1, n+1)]
    return ('epoch,train_loss,train_correct,train_n,train_acc,'
        'valid_loss,valid_correct,valid_n,valid_acc,lr,seconds\n') + ''.join(rows)

def copy_of(source, root, name, seed, correct):
    "A finished run under another name, with another seed and another accuracy"
    from advtrain.runs.experiment import Experiment
    shutil.copytree(source, folder := root/name, ignore=shutil.ignore_patterns('*.safetensors','figures'))
    exp = Experiment.from_toml(folder/'experiment.toml').replace(name=name, seed=seed)
    metrics = json.loads((folder/'metrics.json').read_text(encoding='utf-8'))
    metrics |= dict(test_images=500, test_correct=correct, test_accuracy=correct/500)
    write(folder, experiment_toml=exp.to_toml(), metrics_json=metrics)
    return exp

def copy_grid(sources, root, names):
    "Three seeds of each run, with accuracies that are known"
    return [copy_of(o, root, names[3*i+k], k, 300+40*i+5*k*k) for i,o in enumerate(sources) for k in range(3)]

@pytest.fixture(scope='session')
def done(compared_runs, tmp_path_factory):
    "A folder with three seeds of three configurations, all finished, and pictures of which one is broken"
    root = tmp_path_factory.mktemp('index')/'done'
    copy_grid(compared_runs, root, [f'run {i}' for i in range(9)])
    (root/'figures').mkdir()
    shutil.copy(compared_runs[0]/'figures/curves.png', root/'figures/b_second_picture.png')
    shutil.copy(compared_runs[0]/'figures/calibration.png', root/'figures/a_first_picture.png')
    (root/'figures/c_broken.png').write_bytes(b'no picture')
    return root

@pytest.fixture(scope='session')
def live(compared_runs, tmp_path_factory):
    "A folder with runs of odd names in all states, and what is expected there"
    from conftest import tiny
    root = tmp_path_factory.mktemp('live')/'a <b> "grid" 実験'
    exps = copy_grid(compared_runs, root, ODD)
    def _add(name, epochs=4, **files):
        exps.append(exp := tiny(
            name=name, norm='none', lr='find' if name=='pruned' else .1, seed=len(exps), epochs=epochs))
        if files or name=='running': write(root/name, **dict(experiment_toml=exp.to_toml()) | files)
    _add('failed #1', history_csv=lines_of(1), stopped_json=dict(
        state='failed', reason='RuntimeError: <script>alert(1)</script> at\nbatch 17', traceback=TRACEBACK))
    _add('pruned', history_csv=lines_of(3), stopped_json=dict(
        state='pruned', reason='worse than the median', traceback=''))
    _add('interrupted', history_csv=lines_of(2), environment_json={})
    _add('trained', history_csv=lines_of(4))
    _add('diverged', history_csv=lines_of(4, 1e30))
    _add('running')
    _add('cut history', history_csv=lines_of(3)[:-9])
    _add('empty metrics', history_csv=lines_of(4), metrics_json='')
    _add('garbage', experiment_toml='garbage = = <b>\n')
    _add('no history', metrics_json=dict(test_accuracy=.5, test_correct=5, test_images=10), SHA256SUMS='')
    _add('waiting')
    return root,exps

@pytest.fixture(scope='session')
def live_page(live):
    from advtrain.runs.folder import Runs
    from advtrain.pages.index import write_index
    from advtrain.files.run_lock import run_lock
    root,exps = live
    with run_lock(root/'running'): return write_index(Runs(root, exps))

@pytest.fixture(scope='session')
def done_page(done):
    from advtrain.pages.index import write_index
    return write_index(done)

STATES = dict.fromkeys(ODD, 'finished') | {
    'failed #1': 'failed', 'trained': 'trained', 'diverged': 'trained', 'no history': 'damaged',
    'cut history': 'damaged', 'empty metrics': 'damaged', 'garbage': 'damaged',
} | {k: k for k in ('pruned','interrupted','running','waiting')}

# The table

@pytest.fixture(scope='session')
def runs(live):
    from advtrain.runs.folder import Runs
    from advtrain.files.run_lock import run_lock
    root,exps = live
    with run_lock(root/'running'): return Runs(root, exps)

def test_states(runs):
    assert runs.table.state.to_dict()==STATES
    assert runs.table.reason.to_dict()=={k: '' for k in STATES} | {
        'failed #1': 'RuntimeError: <script>alert(1)</script> at batch 17',
        'pruned': 'worse than the median',
        'cut history': 'history.csv cannot be read: it was cut',
        'empty metrics': 'metrics.json cannot be read: Expecting value: line 1 column 1 (char 0)',
        'garbage': "experiment.toml cannot be read: not valid TOML: Unexpected character: '=' at line 1 col 10",
        'no history': 'history.csv is missing'}
    assert runs.failed=={'failed #1': runs.table.reason['failed #1']}

def test_table_is_what_the_files_say(runs, live):
    from advtrain.stats import wilson
    for name in ODD:
        m,row = json.loads((live[0]/name/'metrics.json').read_text(encoding='utf-8')),runs.table.loc[name]
        with open(live[0]/name/'history.csv', encoding='utf-8', newline='') as f: rows = list(csv.DictReader(f))
        assert row[['test_accuracy','test_correct','test_images','best_epoch']].tolist()==[
            m[k] for k in ('test_accuracy','test_correct','test_images','best_epoch')]
        assert row.best_watched_accuracy==max(float(r['valid_acc']) for r in rows)==m['best_watched_accuracy']
        assert (row.low,row.high)==wilson(m['test_correct'], m['test_images'])
        assert row.epochs==row.of==len(rows) and row.seconds==pytest.approx(sum(float(r['seconds']) for r in rows))
    assert runs.table.loc[
        'pruned',['epochs','of','best_epoch','best_watched_accuracy','lr']].tolist()==[3,4,3,.03,'find']
    assert runs.table.loc['waiting',['epochs','of']].tolist()==[0,4]
    assert runs.table.loc['waiting',['best_epoch','test_accuracy','seconds']].isna().all()
    assert runs.table.columns[1:5].tolist()==['norm','bs','lr','seed']

def test_configurations_by_hand(runs):
    t = stats.t(2).ppf(.975)
    for i,norm in enumerate(('layer','batch','group')):
        row = runs.configurations.loc[
            name := f'norm {norm}, epochs 2, bs {30 if i else 50}, lr {runs.table.lr[ODD[0]]:g}']
        accuracies = [(300+40*i+5*k*k)/500 for k in range(3)]
        mean,sd = statistics.mean(accuracies),statistics.stdev(accuracies)
        assert row[['mean','sd','low','high']].tolist()==pytest.approx(
            [mean,sd,mean-t*sd/3**.5,mean+t*sd/3**.5], abs=1e-12)
        assert (row.runs,row.seeds)==(3,'0, 1, 2')
        assert row.best_watched_accuracy==pytest.approx(runs.table.best_watched_accuracy[ODD[3*i]])
    assert [k[:10] for k in runs.configurations.index[:3]]==['norm group','norm batch','norm layer']
    assert runs.configurations['mean'].isna()[3:].all()
    interval = f'{100*(mean-t*sd/3**.5):.1f} to {100*(mean+t*sd/3**.5):.1f}'
    assert (f'{name}: {100*mean:.1f} % ± {100*sd:.1f} '
        f'(sd over 3 seeds; 95 % interval of the mean {interval})') in runs.sentences()

def test_iterates_over_finished_runs(compared_runs, tmp_path):
    from advtrain.runs.compare import compare_runs
    from advtrain.runs.folder import Runs
    for o in compared_runs: shutil.copytree(o, tmp_path/o.name)
    write(tmp_path/'begun', experiment_toml='')
    runs = Runs(tmp_path)
    assert len(runs)==3 and [o.folder.name for o in runs]==['batch','group','tiny']
    assert compare_runs(runs).table.test_correct.tolist()==runs.table.test_correct.dropna().tolist()

@pytest.mark.parametrize('name', [
    'experiment.toml','history.csv','metrics.json','stopped.json','SHA256SUMS','environment.json','report.html'])
@pytest.mark.parametrize('how', ['gone','empty','half','binary','nested','folder'])
def test_no_damage_is_raised(compared_runs, tmp_path, name, how):
    "Whatever one file holds, the other run is as it was, and the page is written"
    from advtrain.runs.folder import Runs
    from advtrain.pages.index import write_index
    for k in ('good','bad'): copy_of(compared_runs[0], tmp_path, k, 1, 400)
    file = tmp_path/'bad'/name
    data = file.read_bytes() if file.exists() else b'{"state": "failed"}'
    file.unlink(missing_ok=True)
    if how=='folder': file.mkdir()
    elif how!='gone':
        file.write_bytes({
            'empty': b'', 'half': data[:len(data)//2], 'binary': b'\xff\xfe\0', 'nested': b'['*100_000}[how])
    table = Runs(tmp_path).table
    assert table.loc['good',['state','test_correct']].tolist()==['finished',400]
    if name in ('metrics.json','history.csv','experiment.toml') and (name,how)!=('experiment.toml','empty'):
        assert table.state['bad']=='damaged' and name in table.reason['bad']
    assert 'good' in write_index(tmp_path).read_text(encoding='utf-8')

@pytest.mark.skipif(os.name=='nt', reason='names are Unicode there')
def test_names_that_are_no_text(compared_runs, tmp_path):
    from advtrain.pages.index import write_index
    copy_of(compared_runs[0], tmp_path, 'good', 1, 400)
    os.rename(tmp_path/'good', os.fsencode(tmp_path)+b'/b\xffd')
    assert 'href="b%FFd/report.html"' in write_index(tmp_path).read_text(encoding='utf-8')

def test_readers_see_a_whole_page(done):
    "The page is exchanged, not written over; nothing else is left behind"
    from advtrain.runs.folder import Runs
    from advtrain.pages.index import write_index
    page = write_index(done)
    with open(page, encoding='utf-8') as old:
        before = old.read(100)
        assert write_index(Runs(done))==page
        assert (before+old.read()).endswith('</html>')
    assert sorted(o.name for o in done.iterdir())==sorted(
        [f'run {i}' for i in range(9)]+['.advtrain','figures','index.html'])
    assert sorted(o.name for o in (done/'.advtrain').iterdir())==['files.json','files.lock']

def test_a_hundred_runs_are_a_small_page(tmp_path):
    from advtrain.pages.index import write_index
    from conftest import tiny
    for i in range(100):
        exp = tiny(name=f'trial-{i}', lr=.01+i/1000, epochs=40)
        write(tmp_path/exp.name, experiment_toml=exp.to_toml(), history_csv=lines_of(40),
            metrics_json=dict(test_accuracy=i/100, test_correct=i, test_images=100))
    assert write_index(tmp_path).stat().st_size<400_000

# The page

@pytest.fixture
def visit(open_page): return open_page

def names(page): return page.locator(f'{ROWS} th').all_text_contents()
def head(page, key): return page.locator(f'#runs th[data-key="{key}"] button')
def row_of(page, name): return page.locator(ROWS).nth(names(page).index(name))

@pytest.mark.parametrize('name', PAGES)
def test_opens_without_network(visit, request, name):
    page = visit(request.getfixturevalue(name))
    assert page.locator(ROWS).count()>8
    assert "default-src 'none'" in page.locator('meta[http-equiv="Content-Security-Policy"]').get_attribute('content')

@pytest.mark.parametrize('name', PAGES)
@pytest.mark.parametrize('scripts', [True,False])
def test_no_sideways_scroll_on_a_phone(visit, request, name, scripts):
    page = visit(request.getfixturevalue(name), width=375, scripts=scripts)
    if scripts: page.evaluate("document.querySelectorAll('details').forEach(o => o.open = true)")
    assert scroll_width(page)<=375

@pytest.mark.parametrize('scheme,width', [('light',1280),('dark',1280),('light',375),('dark',375)])
@pytest.mark.parametrize('name', PAGES)
def test_axe_finds_nothing_serious(visit, request, name, scheme, width):
    page = visit(request.getfixturevalue(name), look=True, width=width, color_scheme=scheme)
    assert not axe_faults(page)

@pytest.mark.parametrize('name', PAGES)
def test_headings_are_in_order(visit, request, name):
    levels = visit(request.getfixturevalue(name)).evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map(o => +o.tagName[1])")
    assert levels[0]==1 and levels.count(1)==1 and all(b-a<=1 for a,b in zip(levels, levels[1:]))

def test_readable_without_scripts(visit, live_page, live):
    page = visit(live_page, scripts=False)
    assert names(page)==[o.name for o in live[1]]
    assert page.locator('.curve').count()>0
    assert not page.locator('#live label').is_visible() and not page.locator('#runs button').count()
    assert 'Reload this page' in page.locator('#live').inner_text()

def test_odd_names_are_text(visit, live_page, live):
    page = visit(live_page)
    assert page.title()=='a <b> "grid" 実験 · advtrain'==f"{page.locator('h1').text_content()} · advtrain"
    assert names(page)==[o.name for o in live[1]]
    assert page.locator('script').count()==1 and page.locator('main :is(script, img)').count()==0
    titles = page.locator('.curve title').all_text_contents()
    assert all(any(o.startswith(f'{name}: best ') for o in titles) for name in ODD)

def test_names_link_to_pages(visit, live_page, live):
    page = visit(live_page)
    links = page.locator(f'{ROWS} th a')
    assert links.all_text_contents()==ODD
    assert [o.get_attribute('href') for o in links.all()]==[f'{quote(o)}/report.html' for o in ODD]
    for i,name in enumerate(ODD): assert links.nth(i).evaluate('o => o.href')==(live[0]/name/'report.html').as_uri()

def test_states_are_words_with_colours(visit, live_page):
    page = visit(live_page)
    states = page.locator(f'{ROWS} .state')
    assert dict(zip(names(page), states.all_text_contents()))==STATES
    colour = {k: row_of(page, n).locator('.state').evaluate('o => getComputedStyle(o).color') for n,k in STATES.items()}
    assert len({colour['finished'],colour['running'],colour['failed'],colour['waiting']})==4

def test_what_went_wrong_is_told_in_full(visit, live_page, runs):
    page = visit(live_page)
    box = page.locator('details:has(pre:not(.copied))')
    assert runs.table.reason['failed #1'] in box.locator('summary').inner_text() and not box.locator('pre').is_visible()
    box.locator('summary').click()
    assert box.locator('pre').text_content()==TRACEBACK
    told = '\n'.join(page.locator('.stopped').all_text_contents())
    assert all(f'{n} damaged: {runs.table.reason[n]}' in told for n,k in STATES.items() if k=='damaged')

def test_headline(visit, done_page, done):
    page = visit(done_page)
    metrics = [json.loads((done/f'run {i}/metrics.json').read_text(encoding='utf-8')) for i in range(9)]
    best = max(metrics, key=lambda o: o['best_watched_accuracy']) # of equal ones, the first
    assert page.locator('.fact b').first.inner_text()=='9 of 9'
    assert '9 runs: 9 finished' in page.locator('main > p').first.inner_text()
    assert page.locator('.fact b').all_inner_texts()[1:3]==[
        f"{best['best_watched_accuracy']:.2%}",f"{best['test_accuracy']:.2%}"]

def test_configurations_are_drawn(visit, done_page):
    page = visit(done_page)
    rows = page.locator('#configurations tbody tr')
    assert [o.split(',')[0] for o in rows.locator('th').all_text_contents()]==['norm group','norm batch','norm layer']
    for i,row in enumerate(rows.all()):
        k = 2-i
        accuracies = [(300+40*k+5*j*j)/5 for j in range(3)]
        assert row.locator('td').nth(1).inner_text()==(
            f'{statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}')
        assert row.locator('circle').count()==3 and row.locator('.bar-of').count()==row.locator('.mean').count()==1
    dots = page.locator('#configurations circle').evaluate_all('o => o.map(p => +p.getAttribute("cx"))')
    values = [(300+40*k+5*j*j)/5 for k in (2,1,0) for j in range(3)]
    scale = (dots[0]-dots[-1])/(values[0]-values[-1])
    assert dots==pytest.approx([dots[0]+(v-values[0])*scale for v in values], abs=.15) and scale>0

def test_pictures_in_order(visit, done_page):
    page = visit(done_page)
    assert page.locator('figure:has(img) figcaption').all_text_contents()==['a first picture','b second picture']
    assert all(o>0 for o in page.locator('figure img').evaluate_all('o => o.map(p => p.naturalWidth)'))
    assert 'c broken: can’t read this picture' in page.locator('main').inner_text()

# Sorting

def natural(text): return [int(o) if i%2 else o.casefold() for i,o in enumerate(re.split('([0-9]+)', text))]
KEYS = {
    'run': natural,
    'state': list(dict.fromkeys(
        ['finished','running','trained','waiting','interrupted','failed','damaged','pruned'])).index,
    'norm': natural,
    'time': lambda o: float(o.split()[0])*{'s': 1, 'min': 60, 'h': 3600}[o.split()[1]],
    'reason': natural}

def cell_texts(page, key):
    column = page.locator('#runs thead th').evaluate_all('(o, key) => o.findIndex(p => p.dataset.key === key)', key)
    return page.locator(ROWS).evaluate_all('(o, k) => o.map(p => p.cells[k].textContent.trim())', column)

def number(text): return (0,float(re.match(r'-?[\d.]+', text)[0])) if re.match(r'-?[\d.]', text) else (1,text)

@pytest.mark.parametrize('key', [
    'run','state','norm','bs','lr','seed','epochs','best_epoch','watched_accuracy','test_accuracy',
    '95_%_interval','time','reason'])
def test_each_column_sorts(visit, live_page, key):
    page = visit(live_page)
    assert page.locator('#runs thead th').count()==13
    before,sort_key = names(page),KEYS.get(key, number)
    seen = {}
    for _ in range(2):
        head(page, key).click()
        seen[page.locator('#runs th[aria-sort]').get_attribute('aria-sort')] = cell_texts(page, key)
    filled = [o for o in seen['ascending'] if o]
    assert [sort_key(o) for o in filled]==sorted(map(sort_key, filled)) and len(set(filled))>1
    assert [sort_key(o) for o in seen['descending'] if o]==sorted(map(sort_key, filled), reverse=True)
    assert all(not any(o[len(filled):]) for o in seen.values()) # empty ones come last
    head(page, key).click()
    assert names(page)==before and not page.locator('#runs th[aria-sort]').count() # and back

@pytest.mark.parametrize('key', ['Enter','Space'])
def test_keyboard_sorts(visit, live_page, key):
    page = visit(live_page)
    head(page, 'test_accuracy').focus()
    page.keyboard.press(key)
    texts = [float(o[:-1]) for o in cell_texts(page, 'test_accuracy') if o]
    assert texts==sorted(texts, reverse=True) and texts[0]>texts[-1]
    assert head(page, 'test_accuracy').evaluate('o => o === document.activeElement')

def test_address_keeps_the_order(visit, live_page):
    page = visit(live_page)
    head(page, '95_%_interval').click()
    order = names(page)
    page.reload()
    assert names(page)==order!=names(visit(live_page))
    assert names(visit(live_page, fragment='#'+page.url.split('#')[1]))==order

@pytest.mark.parametrize('fragment', ['#sort=nothing&order=up','#sort=','#runs','#%E0%A4%A&sort=lr&order=sideways'])
def test_odd_addresses_do_no_harm(visit, live_page, fragment):
    assert sorted(names(visit(live_page, fragment=fragment)))==sorted(STATES)

# The contents bar

@pytest.mark.parametrize('name', PAGES)
def test_contents_lead_to_every_section(visit, request, name):
    page = visit(request.getfixturevalue(name), width=375, scripts=False)
    links = page.get_by_role('navigation', name='Contents').get_by_role('link')
    assert links.all_text_contents()==page.locator('section > h2').all_text_contents() and links.count()>3
    for link in links.all():
        link.click()
        assert page.locator(':target > h2').text_content()==link.text_content()
    assert scroll_width(page)<=375

def test_contents_keep_the_order(visit, live_page):
    "With scripts, the address holds the order of the table, and a link leaves it there"
    page = visit(live_page)
    head(page, 'test_accuracy').click()
    order,address = names(page),page.url
    link = page.get_by_role('link', name='What went wrong')
    link.focus()
    page.keyboard.press('Enter')
    assert (names(page),page.url)==(order,address)
    assert page.evaluate("document.activeElement.querySelector('h2').textContent")=='What went wrong'
    assert page.get_by_role('heading', name='What went wrong').bounding_box()['y']<900

def test_a_short_index_needs_no_contents(visit, tmp_path):
    from advtrain.pages.index import write_index
    from conftest import tiny
    write(tmp_path/'a', experiment_toml=tiny().to_toml(), history_csv=lines_of(2))
    page = visit(write_index(tmp_path))
    assert page.locator('section').count()<=3 and not page.locator('nav').count()

# Curves

def lit(page):
    return page.locator('.curve.lit title').evaluate_all(
        'o => [...new Set(o.map(p => p.textContent.split(": best")[0]))]')

def test_curves_are_the_histories(visit, done_page, done):
    page = visit(done_page)
    def path(name, chart):
        return (page.locator(f'.chart >> nth={chart}')
            .locator('.curve', has_text=re.compile(f'^{name}: ')).locator('path').get_attribute('d'))
    for chart,column in enumerate(('valid_acc','valid_loss')):
        points = {
            o.name: (
                [float(v) for v in re.findall(r',(-?[\d.]+)', path(o.name, chart))],
                [float(r[column]) for r in csv.DictReader(open(o/'history.csv', encoding='utf-8'))])
            for o in done.glob('run*')}
        ys,values = (sum((o[k] for o in points.values()), []) for k in (0,1))
        assert abs(stats.linregress(values, ys).rvalue)==pytest.approx(1, abs=1e-4)
        assert stats.linregress(values, ys).slope<0 # up is more

def test_seeds_share_a_colour(visit, done_page):
    page = visit(done_page)
    colours = page.locator('.chart').first.locator('.curve').evaluate_all('o => o.map(p => getComputedStyle(p).stroke)')
    assert len(colours)==9 and len(set(colours))==3 and all(len(set(colours[3*i:3*i+3]))==1 for i in range(3))

def test_rows_light_their_curves(visit, live_page):
    page = visit(live_page)
    assert lit(page)==[]
    row_of(page, 'plain-10').hover()
    assert lit(page)==['plain-10'] and page.locator('#reading').text_content().startswith('plain-10: best')
    dimmed,bright = (
        page.locator(o).first.evaluate('o => +getComputedStyle(o).opacity') for o in ('.curve:not(.lit)','.curve.lit'))
    assert dimmed<.5 and bright==1
    page.mouse.move(0, 0)
    row_of(page, 'pruned').locator('button').focus()
    assert lit(page)==['pruned']

def test_configuration_lights_its_seeds(visit, done_page):
    page = visit(done_page)
    page.locator('#configurations tbody tr').first.hover()
    assert lit(page)==['run 6','run 7','run 8']
    assert page.locator(f'{ROWS}.lit').count()==3

def test_curve_lights_its_row(visit, live_page):
    page = visit(live_page)
    circle = page.locator('.chart').first.locator('.curve', has_text='pruned: best')
    x,y = circle.evaluate(
        "o => { const c = o.querySelector('circle'), "
        "p = new DOMPoint(+c.getAttribute('cx'), +c.getAttribute('cy'))"
        ".matrixTransform(o.closest('.chart').getScreenCTM()); scrollTo(0, p.y - 300); return [p.x, 300] }")
    page.mouse.move(x, y)
    page.wait_for_selector('.curve.lit')
    assert lit(page)==['pruned'] and row_of(page, 'pruned').evaluate('o => o.classList.contains("lit")')

def test_swatch_keeps_curves_lit(visit, live_page):
    page = visit(live_page)
    button = row_of(page, 'plain-2').locator('button')
    button.click()
    row_of(page, 'pruned').locator('button').focus()
    assert set(lit(page))=={'plain-2','pruned'} and button.get_attribute('aria-pressed')=='true'
    assert 'plain-2' in button.get_attribute('aria-label')

def test_a_diverged_run_leaves_the_frame(visit, live_page):
    page = visit(live_page)
    loss = page.locator('.chart').nth(1)
    ys = loss.locator('.curve', has_text='plain-2: best').locator('path').get_attribute('d')
    ys = [float(o) for o in re.findall(r',(-?[\d.]+)', ys)]
    assert max(ys)-min(ys)>3 and 'above the frame are not shown' in page.locator('figure').nth(1).inner_text()

# Reloading

def reloads(page, milliseconds):
    "Check whether the page reloads itself within this time"
    page.evaluate('window.before = true')
    page.clock.run_for(milliseconds)
    page.wait_for_timeout(300) # what is about to happen, happens
    return not page.evaluate('window.before')

def wait_until_reloaded(page, milliseconds=11_000):
    "Let this time pass, and wait until the page has reloaded"
    page.evaluate('window.before = true')
    page.clock.run_for(milliseconds)
    page.wait_for_function("!window.before && document.readyState=='complete'")

def test_only_a_live_page_reloads_itself(visit, live_page, done_page):
    page = visit(done_page, clock=True)
    assert not page.locator('#live').count() and not reloads(page, 60_000)
    page = visit(live_page, clock=True)
    assert 'reloads every 10 seconds' in page.locator('#live').inner_text()
    assert not reloads(page, 9_000)
    wait_until_reloaded(page, 2_000)

def test_pause(visit, live_page):
    page = visit(live_page, clock=True)
    page.locator('#live input').focus()
    page.keyboard.press('Space')
    assert page.locator('#live').inner_text().startswith('Live') and 'Paused' in page.locator('#live').inner_text()
    assert not reloads(page, 60_000)
    page.reload()
    assert page.locator('#live input').is_checked() and not reloads(page, 60_000)
    page.locator('#live input').click()
    wait_until_reloaded(page)

def test_nothing_is_lost_when_it_reloads(visit, live_page):
    page = visit(live_page, clock=True)
    head(page, 'test_accuracy').click()
    page.locator('details:has(pre:not(.copied)) summary').click()
    row_of(page, 'plain-2').locator('button').click()
    row_of(page, 'plain-10').locator('a').focus()
    place = page.locator('.scroll:has(#runs)').evaluate(
        'o => { o.scrollTo(40, 30); return [o.scrollLeft, o.scrollTop] }')
    page.evaluate('scrollTo(0, 700)')
    order = names(page)
    wait_until_reloaded(page)
    assert names(page)==order and page.evaluate('Math.round(scrollY)')==700
    assert page.locator('.scroll:has(#runs)').evaluate('o => [o.scrollLeft, o.scrollTop]')==place==[40,30]
    assert page.locator('details:has(pre:not(.copied))').evaluate('o => o.open')
    assert set(lit(page))=={'plain-2','plain-10'}
    assert page.evaluate('document.activeElement.textContent')=='plain-10'

def test_what_is_new_is_shown(visit, done, tmp_path):
    from advtrain.runs.experiment import Experiment
    from advtrain.runs.folder import Runs
    from advtrain.pages.index import write_index
    shutil.copytree(done/'run 1', tmp_path/'run 1')
    exps = [Experiment.from_toml(tmp_path/'run 1/experiment.toml').replace(name=f'run {i}') for i in (1,2)]
    page = visit(write_index(Runs(tmp_path, exps)), clock=True)
    assert cell_texts(page, 'state')==['finished','waiting']
    shutil.copytree(done/'run 2', tmp_path/'run 2')
    write_index(Runs(tmp_path, exps))
    wait_until_reloaded(page)
    assert cell_texts(page, 'state')==['finished','finished'] and not page.locator('#live').count()
