"""A run can be killed at any moment."""
import json,os,shutil,subprocess,sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='the attempts are forked')

@pytest.fixture(scope='module')
def few(sample, tmp_path_factory):
    "Three classes of the sample with 50 images each"
    root = tmp_path_factory.mktemp('few')
    for split,n in (('train',50),('test',5)):
        for c in ('Bag','Coat','Sandal'):
            (root/split/c).mkdir(parents=True)
            for f in sorted((sample/split/c).iterdir())[:n]: shutil.copy(f, root/split/c)
    return root

def test_killed_runs_are_the_run_that_was_not_killed(few, tmp_path):
    "30 kills in steps, in validation, in the write of a checkpoint, and whenever: nothing differs, and no file is damaged"
    res = subprocess.run([sys.executable, '-W', 'ignore', Path(__file__).with_name('killed_run.py'), few, tmp_path, '30'], capture_output=True, text=True)
    assert res.returncode==0, res.stderr
    res = json.loads(res.stdout)
    assert res['kills']==30 and all(res['moments'].values()) and res['rates']>1
    assert res['finished']>0 and res['identical']==res['finished']
    assert not res['damaged'] and res['epochs_kept']>0
