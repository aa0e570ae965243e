"Verdicts agree with statsmodels, and depend neither on the order of runs nor on runs that don't count"
import json

import numpy as np
import pytest
from advtrain.launch.many import ablate
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

def make_run(folder, exp, accuracy, state='finished', valid=.5):
    out = folder/exp.name
    out.mkdir(parents=True)
    (out/'experiment.toml').write_text(exp.to_toml())
    (out/'history.csv').write_text('epoch,valid_loss,valid_acc,valid_n,seconds\n'
        f'1,0.5,{valid},1000,1\n')
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

def test_the_order_of_runs_changes_nothing(norms):
    statuses = Runs(norms).statuses
    one,other = Verdict(statuses, 'norm').table,Verdict(statuses[::-1], 'norm').table
    assert one.drop(columns=['a','b']).round(12).equals(other.drop(columns=['a','b']).round(12))
    assert one[['a','b']].equals(other[['a','b']])

def test_configurations_of_a_seed_are_one_difference(tmp_path):
    "Else a choice without effect, tried with four rates on two seeds, would be called better in half of all cases"
    rng = np.random.default_rng(0)
    def _is_found(i):
        found = {}
        for seed in range(2):
            shared = rng.normal(0, .01)
            for lr in (.01,.02,.03,.04):
                for norm in ('layer','batch'):
                    noise = rng.normal(0, .003) + shared*(norm=='batch')
                    found[norm,lr,seed] = round(.8+noise, 4)
        folder = tmp_path/str(i)
        for (norm,lr,seed),accuracy in found.items():
            make_run(folder, small.replace(name=f'{norm}-{lr}-{seed}', norm=norm, lr=lr, seed=seed), accuracy)
        return Runs(folder).verdict('norm').table.p.item()<.05
    assert sum(map(_is_found, range(40)))<=8

@pytest.mark.parametrize('fingerprint', [None, 'text', {'all': ['a'], 'test': 'b'}, {}])
def test_odd_records_are_left_out_also_on_the_page(norms, fingerprint):
    from advtrain.pages.index import write_index
    odd = sorted(norms.iterdir())[0]
    (odd/'environment.json').write_text(json.dumps({'data': {'fingerprint': fingerprint}}))
    assert Runs(norms).verdict('norm').left_out=={odd.name: "environment.json doesn't say which images it used"}
    assert 'Choices' in write_index(norms).read_text()

def test_the_page_says_that_runs_used_different_data(norms):
    from advtrain.pages.index import write_index
    odd = sorted(norms.iterdir())[0]
    (odd/'environment.json').write_text('{"data": {"fingerprint": {"all": "other", "test": "b"}}}')
    assert 'No verdict: the runs used different data' in write_index(norms).read_text()

def test_a_pair_with_other_test_images_is_an_error(norms):
    odd = sorted(norms.iterdir())[0]
    (odd/'environment.json').write_text('{"data": {"fingerprint": {"all": "a", "test": "c"}}}')
    with pytest.raises(ValueError, match='the test images are'): Runs(norms).verdict('norm')

class Fakes:
    "Make the folders of runs instead of training"
    def __init__(self, accuracy): self.accuracy,self.made = accuracy,[]
    def __call__(self, experiments, data, out, **kwargs):
        for o in experiments:
            if (out/o.name).exists(): continue
            self.made.append(o.name)
            accuracy = self.accuracy(o)
            make_run(out, o, accuracy, valid=accuracy)
        return Runs(out, experiments)

@pytest.fixture
def fakes(monkeypatch):
    "Batch norm gains five points over the recipe, and other changes nothing"
    from advtrain.launch import many
    rng = np.random.default_rng(0)
    res = Fakes(lambda o: round(.8+.05*(o.norm=='batch')+rng.normal(0, .003), 3))
    monkeypatch.setattr(many, 'run_many', res)
    monkeypatch.setattr(many, 'is_finished', lambda o: (o/'metrics.json').is_file())
    return res

def test_a_clear_change_gets_no_more_seeds(tmp_path, fakes):
    "The other one gets all of them, and the recipe as many as there are changes for"
    effects = ablate(small, [dict(norm='batch'), dict(wd=.1)], None, tmp_path, seeds=6, stop_early=True).table
    assert dict(zip(effects.b, effects.stopped_early))=={'norm batch': True, 'wd 0.1': False}
    assert dict(zip(effects.b, effects.seeds))=={'norm batch': 3, 'wd 0.1': 6}
    assert len(fakes.made)==6+6+3

def test_nothing_is_trained_once_all_changes_are_clear(tmp_path, fakes):
    v = ablate(small, [dict(norm='batch')], None, tmp_path, seeds=6, stop_early=True)
    assert len(fakes.made)==2*3 and not v.left_out
    assert 'Stopped early' in ' '.join(v.notes())

def test_all_that_is_finished_counts_after_a_stop(tmp_path, fakes):
    whole = ablate(small, [dict(norm='batch')], None, tmp_path, seeds=6)
    assert whole.table.seeds.item()==6 and not whole.table.stopped_early.item()
    again = ablate(small, [dict(norm='batch')], None, tmp_path, seeds=6, stop_early=True)
    assert again.table.seeds.item()==6 and again.table.stopped_early.item()

def test_ablation_refuses_to_replace_a_picture_before_it_trains(tmp_path, fakes):
    (tmp_path/'figures').mkdir()
    (tmp_path/'figures/effects.png').write_text('mine')
    with pytest.raises(FileExistsError, match='effects.png is in the way'):
        ablate(small, [dict(norm='batch')], None, tmp_path, seeds=2)
    assert not fakes.made and (tmp_path/'figures/effects.png').read_text()=='mine'

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
        return (false_discovery_rates(b.astype(int)-a)<=.05).any()
    assert sum(_any_found() for _ in range(100))<=12
