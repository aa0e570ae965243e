"""A notebook run by Jupyter: what its cells hold once it's saved."""
import re,textwrap

import pytest

nbclient = pytest.importorskip('nbclient', reason='nbclient is not installed')
pytest.importorskip('ipykernel', reason='ipykernel is not installed')
import nbformat # noqa: E402 - it comes with nbclient

CELLS = dict(
    learner='''
        from advtrain.all import *
        import matplotlib.pyplot as plt
        def make(watch='valid', **kwargs):
            dls = image_dls(fashion_sample(few=True), size=8, bs=50, watch=watch)
            return resnet_learner(dls, width=4, lr=.01, precision='fp32', **kwargs)
        class Stop(RunCallback):
            passive = True
            def before_validate(self):
                if self.epoch==2: raise KeyboardInterrupt
        learn = make()''',
    one='learn.fit(3)',
    two='learn.fit(2); learn.fit(1)',
    no_bar='with learn.no_bar(): learn.fit(2)',
    validate='learn.validate()',
    live='learn.fit(2, live=True); print(plt.get_fignums())',
    stopped='''
        try: make('test').fit(5, live=True, cbs=[Checkpoint('run'), Stop()])
        except KeyboardInterrupt as e: print(e)''',
    resumed="make('test').resume(4, 'run', live=True)",
    early='make(stop_after=1, patience=9).fit(9, lr=0.)',
)

@pytest.fixture(scope='module')
def outputs(tmp_path_factory):
    "Cell -> its saved outputs"
    folder = tmp_path_factory.mktemp('notebook')
    file = folder/'saved.ipynb'
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(o)) for o in CELLS.values()])
    with pytest.MonkeyPatch.context() as m:
        for k in ('JUPYTER_RUNTIME_DIR','JUPYTER_CONFIG_DIR','IPYTHONDIR'): m.setenv(k, str(folder/k))
        m.setenv('MPLBACKEND', 'module://matplotlib_inline.backend_inline') # as Jupyter sets it
        where = dict(metadata=dict(path=folder))
        nbclient.NotebookClient(nb, timeout=600, kernel_name='python3', resources=where).execute()
    nbformat.write(nb, file)
    return dict(zip(CELLS, (o.outputs for o in nbformat.read(file, 4).cells)))

def tables(outputs):
    "The lines of each table in plain text; in HTML it has the same rows, and the same lines below"
    both = [(o.data['text/html'], o.data['text/plain'].split('\n')) for o in outputs if '<table' in str(o.get('data'))]
    for html,text in both:
        n = html.count('<tr>') # rows without the header
        assert [o.split()[0] for o in text[1:n+1]]==re.findall(r'<tr>\s*<td>(\d+)</td>', html)
        assert text[n+1:]==[o for o in html.partition('<p>')[2].removesuffix('</p>').split('<br>') if o]
    return [text for _,text in both]

def firsts(outputs): return [[line.split()[0] for line in o] for o in tables(outputs)]

def pictures(outputs): return [o.data['text/plain'] for o in outputs if 'image/png' in o.get('data', {})]

def printed(outputs): return ''.join(o.text for o in outputs if o.output_type=='stream')

def test_a_fit_is_one_table(outputs):
    (header,*rows,said,best), = tables(outputs['one'])
    assert header.split()=='epoch train_loss valid_loss train_acc valid_acc lr time'.split()
    assert [o.split()[0] for o in rows]==['1','2','3'] and all(len(o.split())==7 for o in rows)
    assert said.startswith('training in fp32') and best.startswith('Best Valid Acc ')
    assert 'Train Loss' not in str(outputs['one']) and not printed(outputs['one']) and not pictures(outputs['one'])
    assert len(str(outputs['one']))<5000

def test_each_fit_has_its_table(outputs):
    assert firsts(outputs['two'])==[['epoch','4','5','Best'], ['epoch','6','Best']]

def test_without_bars_there_are_lines(outputs):
    assert not tables(outputs['no_bar']) and printed(outputs['no_bar']).count('Train Loss')==2
    assert not tables(outputs['validate'])

def test_live_curves_are_one_picture(outputs):
    assert firsts(outputs['live'])==[['epoch','9','10','Best']]
    assert pictures(outputs['live'])==['curves up to epoch 10']
    assert printed(outputs['live'])=='[]\n' # all figures are closed

def test_an_interrupted_fit_keeps_table_and_picture(outputs):
    assert firsts(outputs['stopped'])==[['epoch','1','2','training']]
    assert pictures(outputs['stopped'])==['curves up to epoch 2']
    assert printed(outputs['stopped']).startswith('stopped in epoch 3 of 5. ')

def test_a_resumed_fit_has_the_earlier_rows(outputs):
    assert firsts(outputs['resumed'])==[['epoch','1','2','3','4','training','Best']]
    assert tables(outputs['resumed'])[0][1:3]==tables(outputs['stopped'])[0][1:3]
    assert 'test_loss' in tables(outputs['resumed'])[0][0]
    assert pictures(outputs['resumed'])==['curves up to epoch 4']

def test_the_end_is_explained(outputs):
    (*_,why,best), = tables(outputs['early'])
    assert why=='stopped after epoch 2 of 9: no lower validation loss since epoch 1' and best.startswith('Best ')
