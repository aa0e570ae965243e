"""Many runs and searches, whatever dies meanwhile."""
import json,os,shutil,signal,socket,subprocess,sys,time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from conftest import tiny

EXPS = [tiny(name=n, width=4, epochs=3, n_images=2, **changes) for n,changes in dict(layer={}, batch=dict(norm='batch'), broken=dict(layers=['layer9'])).items()]
GRID = """
import sys
from advtrain.experiment import Experiment,run_many
data,out,jobs,retry,*tomls = sys.argv[1:]
if __name__=='__main__': run_many([Experiment.from_toml(o) for o in tomls], data, out, int(jobs), retry=='retry')
"""

def start(code, *args):
    "Start a Python process that computes with one thread"
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)], env=os.environ | {'OMP_NUM_THREADS': '1'}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def start_grid(sample, out, jobs=1, retry='', exps=EXPS): return start(GRID, sample, out, jobs, retry, *[o.to_toml() for o in exps])

def ended(process):
    "Output and errors of a process that must succeed"
    out,err = process.communicate(timeout=300)
    assert process.returncode==0, err
    return out

def wait_for(what, seconds=120):
    "Wait until `what()` is true"
    end = time.monotonic()+seconds
    while not (res := what()):
        assert time.monotonic()<end, 'waited in vain'
        time.sleep(.05)
    return res

def results(out, exps=EXPS):
    "What runs came to, without how long it took"
    from advtrain.overview import Runs
    return Runs(out, exps).table.drop(columns='seconds')

def changed_at(out): return {o: o.stat().st_mtime_ns for o in out.rglob('*') if o.is_file() and o.name!='index.html' and '.lock' not in o.name}

@pytest.fixture(scope='module')
def whole(sample, tmp_path_factory):
    "The folder of a call that nothing interrupted, and what it printed"
    out = tmp_path_factory.mktemp('many')/'whole'
    return out,ended(start_grid(sample, out))

def test_one_failure_does_not_stop_the_rest(whole):
    out,printed = whole
    table = results(out)
    assert table.state.tolist()==['finished','finished','failed'] and 'did you mean' in table.reason['broken']
    assert [o.split(':')[0] for o in printed.splitlines()]==['layer','batch','broken','3 runs']
    page = (out/'index.html').read_text()
    assert 'did you mean' in page and 'layer/report.html' in page

def test_a_second_call_changes_nothing(whole, sample):
    before = changed_at(whole[0])
    ended(start_grid(sample, whole[0]))
    assert changed_at(whole[0])==before

def test_killed_in_the_middle_and_called_again(whole, sample, tmp_path):
    process = start_grid(sample, out := tmp_path/'killed')
    wait_for((out/'batch'/'history.csv').exists)
    process.kill()
    process.communicate()
    assert results(out).state.tolist()==['finished','interrupted','waiting']
    ended(start_grid(sample, out))
    pd.testing.assert_frame_equal(results(out), results(whole[0]))

def test_several_at_once_when_a_run_dies_and_when_the_caller_dies(whole, sample, tmp_path):
    process,seen = start_grid(sample, out := tmp_path/'jobs', jobs=2, exps=(exps := [EXPS[0], EXPS[2], tiny(name='last', width=4, epochs=3, n_images=2)])),set()
    def _children():
        found = psutil.Process(process.pid).children()
        seen.update(found)
        return found
    wait_for((out/'layer'/'history.csv').exists)
    first = min(_children(), key=lambda o: o.create_time())
    first.kill()
    wait_for((out/'last'/'history.csv').exists)
    running = [o for o in _children() if o!=first]
    process.kill()
    process.communicate()
    assert running and not psutil.wait_procs(running, timeout=20)[1] # they end with their caller
    table = results(out, exps)
    assert table.state['layer']=='failed' and 'SIGKILL' in table.reason['layer'] and table.state['broken']=='failed' and table.state['last']!='finished'
    ended(start_grid(sample, out, jobs=2, retry='retry', exps=exps))
    pd.testing.assert_frame_equal(results(out, EXPS[:1]), results(whole[0], EXPS[:1]))
    assert results(out, exps).state.tolist()==['finished','failed','finished']

