"""The live page of a run, in a browser while it trains; and a file `stop`, which ends a run as if it had been planned
so."""
import contextlib,io,json,os,re
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import axe_faults,little_drawn,quiet_run,scroll_width,tiny
from processes import Started

STATES = 'running','testing','interrupted','failed'

def row(epoch):
    "A row of a history"
    return dict(epoch=epoch, train_acc=epoch/50, train_loss=1/epoch, valid_acc=epoch/40, valid_loss=1/epoch, valid_n=60,
        seconds=3.)

def text_of(state='running', epochs=7, names=('Coat','Shirt'), **changes):
    "A page with everything on it"
    from advtrain.pages.html import picture_url
    from advtrain.pages.live import live_page
    from advtrain.pages.matrix import counts_or_pairs
    picture = picture_url(Image.fromarray(np.full((16,16,3), 90, np.uint8)))
    image = dict(picture=picture, map=picture, actual=names[0], predicted=names[1], p=.93, loss=4.2, file='a.png')
    classes = np.random.default_rng(0).integers(0, len(names), (2,60))
    numbers = dict(name=names[0], rows=[row(i+1) for i in range(epochs)], n_epoch=40, state=state, every=2,
        waits=('The learning rate is 0.01.',), worst=(image,)*8,
        confusion=counts_or_pairs(names, *classes), seen='Epoch 7: 60 validation images.')
    return live_page(**numbers | changes)

@pytest.fixture(scope='session')
def pages(tmp_path_factory):
    "A page in each state, and one of 1,000 classes"
    folder = tmp_path_factory.mktemp('live pages')
    for o in STATES: (folder/f'{o}.html').write_text(text_of(o), encoding='utf-8')
    many = text_of(names=[f'class {i}' for i in range(1000)])
    (folder/'many.html').write_text(many, encoding='utf-8')
    return folder

@pytest.mark.parametrize('scheme,width', [('light',1280),('dark',1280),('light',375),('dark',375)])
@pytest.mark.parametrize('name', [*STATES,'many'])
def test_axe_finds_nothing_serious(open_page, pages, name, scheme, width):
    page = open_page(pages/f'{name}.html', width=width, color_scheme=scheme)
    assert not axe_faults(page)
    assert scroll_width(page)<=width

def test_hostile_names_are_text(open_page, hostile_names, tmp_path):
    file = tmp_path/'live.html'
    for name in hostile_names:
        file.write_text(text_of('failed', names=(name,'Shirt'), reason=f'ValueError: {name}'), encoding='utf-8')
        page = open_page(file, width=375)
        assert page.locator('h1').text_content()==name and page.title()!='owned'
        assert page.locator('#worst bdi').first.text_content()==name
        assert name in page.locator('h1 + p').text_content()
        assert scroll_width(page)<=375

def replace(file, text):
    "Write a page as a run does"
    from advtrain.files.own_files import OwnFiles
    OwnFiles(file.parent).write(file.name, text)

@pytest.mark.parametrize('scripts', [True,False])
def test_an_open_page_shows_what_is_new(open_page, tmp_path, scripts):
    file = tmp_path/'live.html'
    replace(file, text_of())
    page = open_page(file, scripts=scripts)
    assert page.locator('h1 + p').text_content()=='Epoch 8 of 40 is training.'
    if scripts: page.evaluate('scrollTo(0, 700)')
    replace(file, text_of(epochs=8))
    page.get_by_text('Epoch 9 of 40 is training.').wait_for()
    if scripts: assert page.evaluate('Math.round(scrollY)')==700
    replace(file, text_of('interrupted', epochs=8))
    page.get_by_text('Interrupted in epoch 9 of 40.').wait_for()
    assert not page.locator('#live').count() and not page.locator('meta[http-equiv=refresh]').count()

def test_a_paused_page_waits(open_page, tmp_path):
    file = tmp_path/'live.html'
    replace(file, text_of())
    page = open_page(file, clock=True)
    page.locator('#live input').click()
    replace(file, text_of(epochs=8))
    page.clock.run_for(10_000)
    page.reload()
    assert page.get_by_text('Epoch 9 of 40').count() and page.locator('#live input').is_checked()
    replace(file, text_of(epochs=9))
    page.clock.run_for(10_000)
    page.wait_for_timeout(300) # what is about to happen, happens
    assert page.get_by_text('Epoch 9 of 40').count() and 'Paused' in page.locator('#live').inner_text()
    page.locator('#live input').click()
    page.clock.run_for(3_000)
    page.get_by_text('Epoch 10 of 40 is training.').wait_for()

# With a run

@contextlib.contextmanager
def looking(look):
    "Call a function of the live page's callback when each validation begins"
    from advtrain.launch.live_page import LivePage
    before_validate = LivePage.before_validate
    def _look(self):
        if self.begun: look(self)
        before_validate(self)
    with patch.object(LivePage, 'before_validate', _look), little_drawn(): yield

def test_a_page_that_is_open_leads_to_the_report(open_page, few, tmp_path):
    seen = []
    def _look(cb):
        if not seen: seen.append(open_page(tmp_path/'run/live.html'))
        else: seen[0].get_by_text('Epoch 2 of 2 is training.').wait_for()
    with looking(_look): quiet_run(tiny(), few, tmp_path/'run')
    page, = seen
    page.wait_for_url('**/report.html')
    assert page.locator('h1').text_content()=='tiny' and page.locator('#cards > li').count()

