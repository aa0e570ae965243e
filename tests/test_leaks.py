"""What others chose is shown and never obeyed; what is private stays on this machine."""
import contextlib,csv,io,json,shutil

import numpy as np
import pytest
from conftest import little_drawn,tiny
from PIL import Image

from advtrain.all import Run,run_experiment,run_many
from advtrain.files.tensors import load_tensors,save_tensors
from advtrain.pages.index import write_index
from advtrain.pages.report import write_report
from advtrain.runs.checksums import write_checksums

ODD = ['=cmd|calc', 'a\rb', 'quote" and, comma', '\x1b[2J\x1b]0;owned\x07', "'quoted", '@home']
EXP = tiny(name='run', size=8, augs='none', hole=None, bs=4, epochs=1, n_images=1, layers=['layer4'])

@pytest.fixture(scope='module')
def odd(tmp_path_factory):
    "A folder of classes whose names are orders to a spreadsheet, a terminal or a reader of CSV"
    root,rng = tmp_path_factory.mktemp('odd')/'data',np.random.default_rng(0)
    for split,n in (('train',4),('test',2)):
        for name in ODD:
            (root/split/name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(rng.integers(0, 256, (8,8,3), np.uint8)).save(root/split/name/f'-{i}.png')
    return root

@pytest.fixture(scope='module')
def finished(odd, tmp_path_factory):
    with little_drawn(), contextlib.redirect_stdout(io.StringIO()):
        return run_experiment(EXP, odd, tmp_path_factory.mktemp('runs')/'run')

def test_a_spreadsheet_computes_no_name(finished):
    "And whoever reads the predictions gets the names as they are"
    with open(finished.folder/'predictions.csv', newline='', encoding='utf-8') as f:
        cells = [o for row in csv.reader(f) for o in row]
    assert not [o for o in cells if o[:1] in '=+@\t' and o]
    assert sorted(set(Run(finished.folder).predictions.actual))==sorted(ODD)

def test_no_name_gives_orders_to_a_terminal(odd, finished, tmp_path, shell, capsys):
    "In lines of a run, a grid and predictions, in warnings and errors"
    from advtrain.cli.commands import advtrain_predict
    small = '--width 4 --size 8 --bs 4 --epochs 1 --augs none --n-images 1 --layers layer4'.split()
    victim = sorted((odd/'test'/ODD[1]).iterdir())[0]
    with little_drawn():
        code,out,err = shell('quickstart', '--data', odd, *small,
            '--hole', 'none', '--name', 'a\x1b[2J', '--out', tmp_path/'run')
        assert code==0 and '\x1b' not in ''.join(out+err) and r'a\x1b[2J' in ''.join(out)
        run_many([EXP.replace(name='b\x1b[2J', layers=['layer9'])], odd, tmp_path/'many')
    assert advtrain_predict([str(finished.folder), str(victim), '--no-maps'])==0
    assert advtrain_predict([str(finished.folder), str(victim), '--no-maps', '--json'])==0
    assert advtrain_predict([str(finished.folder), str(victim.parent/'gone\x9b2J.png')])==1
    said = ''.join(capsys.readouterr())
    assert r'\x1b[2J' in said and r'\x9b2J' in said and not {'\x1b','\x9b','\x07'} & set(said)

def test_json_stays_json(capsys):
    from advtrain.cli.options import _as_json
    assert json.loads(_as_json({'a': 'é\x9b\udce9\x1b"'}))=={'a': 'é\x9b\udce9\x1b"'} and '\x9b' not in _as_json('\x9b')

@pytest.mark.parametrize('place', ['absolute','above','link'])
def test_a_strangers_run_opens_no_picture_of_this_machine(odd, finished, tmp_path, place):
    "Its numbers are shown, and no page or comparison holds a picture from outside the data"
    shutil.copytree(finished.folder, folder := tmp_path/'run')
    shutil.copytree(odd, data := tmp_path/'data')
    (secret := tmp_path/'private'/'passport.png').parent.mkdir()
    Image.new('RGB', (8,8), (11,222,77)).save(secret)
    tensors,about = load_tensors(folder/'predictions.safetensors')
    (data/'.link').symlink_to(secret.parent)
    about['paths'][0] = {
        'absolute': str(secret), 'above': '../private/passport.png', 'link': '.link/passport.png'}[place]
    save_tensors(tensors, folder/'predictions.safetensors', about)
    write_checksums(folder)
    run = Run(folder, data=data)
    assert len(run.interpretation.table)==2*len(ODD)
    for call in (run.interpretation.pixels, run.interpretation.gradcam):
        with pytest.raises(PermissionError, match='passport.png'): call([0])
    with pytest.warns(UserWarning, match='passport.png'): page = write_report(run).read_text()
    assert '"url":null' in page and '"n":0' in page

def test_a_password_of_a_storage_is_never_told(odd, tmp_path, capsys):
    from advtrain.cli.commands import advtrain_search
    pytest.importorskip('pg8000')
    for url in (
            'postgresql+pg8000://bob:s3cret@127.0.0.1:1/x',
            'postgresql+pg8000://127.0.0.1:1/x?user=bob&password=s3cret'):
        words = ['quickstart', '--data', str(odd), '--size', '8', '--bs', '4', '--space', 'norm=layer,batch',
            '--storage', url, '--out', str(tmp_path/'search')]
        assert advtrain_search(words)==1
        out,err = capsys.readouterr()
        assert "can't open the storage" in err and 's3cret' not in out+err

def test_a_strangers_figure_is_no_link_to_a_picture_of_this_machine(finished, tmp_path):
    shutil.copytree(finished.folder, folder := tmp_path/'runs'/'run')
    (tmp_path/'passport.png').write_bytes((folder/'figures'/'curves.png').read_bytes())
    for o in (folder, folder.parent):
        (o/'figures').mkdir(exist_ok=True)
        (o/'figures'/'random.png').symlink_to(tmp_path/'passport.png')
    assert list(Run(folder).figures())==['curves']
    assert 'figure-0' not in write_index(folder.parent).read_text()

@pytest.mark.parametrize('name', [
    '.advtrain','.advtrain/lock','.advtrain/files.lock','.advtrain/files.json','.advtrain/files.part'])
def test_a_strangers_folder_writes_into_no_file_of_this_machine(odd, finished, tmp_path, name):
    "Whatever its own folder links to"
    shutil.copytree(finished.folder, folder := tmp_path/'run')
    shutil.copytree(finished.folder/'.advtrain', outside := tmp_path/'outside')
    (outside/'mine').write_text('mine')
    shutil.rmtree(folder/name) if name=='.advtrain' else (folder/name).unlink(missing_ok=True)
    (folder/name).symlink_to(outside if name=='.advtrain' else outside/'mine')
    before = {o: o.read_bytes() for o in outside.iterdir()}
    for call in (lambda: run_experiment(EXP, odd, folder, overwrite=True), lambda: write_report(folder)):
        with contextlib.suppress(OSError, ValueError), little_drawn(): call()
    assert {o: o.read_bytes() for o in outside.iterdir()}==before

@pytest.mark.parametrize('name', ['absolute','above','link'])
def test_a_strangers_digests_read_no_file_of_this_machine(finished, tmp_path, name):
    import hashlib
    shutil.copytree(finished.folder, folder := tmp_path/'run')
    (tmp_path/'private').write_text('x')
    (folder/'link').symlink_to(tmp_path/'private')
    place = dict(absolute=str(tmp_path/'private'), above='../private', link='link')[name]
    lines = f"{hashlib.sha256(b'x').hexdigest()}  {place}\n".encode()
    (folder/'SHA256SUMS').write_bytes(f'# {hashlib.sha256(lines).hexdigest()}\n'.encode()+lines)
    outside = 'is outside the run folder'
    with pytest.warns(UserWarning, match=outside): assert Run(folder).problems=={place: outside}

def test_pipes_in_a_run_keep_nobody_waiting(odd, finished, tmp_path):
    import os
    if not hasattr(os, 'mkfifo'): pytest.skip('this system has no pipes')
    for name in ('.advtrain/files.json','experiment.toml'):
        shutil.copytree(finished.folder, folder := tmp_path/name.replace('/', '-'))
        (folder/name).unlink()
        os.mkfifo(folder/name)
        with pytest.raises((ValueError,OSError), match='no file|is damaged|is missing|in the way'):
            run_experiment(EXP, odd, folder, overwrite=True)