def test_two_callers_share_the_runs(sample, tmp_path):
    exps = [tiny(name=f'{i}', width=4, epochs=2, n_images=2, seed=i) for i in range(2)]
    for process in [start_grid(sample, tmp_path/'shared', exps=exps) for _ in range(2)]: ended(process)
    assert results(tmp_path/'shared', exps).state.tolist()==['finished']*2

SEARCH = """
import sys,optuna
from advtrain.experiment import Experiment
from advtrain.search import search
toml,data,out,storage = sys.argv[1:]
best = search(Experiment.from_toml(toml), dict(lr=(1e-3,1e-1,'log'), norm=['layer','batch']), data, out, 5, storage or None, pruner='NopPruner', heartbeat=1)
print(best.folder)
"""

def search_with_a_death(sample, out, storage=''):
    "Two processes search, and one of them is killed in an epoch; gives the survivor's output and the study's trials"
    import optuna
    args = tiny(name='tiny', width=4, epochs=4, n_images=2).to_toml(),sample,out,storage
    url = storage or f"sqlite:///{out/'study.db'}"
    victim = start(SEARCH, *args)
    wait_for(lambda: len(list(out.glob('trial-*/history.csv')))>0)
    other = start(SEARCH, *args)
    wait_for(lambda: len([o for o in out.glob('trial-*/history.csv')])>1)
    assert victim.poll() is None
    victim.kill()
    victim.communicate()
    printed = ended(other)
    return printed,optuna.load_study(study_name='tiny', storage=url).trials

def check_search(out, printed, trials):
    retried = [n for o in trials for n in o.system_attrs.get('retry_history', [])]
    by_state = {s: [o for o in trials if o.state.name==s] for s in ('COMPLETE','FAIL')}
    assert len(trials)==6 and len(by_state['COMPLETE'])==5 and [o.number for o in by_state['FAIL']]==retried # one was killed, and run again
    folders = [o.user_attrs['folder'].partition(':')[2] for o in by_state['COMPLETE']]
    assert len(set(folders))==5
    for o,folder in zip(by_state['COMPLETE'], folders):
        history = pd.read_csv(Path(folder)/'history.csv')
        assert history.epoch.tolist()==[1,2,3,4] and o.value==history.valid_acc.max()
        assert o.intermediate_values=={r.epoch: r.valid_acc for r in history.itertuples()}
    best = max(by_state['COMPLETE'], key=lambda o: o.value)
    finished = [o.parent for o in out.glob('*/SHA256SUMS')]
    assert len(finished)==1 and json.loads((finished[0]/'metrics.json').read_text())['best_watched_accuracy']==best.value
    assert printed.splitlines()[-1]==str(finished[0])

def test_search_survives_the_death_of_a_process(sample, tmp_path):
    pytest.importorskip('optuna')
    check_search(tmp_path/'search', *search_with_a_death(sample, tmp_path/'search'))

@pytest.fixture
def postgres(tmp_path):
    "The URL of a PostgreSQL server of our own"
    pytest.importorskip('pg8000')
    if not shutil.which('initdb') or not shutil.which('pg_ctl'): pytest.skip('PostgreSQL is not installed')
    user,folder = ('postgres' if os.getuid()==0 else None),Path(subprocess.run(['mktemp','-d'], capture_output=True, text=True, check=True).stdout.strip())
    if user: shutil.chown(folder, user)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    def call(*words): subprocess.run([str(o) for o in words], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    call('initdb', '-D', folder/'db', '-U', 'advtrain', '-A', 'trust')
    call('pg_ctl', '-D', folder/'db', '-o', f'-p {port} -k {folder}', '-l', folder/'log', '-w', 'start')
    try: yield f'postgresql+pg8000://advtrain@127.0.0.1:{port}/postgres'
    finally:
        call('pg_ctl', '-D', folder/'db', '-m', 'immediate', '-w', 'stop')
        shutil.rmtree(folder)

def test_search_in_postgresql(sample, tmp_path, postgres):
    pytest.importorskip('optuna')
    check_search(tmp_path/'search', *search_with_a_death(sample, tmp_path/'search', postgres))
