"""A run can be killed at any moment, and so can the first start on a data set."""
import json,os

import numpy as np
from PIL import Image
import pytest

from processes import Started

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='the attempts are forked')

def test_killed_runs_are_the_run_that_was_not_killed(few, tmp_path):
    "32 kills in steps, validation, frames of the film, writes of checkpoints, and whenever: nothing differs or is lost"
    from killed_run import main
    res = json.loads(Started(main, few, tmp_path, 32).ended())
    assert res['kills']==32 and all(res['moments'].values()) and res['rates']>1
    assert res['finished']>0 and res['identical']==res['finished']
    assert not res['damaged'] and res['epochs_kept']>0

@pytest.fixture
def many(tmp_path):
    "2,400 images in four classes, no two alike: enough for workers to decode them, in many blocks"
    rng = np.random.default_rng(0)
    for i in range(2400):
        folder = tmp_path/'many'/str(i%4)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16,16,3), np.uint8).repeat(4, 0).repeat(4, 1)).save(folder/f'{i}.png')
    return tmp_path/'many'

def test_a_killed_first_start_is_resumed(many, tmp_path):
    "Ten kills, each after some more blocks: no block is lost, and in the end all pixels are right"
    from killed_start import main
    res = json.loads(Started(main, many, tmp_path/'home', 10, 64, daemon=False).ended())
    assert res['kills']==10 and res['written'][0]>0 and res['written'][-1]<res['blocks']
    assert not res['lost'] and not res['unwritten']
    assert res['compared']==2400 and not res['different']