def asks(epoch, name=None):
    "A function that asks a run for its end in this epoch"
    def _ask(cb):
        if len(cb.epoch_log.rows)==epoch-1 and name in (None,cb.exp.name): (cb.own.folder/'stop').touch()
    return looking(_ask)

STOPPED = 'stopped after epoch 2 of 4: a file named stop asked for it'

def weights(folder):
    from advtrain.files.tensors import load_tensors
    return load_tensors(folder/'weights.safetensors')[0]

def test_a_stopped_run_is_one_that_was_planned_so(few, tmp_path):
    from advtrain.runs.checksums import is_finished
    from advtrain.runs.status import read_status
    with asks(2): stopped = quiet_run(tiny(epochs=4), few, tmp_path/'stopped')
    with little_drawn(): planned = quiet_run(tiny(epochs=2), few, tmp_path/'planned')
    assert is_finished(stopped.folder) and stopped.metrics['stopped']==STOPPED and not stopped.problems
    assert (stopped.folder/'stop').exists() # the user's file
    assert stopped.predictions.equals(planned.predictions)
    assert stopped.history.drop(columns='seconds').equals(planned.history.drop(columns='seconds'))
    for k,v in weights(planned.folder).items(): assert torch.equal(weights(stopped.folder)[k], v)
    assert f'Training {STOPPED}.' in (stopped.folder/'report.html').read_text(encoding='utf-8')
    seen = read_status(stopped.folder)
    assert (seen.state,seen.reason,seen.page)==('finished',STOPPED,'report.html')
    again = quiet_run(tiny(epochs=4), few, tmp_path/'stopped') # with `resume`
    assert again.metrics==stopped.metrics

@pytest.mark.parametrize('kept', [True,False])
def test_killed_between_the_last_epoch_and_the_test(few, tmp_path, kept):
    "The decision is in the checkpoint: whether or not the file is still there, the run ends after the same epoch"
    from advtrain.launch.runner import Runner
    from advtrain.pages.index import write_index
    with asks(2), patch.object(Runner, 'finish', side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        quiet_run(tiny(epochs=4), few, tmp_path/'run')
    text = (tmp_path/'run/live.html').read_text(encoding='utf-8')
    assert 'Interrupted' in text and 'refresh' not in text.split('<style>')[0]
    assert 'href="run/live.html"' in write_index(tmp_path).read_text(encoding='utf-8')
    if not kept: (tmp_path/'run/stop').unlink()
    with little_drawn(): run = quiet_run(tiny(epochs=4), few, tmp_path/'run')
    assert len(run.history)==2 and run.metrics['stopped']==STOPPED
    assert 'href="run/report.html"' in write_index(tmp_path).read_text(encoding='utf-8')

def test_each_run_of_a_grid_has_its_file(few, tmp_path):
    from advtrain.launch.many import run_many
    exps = [tiny(name=o, epochs=4) for o in 'ab']
    with asks(2, 'a'), contextlib.redirect_stdout(io.StringIO()): runs = run_many(exps, few, tmp_path/'grid')
    assert runs.table.state.tolist()==['finished']*2
    assert runs.table.epochs.tolist()==[2,4] and runs.table.reason.tolist()==[STOPPED,'']

def test_a_page_that_cannot_be_written_ends_no_run(few, tmp_path, capsys):
    from advtrain.files.own_files import OwnFiles
    from advtrain.launch.runner import run_experiment
    write = OwnFiles.write
    def _write(self, name, *parts):
        if name=='live.html': raise OSError('cannot write live.html: No space left on device')
        return write(self, name, *parts)
    with patch.object(OwnFiles, 'write', _write), little_drawn(): run = run_experiment(tiny(), few, tmp_path/'run')
    assert len(run.history)==2 and not run.problems and not (tmp_path/'run/live.html').exists()
    assert capsys.readouterr().out.count('The run goes on')==1

def test_somebody_elses_page_is_in_the_way(few, tmp_path):
    with looking(lambda cb: 1/0), pytest.raises(ZeroDivisionError): quiet_run(tiny(), few, tmp_path/'run')
    assert 'Failed in epoch 1 of 2. ZeroDivisionError' in (tmp_path/'run/live.html').read_text(encoding='utf-8')
    (tmp_path/'run/live.html').write_text('mine')
    with pytest.raises(FileExistsError, match='live.html is in the way'): quiet_run(tiny(), few, tmp_path/'run')
    assert (tmp_path/'run/live.html').read_text()=='mine'

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='the processes are forked')
def test_two_processes_write_one_page_and_stop_together(some, tmp_path):
    from ranks import tell
    res = json.loads(Started(tell, 'followed', some, tmp_path, daemon=False).ended().splitlines()[-1])
    assert [o['epochs'] for o in res]==[2,2] and [o['stopped'] for o in res]==[STOPPED]*2
    text = (tmp_path/'before the end.html').read_text(encoding='utf-8')
    assert 'Training is over. The network is being tested. Stopped after epoch 2 of 4' in text
    assert sum(map(int, re.findall(r'<span class="count[^>]*>(\d+)<', text)))==60 # all validation images
    assert sum(map(int, re.findall(r'<span class="count right[^>]*>(\d+)<', text)))==res[0]['correct']
    shown = re.findall(r'loss [\d.]+ · <bdi>([^<]*)', text)
    assert len(shown)==text.count('alt="Heat map for')==8
    assert set(shown)==set(res[0]['worst']) # of both processes
    assert 'url=report.html' in (tmp_path/'run/live.html').read_text(encoding='utf-8')
