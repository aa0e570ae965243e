"""Arguments of training that make no sense: each is refused by advtrain itself, in one line that names it."""
import math,traceback
from pathlib import Path

import advtrain
import pytest
from torch import nn

from advtrain.all import EMA,PlateauLR,Precision,WarmUp,image_dls,plot_history,resnet_learner,set_seed,sgd

ODD = [math.nan, math.inf, '1', [1], object, {}]
NONE = [*ODD, None]
WHOLE = [0, -3, 2.5, True, 10**400, *NONE]
AT_LEAST_0 = [-1e-9, *NONE]
SHARE = [-.1, 1, 1e300, *NONE]
FLAG = ['no', 1, None]

def of_rate(extra=()): return [-1, 'fnd', math.nan, [.1,-1], slice(.1,'2'), {}, *extra]

TABLE = { # function of a learner and an argument -> argument -> nonsense
    'resnet_learner': (lambda learn, **a: resnet_learner(**dict(dls=learn.dls, width=4) | a), dict(
        dls=[None, [1], 'data', object], arch=['resnet81', 18, None], norm=['leyer', 5, None],
        lr=of_rate(), mom=SHARE, wd=AT_LEAST_0, patience=WHOLE, factor=[1, .1, *NONE], min_delta=SHARE,
        precision=['fp8', 16, None],
        nesterov=FLAG, wd_norm_bias=FLAG, label_smoothing=SHARE,
        grad_clip=[0, -1, *ODD], ema=[-.1, 1, *ODD], warmup=[-1, 1.5, *NONE],
        width=WHOLE, dropout=[-.1, 1, *NONE], last_stride=[0, 3, '1', None], c_in=WHOLE,
        zero_init=FLAG, weight_std=FLAG, pre_act=FLAG)),
    'fit': (lambda learn, **a: learn.fit(**dict(n_epoch=1) | a), dict(
        n_epoch=[-1, 1.5, True, 10**12, *NONE], lr=of_rate(), wd=[-1, *ODD], cbs=[5, 'EMA', object, nn.Module],
        reset_opt=FLAG, start_epoch=[-1, *NONE], live=FLAG)),
    'resume': (lambda learn, **a: learn.resume(**dict(n_epoch=1, folder='nowhere') | a), dict(
        n_epoch=WHOLE, folder=[5, None, []], previous=FLAG, cbs=[5, object], live=FLAG)),
    'lr_find': (lambda learn, **a: learn.lr_find(**dict(show_plot=False) | a), dict(
        start_lr=[0, 100, *NONE], end_lr=[0, 1e-9, *NONE], num_it=[5, 1e3, 10**12, *NONE],
        stop_div=FLAG, show_plot=FLAG, suggest_funcs=['valley', 5])),
    'profile': (lambda learn, **a: learn.profile(**a), dict(n=[*WHOLE, 10**12])),
    'compare_precision': (lambda learn, **a: learn.compare_precision(**a), dict(
        n=[*WHOLE, 10**12], dtypes=['fp32', (), ('fp8',), (16,), None, 5])),
    'validate': (lambda learn, **a: learn.validate(**a), dict(cbs=[5, object])),
    'sgd': (lambda learn, **a: sgd(**dict(params=list(learn.model.parameters())) | a), dict(
        params=[5, 'all', [], [[]], [1]], lr=of_rate([None]),
        mom=SHARE, wd=AT_LEAST_0, nesterov=FLAG, wd_norm_bias=FLAG)),
    'PlateauLR': (lambda learn, **a: PlateauLR(**a), dict(
        monitor=[5, None], comp=['less', max], min_delta=AT_LEAST_0, patience=WHOLE,
        factor=[1, .1, *NONE], min_lr=AT_LEAST_0,
        reset_on_fit=FLAG, cooldown=[-1, .5, *NONE], relative=FLAG)),
    'WarmUp': (lambda learn, **a: WarmUp(**a), dict(epochs=WHOLE)),
    'EMA': (lambda learn, **a: EMA(**a), dict(decay=SHARE)),
    'Precision': (lambda learn, **a: Precision(**a), dict(dtype=['fp8', 16, None, []], channels_last=FLAG)),
    'set_seed': (lambda learn, **a: set_seed(**dict(seed=1) | a), dict(
        seed=[-1, 1.5, 10**40, *NONE], deterministic=FLAG)),
    'plot_history': (lambda learn, **a: plot_history(**dict(history=learn) | a), dict(
        history=[None, [1], 'runs', {}], figsize=[9, (9,), (9,-1), (math.nan,3), ('9',3), (1e9,1e9)])),
}
WORDS = {'norm': 'unknown norm', 'dtype': 'unknown precision', 'precision': 'unknown precision', 'params': 'param'}

@pytest.fixture(scope='module')
def learn(few): return resnet_learner(image_dls(few, size=8, bs=50, device='cpu'), width=4)

@pytest.mark.parametrize('name', TABLE)
def test_nonsense_is_refused_in_one_line(name, learn):
    call,table = TABLE[name]
    learn.epoch_log.rows = [dict(epoch=1, train_loss=1., valid_loss=1., train_acc=.5, valid_acc=.5, lr=.1)]
    for argument,bad in table.items():
        for value in bad:
            with pytest.raises((ValueError,TypeError)) as e: call(learn, **{argument: value})
            says,last = str(e.value),traceback.extract_tb(e.value.__traceback__)[-1].filename
            assert '\n' not in says and len(says)<400 and WORDS.get(argument, argument) in says, (argument, value, says)
            assert Path(last).is_relative_to(Path(advtrain.__file__).parent), (argument, value, says, last)
