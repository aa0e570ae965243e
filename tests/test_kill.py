"""A run can be killed at any moment."""
import json,os

import pytest

from processes import Started

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='the attempts are forked')

def test_killed_runs_are_the_run_that_was_not_killed(few, tmp_path):
    "30 kills in steps, in validation, in the write of a checkpoint, and whenever: nothing differs, no file is damaged"
    from killed_run import main
    res = json.loads(Started(main, few, tmp_path, 30).ended())
    assert res['kills']==30 and all(res['moments'].values()) and res['rates']>1
    assert res['finished']>0 and res['identical']==res['finished']
    assert not res['damaged'] and res['epochs_kept']>0
