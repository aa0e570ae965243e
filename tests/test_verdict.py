"Verdicts agree with statsmodels, and depend neither on the order of runs nor on runs that don't count"
import json

import numpy as np
import pytest
from advtrain.runs.flips import false_discovery_rates
from advtrain.runs.folder import Runs
from advtrain.runs.grid import grid
from advtrain.runs.presets import EXPERIMENTS
from advtrain.runs.verdict import Verdict
from advtrain.stats import holm,paired_difference

weightstats = pytest.importorskip('statsmodels.stats.weightstats')
multitest = pytest.importorskip('statsmodels.stats.multitest')
small = EXPERIMENTS['quickstart'].replace(epochs=1)

@pytest.mark.parametrize('n', [2, 3, 5, 10])
def test_as_statsmodels(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        a,b = rng.normal(.8, .01, (2,n))
        found = paired_difference(a, b, margin=.01)
        ours = found['low'],found['high']
        np.testing.assert_allclose(ours, weightstats.DescrStatsW(b-a).tconfint_mean(), rtol=1e-9)
        assert found['p']==pytest.approx(weightstats.DescrStatsW(b-a).ttest_mean()[1])
        assert found['p_equivalent']==pytest.approx(weightstats.ttost_paired(b, a, -.01, .01)[0])

def test_holm_as_statsmodels():
    rng = np.random.default_rng(0)
    for n in (1,2,7):
        p = rng.random(n)**3
        np.testing.assert_allclose(holm(p.tolist()), multitest.multipletests(p, method='holm')[1])

def make_run(folder, exp, accuracy, state='finished'):
    out = folder/exp.name
    out.mkdir(parents=True)
    (out/'experiment.toml').write_text(exp.to_toml())
    (out/'history.csv').write_text('epoch,valid_loss,valid_acc,valid_n,seconds\n1,0.5,0.5,8,1\n')
    (out/'environment.json').write_text('{"data": {"fingerprint": {"all": "a", "test": "b"}}}')
    found = dict(test_accuracy=accuracy, test_correct=int(1000*accuracy), test_images=1000)
    if state=='finished': (out/'metrics.json').write_text(json.dumps(found))
    else: (out/'stopped.json').write_text(json.dumps(dict(state=state, reason='why')))

@pytest.fixture
def norms(tmp_path):
    rng = np.random.default_rng(0)
    for exp in grid(small, norm=['layer','batch','group'], seed=range(4)):
        make_run(tmp_path/'norms', exp, round(.8+rng.normal(0, .01), 3))
    return tmp_path/'norms'

def test_the_order_of_runs_changes_signs_alone(norms):
    statuses = Runs(norms).statuses
    one,other = Verdict(statuses, 'norm').table,Verdict(statuses[::-1], 'norm').table
    def _by_pair(t): return {(r.a,r.b): r for r in t.itertuples()}
    again = _by_pair(other)
    for (a,b),r in _by_pair(one).items():
        s = again[b,a]
        assert (r.difference,r.low,r.high)==pytest.approx((-s.difference,-s.high,-s.low))
        assert r.p_holm==pytest.approx(s.p_holm) and r.seed_sd==pytest.approx(s.seed_sd)

def test_what_does_not_count_changes_nothing(norms):
    before = Runs(norms).verdict('norm')
    make_run(norms, small.replace(name='failed', seed=9), .1, 'failed')
    make_run(norms, small.replace(name='pruned', norm='batch', seed=9), .1, 'pruned')
    make_run(norms, small.replace(name='epochs', norm='batch', epochs=2), .1)
    make_run(norms, small.replace(name='seed', norm='batch', seed=9), .1)
    (norms/'damaged').mkdir()
    (norms/'damaged/experiment.toml').write_text('norm = ')
    after = Runs(norms).verdict('norm')
    assert after.table.equals(before.table) and len(after.left_out)==5
    assert after.left_out['pruned']=='pruned: why' and after.left_out['seed'].endswith('also in seed')

def test_a_name_or_a_figure_is_no_choice(norms):
    again = small.replace(name='again', seed=0, n_images=3)
    make_run(norms, again, .9)
    v = Runs(norms).verdict('norm')
    assert v.table.pairs.tolist()==[4,4,4] and not v.left_out # it's a second run of a seed

def test_a_choice_without_effect_flips_few_images():
    "With no difference between the sides, at least one image is called the choice's in few of 100 simulations"
    rng = np.random.default_rng(0)
    chance = rng.beta(2, .5, 1000)
    def _any_found():
        a,b = rng.random((2,6,1000))<chance
        return (false_discovery_rates(b.astype(int)-a)[0]<=.05).any()
    assert sum(_any_found() for _ in range(100))<=12
