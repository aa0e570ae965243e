"""Many runs, whatever dies meanwhile."""
import pandas as pd
import psutil
import pytest

from conftest import tiny
from processes import HANGS,Started,wait_for

SMALL = dict(bs=15, epochs=3, n_images=1, layers=['layer4'])
EXPS = [tiny(name=n, **SMALL | changes) for n,changes in dict(
    layer={}, batch=dict(norm='batch'), broken=dict(layers=['layer9']), group=dict(norm='group')).items()]

def start_grid(data, out, jobs=1, retry=False, exps=EXPS, hold=None):
    from advtrain.launch.many import run_many
    return Started(run_many, exps, data, out, jobs, retry, hold=hold)

def results(out, exps=EXPS):
    "What runs came to, without how long it took"
    from advtrain.runs.folder import Runs
    return Runs(out, exps).table.drop(columns='seconds')

def changed_at(out):
    return {
        o: o.stat().st_mtime_ns for o in out.rglob('*')
        if o.is_file() and o.name!='index.html' and '.advtrain' not in o.parts}

@pytest.fixture(scope='module')
def whole(few, tmp_path_factory):
    "The folder of a call that nothing interrupted, and what it printed"
    out = tmp_path_factory.mktemp('many')/'whole'
    return out,start_grid(few, out).ended()

def test_one_failure_does_not_stop_the_rest(whole):
    out,printed = whole
    table = results(out)
    assert table.state.tolist()==['finished','finished','failed','finished']
    assert 'did you mean' in table.reason['broken']
    assert [o.split(':')[0] for o in printed.splitlines()]==['layer','batch','broken','group','4 runs']
    page = (out/'index.html').read_text()
    assert 'did you mean' in page and 'layer/report.html' in page

def test_a_second_call_changes_nothing(whole, few):
    before = changed_at(whole[0])
    start_grid(few, whole[0]).ended()
    assert changed_at(whole[0])==before

def test_killed_in_the_middle_and_called_again(whole, few, tmp_path):
    grid = start_grid(few, out := tmp_path/'killed', hold='batch')
    grid.wait_until_held()
    grid.kill()
    assert results(out).state.tolist()==['finished','interrupted','waiting','waiting']
    assert results(out).epochs['batch']==1
    start_grid(few, out).ended()
    pd.testing.assert_frame_equal(results(out), results(whole[0]))

def test_several_at_once_when_a_run_dies_and_when_the_caller_dies(whole, few, tmp_path):
    exps = [EXPS[0], EXPS[2], tiny(name='last', **SMALL)]
    grid = start_grid(few, out := tmp_path/'jobs', jobs=2, exps=exps)
    def _children(): return psutil.Process(grid.pid).children()
    wait_for((out/'layer'/'history.csv').exists)
    first = min(_children(), key=lambda o: o.create_time())
    first.kill()
    wait_for((out/'last'/'history.csv').exists)
    running = [o for o in _children() if o!=first]
    grid.kill()
    assert running and not psutil.wait_procs(running, timeout=HANGS)[1] # they end with their caller
    table = results(out, exps)
    assert table.state['layer']=='failed' and 'SIGKILL' in table.reason['layer']
    assert table.state['broken']=='failed' and table.state['last']!='finished'
    start_grid(few, out, jobs=3, retry=True, exps=exps).ended()
    pd.testing.assert_frame_equal(results(out, EXPS[:1]), results(whole[0], EXPS[:1]))
    assert results(out, exps).state.tolist()==['finished','failed','finished']

def test_two_callers_share_the_runs(few, tmp_path):
    exps = [tiny(name=f'{i}', seed=i, **SMALL) for i in range(2)]
    for grid in [start_grid(few, tmp_path/'shared', exps=exps) for _ in range(2)]: grid.ended()
    assert results(tmp_path/'shared', exps).state.tolist()==['finished']*2
