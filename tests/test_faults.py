"""A new user's ways to go wrong: each ends in one clear line at the shell."""
import shutil
from urllib.error import URLError

import pytest

@pytest.fixture
def two_classes(tmp_path, sample):
    "A folder of two classes with twelve images each"
    for c in ('Bag','Coat'):
        (tmp_path/'data'/c).mkdir(parents=True)
        for f in sorted((sample/'train'/c).iterdir())[:12]: shutil.copy(f, tmp_path/'data'/c)
    return tmp_path/'data'

def fails(shell, tmp_path, contains, *words, code=1):
    exit_code,out,err = shell(*words, '--out', tmp_path/'out')
    assert exit_code==code and len(err)==1 and err[0].startswith('advtrain_run: '), err
    assert contains in err[0], err[0]
    assert not (tmp_path/'out').exists()

def test_wrong_path(shell, tmp_path):
    fails(shell, tmp_path, 'no such folder', 'quickstart', '--data', tmp_path/'nowhere')
def test_unknown_preset(shell, tmp_path): fails(shell, tmp_path, 'choose from layernorm-40', 'quickstop', code=2)
def test_unknown_norm(shell, tmp_path):
    fails(shell, tmp_path, 'choose from layer, layer2d', 'quickstart', '--norm', 'leyer', code=2)
def test_unknown_layer(shell, tmp_path): fails(shell, tmp_path, "no layer 'layer9'", 'quickstart', '--layers', 'layer9')
def test_batch_larger_than_data(shell, tmp_path):
    fails(shell, tmp_path, 'choose bs from 1 to 1800', 'quickstart', '--bs', 4000)

def test_empty_folder(shell, tmp_path):
    (tmp_path/'empty').mkdir()
    fails(shell, tmp_path, 'no class folders', 'quickstart', '--data', tmp_path/'empty')

def test_one_class(shell, tmp_path, two_classes):
    shutil.rmtree(two_classes/'Coat')
    fails(shell, tmp_path, "only one class, 'Bag'", 'quickstart', '--data', two_classes, '--bs', 4)

def test_corrupt_image(shell, tmp_path, two_classes):
    victim = sorted((two_classes/'Bag').iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:300])
    fails(shell, tmp_path, str(victim), 'quickstart', '--data', two_classes, '--bs', 4)
    code,out,_ = shell('quickstart', '--data', two_classes, '--bs', 4, '--epochs', 1,
        *'--width 4 --size 16 --n-images 1 --skip-unreadable'.split(), '--out', tmp_path/'skipped')
    assert code==0 and any('skipped 1 of 24 images' in o for o in out)

def test_no_network(shell, tmp_path, monkeypatch):
    def offline(*args): raise URLError('no network')
    monkeypatch.setattr('advtrain.data.sources.untar_data', offline)
    monkeypatch.delenv('ADVTRAIN_CIFAR10', raising=False)
    fails(shell, tmp_path, 'Three ways out', 'layernorm-40')

def test_bad_arguments(shell):
    code,_,err = shell('quickstart', '--epochs', 'many')
    assert code==2 and len(err)==1 and "'many' is not a whole number" in err[0]

def test_finished_run_is_kept(shell, tiny_run):
    code,_,err = shell('quickstart', '--out', tiny_run.folder)
    assert code==1 and 'holds a finished run' in err[0]
    assert (tiny_run.folder/'report.html').is_file()
