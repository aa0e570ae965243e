"""Searches, whatever dies meanwhile."""
import json,os,shutil,socket,subprocess
from pathlib import Path

import pandas as pd
import pytest

from conftest import tiny
from processes import Started,wait_for

EXP = tiny(name='tiny', width=4, bs=15, epochs=4, n_images=1, layers=['layer4'])
SPACE = dict(lr=(1e-3,1e-1,'log'), norm=['layer','batch'])

def search(data, out, storage):
    "Search in five trials, and print where the best one is"
    from advtrain.launch.search import search
    print(search(EXP, SPACE, data, out, 5, storage, pruner='NopPruner', heartbeat=1).folder)

def search_with_a_death(data, out, storage=None):
    "Two processes search, and one is killed in its second trial; gives the survivor's output and the study's trials"
    import optuna
    victim = Started(search, data, out, storage, hold='trial-000[1-4]')
    wait_for(lambda: len(list(out.glob('trial-*/history.csv')))>0)
    other = Started(search, data, out, storage)
    victim.wait_until_held()
    wait_for(lambda: len(list(out.glob('trial-*/history.csv')))>2) # a third trial, beside the one that stands still
    victim.kill()
    return other.ended(),optuna.load_study(study_name='tiny', storage=storage or f"sqlite:///{out/'study.db'}").trials

def check_search(out, printed, trials):
    retried = [n for o in trials for n in o.system_attrs.get('retry_history', [])]
    by_state = {s: [o for o in trials if o.state.name==s] for s in ('COMPLETE','FAIL')}
    assert len(trials)==6 and len(by_state['COMPLETE'])==5
    assert [o.number for o in by_state['FAIL']]==retried # one was killed, and run again
    folders = [o.user_attrs['folder'].partition(':')[2] for o in by_state['COMPLETE']]
    assert len(set(folders))==5
    for o,folder in zip(by_state['COMPLETE'], folders):
        history = pd.read_csv(Path(folder)/'history.csv')
        assert history.epoch.tolist()==[1,2,3,4] and o.value==history.valid_acc.max()
        assert o.intermediate_values=={r.epoch: r.valid_acc for r in history.itertuples()}
    best = max(by_state['COMPLETE'], key=lambda o: o.value)
    finished = [o.parent for o in out.glob('*/SHA256SUMS')]
    assert len(finished)==1
    assert json.loads((finished[0]/'metrics.json').read_text())['best_watched_accuracy']==best.value
    assert printed.splitlines()[-1]==str(finished[0])

def test_search_survives_the_death_of_a_process(few, tmp_path):
    pytest.importorskip('optuna')
    check_search(tmp_path/'search', *search_with_a_death(few, tmp_path/'search'))

@pytest.fixture
def postgres(tmp_path):
    "The URL of a PostgreSQL server of our own"
    pytest.importorskip('pg8000')
    if not shutil.which('initdb') or not shutil.which('pg_ctl'): pytest.skip('PostgreSQL is not installed')
    user = 'postgres' if os.getuid()==0 else None
    folder = Path(subprocess.run(['mktemp','-d'], capture_output=True, text=True, check=True).stdout.strip())
    if user: shutil.chown(folder, user)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    def call(*words):
        subprocess.run([str(o) for o in words], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    call('initdb', '-D', folder/'db', '-U', 'advtrain', '-A', 'trust')
    call('pg_ctl', '-D', folder/'db', '-o', f'-p {port} -k {folder}', '-l', folder/'log', '-w', 'start')
    try: yield f'postgresql+pg8000://advtrain@127.0.0.1:{port}/postgres'
    finally:
        call('pg_ctl', '-D', folder/'db', '-m', 'immediate', '-w', 'stop')
        shutil.rmtree(folder)

def test_search_in_postgresql(few, tmp_path, postgres):
    pytest.importorskip('optuna')
    check_search(tmp_path/'search', *search_with_a_death(few, tmp_path/'search', postgres))
