"""Others' tools: what they read is what the run says, and nothing of them is needed or touches a run."""
import contextlib,copy,importlib.util,io,json,os,shutil,signal,struct,subprocess,sys,zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from PIL import Image
from processes import Started

from advtrain.runs import onnx
from advtrain.all import Checkpoint,Run,make_learner,run_experiment
from advtrain.files.own_files import OwnFiles
from advtrain.train.callbacks import RunCallback
from advtrain.runs.logs import LOGS,WandbLog
from advtrain.models import resnet18,resnet34

EXP = tiny(name='small', bs=15, epochs=5, precision='fp32')
COLUMNS = {
    'loss/train': 'train_loss', 'loss/valid': 'valid_loss', 'accuracy/train': 'train_acc',
    'accuracy/valid': 'valid_acc', 'learning rate': 'lr', 'seconds': 'seconds'}

def offline(home):
    "An environment in which nobody is logged in, and every connection fails"
    proxies = dict.fromkeys(
        ('HTTP_PROXY','HTTPS_PROXY','ALL_PROXY','http_proxy','https_proxy','all_proxy'), 'http://127.0.0.1:9')
    return proxies | dict(
        HOME=str(home), NETRC=str(home/'netrc'), WANDB_API_KEY='', WANDB_MODE='offline', NO_PROXY='', no_proxy='')

@pytest.fixture(scope='module')
def run(sample, tmp_path_factory):
    "A finished run that computes in fp32 everywhere, logged for TensorBoard where that is installed"
    out,log = tmp_path_factory.mktemp('extras')/'run',[o for o in ('tensorboard',) if importlib.util.find_spec(o)]
    exp = tiny(name='fp32', size=32, bs=50, fraction=.25, precision='fp32')
    with contextlib.redirect_stdout(io.StringIO()): return run_experiment(exp, sample, out, log=log)

@pytest.mark.parametrize('package,extra', [
    ('tensorboard','tensorboard'), ('wandb','wandb'), ('onnx','onnx'), ('onnxscript','onnx'), ('onnxruntime','onnx')])
def test_missing_package_is_an_error_at_once(run, tmp_path, monkeypatch, package, extra):
    if extra=='onnx': pytest.importorskip('onnx'), pytest.importorskip('onnxscript')
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError,
            match=rf"^{package} is not installed: run pip install '\.\[{extra}\]' in advtrain's folder$") as e:
        if extra=='onnx': run.to_onnx(tmp_path/'network.onnx')
        else: LOGS[extra](tmp_path/'run')
    assert isinstance(e.value.__cause__, ModuleNotFoundError) and not list(tmp_path.iterdir())

# ---- ONNX

ELSEWHERE = '''
import sys
for o in ('torch','fastai','advtrain'): sys.modules[o] = None
import json
from pathlib import Path
import numpy as np,onnxruntime
from PIL import Image
network = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])
about = network.get_modelmeta().custom_metadata_map
classes,files = json.loads(about['classes']),sorted(Path(sys.argv[2]).glob('*/*.png'))
logits = network.run(['logits'], {'images': np.stack([np.asarray(Image.open(o).convert('RGB')) for o in files])})[0]
right = sum(classes[i]==o.parent.name for i,o in zip(logits.argmax(1), files))
inputs = [[o.name, o.type, o.shape] for o in network.get_inputs()]
print(json.dumps(dict(about, accuracy=right/len(files), images=len(files), dtype=str(logits.dtype), inputs=inputs)))
'''

def test_network_classifies_where_there_is_no_torch(run, sample, tmp_path):
    pytest.importorskip('onnx'), pytest.importorskip('onnxscript'), pytest.importorskip('onnxruntime')
    file,rng = run.to_onnx(tmp_path/'new folder'/'network.onnx'),torch.get_rng_state()
    assert [o.name for o in file.parent.glob('*.onnx*')]==['network.onnx']
    shutil.copy(file, alone := tmp_path/'alone.onnx') # without what might lie beside it
    elsewhere = subprocess.run([sys.executable, '-W', 'ignore', '-c', ELSEWHERE, alone, sample/'test'],
        capture_output=True, text=True)
    assert elsewhere.returncode==0, elsewhere.stderr
    about = json.loads(elsewhere.stdout)
    assert about['accuracy']==run.metrics['test_accuracy'] and about['images']==run.metrics['test_images']==500
    assert about['inputs']==[['images','tensor(uint8)',['batch',32,32,3]]] and about['dtype']=='float32'
    assert json.loads(about['classes'])==run.metrics['classes']
    assert [json.loads(about[o]) for o in ('mean','std')]==run.environment['data']['stats']
    assert about['experiment']==run.experiment.to_toml()
    assert json.loads(about['size'])==32
    assert json.loads(about['test_accuracy'])==run.metrics['test_accuracy']
    # nothing of this machine
    assert not any(
        o in file.read_bytes() for o in (b'site-packages', b'forward(', os.fsencode(Path(onnx.__file__).parent)))
    assert run.to_onnx()==run.folder/'network.onnx'
    assert torch.equal(rng, torch.get_rng_state()) and not Run(run.folder).problems

@pytest.mark.parametrize('arch,norm,last_stride', [(resnet34,'batch',1), (resnet34,'layer2d',1), (resnet18,'layer',2)])
def test_large_networks_agree(tmp_path, arch, norm, last_stride):
    pytest.importorskip('onnx'), pytest.importorskip('onnxscript'), pytest.importorskip('onnxruntime')
    torch.manual_seed(0)
    net = onnx._FromPixels(
        arch(norm=norm, width=64 if arch is resnet18 else 8, last_stride=last_stride), (.5,.4,.3), (.2,.3,.25))
    net(torch.randint(0, 256, (20,32,32,3), dtype=torch.uint8)) # in training, so that BatchNorm has seen something
    (tmp_path/'network.onnx').write_bytes(onnx._to_onnx(net.eval(), 32).SerializeToString())
    assert onnx._difference(tmp_path/'network.onnx', net, 32)<=1e-5

def test_network_that_differs_is_not_written(run, tmp_path, monkeypatch):
    pytest.importorskip('onnx'), pytest.importorskip('onnxscript'), pytest.importorskip('onnxruntime')
    OwnFiles(tmp_path, 'onnx').write('there.onnx', 'an older one')
    net = run._from_pixels()
    with torch.no_grad(): net.model.fc.bias[3] += .01
    other = onnx._to_onnx(net, run.experiment.size)
    monkeypatch.setattr(onnx, '_to_onnx', lambda net, size: copy.deepcopy(other))
    for name in ('new.onnx','there.onnx'):
        with pytest.raises(ValueError, match=f'{name} was not written: .* differ by 0.01'):
            run.to_onnx(tmp_path/name)
    assert [o.read_text() for o in tmp_path.glob('*.onnx*')]==['an older one']

def test_damaged_run_gives_no_network(run, tmp_path):
    pytest.importorskip('onnx'), pytest.importorskip('onnxscript'), pytest.importorskip('onnxruntime')
    shutil.copytree(run.folder, folder := tmp_path/'run', ignore=shutil.ignore_patterns('network.onnx'))
    (folder/'weights.safetensors').unlink()
    with pytest.warns(UserWarning, match='weights.safetensors is missing'): damaged = Run(folder)
    with pytest.raises(ValueError, match='weights.safetensors is missing'): damaged.to_onnx()
    assert not list(folder.glob('network*'))

# ---- TensorBoard

def events(folder):
    "What TensorBoard reads"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    (res := EventAccumulator(str(folder/'tensorboard'))).Reload()
    return res

def agrees(logged, history):
    "Has each epoch been logged once, with the numbers of the history?"
    for tag,column in COLUMNS.items():
        assert [o.step for o in logged.Scalars(tag)]==history.epoch.tolist()
        assert np.array_equal(np.float32([o.value for o in logged.Scalars(tag)]), history[column].to_numpy(np.float32))

def test_tensorboard_shows_the_run(run):
    pytest.importorskip('tensorboard')
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    logged = events(run.folder)
    agrees(logged, run.history)
    assert {o.removeprefix('figures/') for o in logged.Tags()['images']}==set(run.figures())
    for name,(_,file) in run.figures().items():
        shown = Image.open(io.BytesIO(logged.Images(f'figures/{name}')[0].encoded_image_string))
        with Image.open(file) as im: assert np.array_equal(np.asarray(shown), np.asarray(im.convert('RGB')))
    final = {
        o: logged.Scalars(f'final/{o}')[0].value
        for o in ('test accuracy','test loss','best watched accuracy','seconds')}
    assert np.allclose(
        list(final.values()),
        [run.metrics[o] for o in ('test_accuracy','test_loss','best_watched_accuracy','seconds')])
    def content(name):
        return HParamsPluginData.FromString(logged.SummaryMetadata(f'_hparams_/{name}').plugin_data.content)
    chosen = {
        k: getattr(v, v.WhichOneof('kind'))
        for k,v in content('session_start_info').session_start_info.hparams.items()}
    assert chosen=={
        k: (v if isinstance(v, (str,bool)) else ', '.join(v) if isinstance(v, tuple)
            else 'None' if v is None else float(v))
        for k,v in vars(run.experiment).items()}
    assert {o.name.tag for o in content('experiment').experiment.metric_infos}=={f'final/{o}' for o in final}
    assert not Run(run.folder).problems # event files may grow

# ---- a run that is killed and goes on

class Kill(RunCallback):
    "Kill this process in the fourth epoch"
    passive = True
    def before_batch(self):
        if self.epoch==3 and self.training and self.iter==2: os.kill(os.getpid(), signal.SIGKILL)

def train_until_killed(data, folder, names):
    logs = [LOGS[o](folder, EXP) for o in names]
    make_learner(EXP, data).fit(5, cbs=[Checkpoint(folder, every=2), Kill(), *logs])

def resume(data, folder, names):
    learn,logs = make_learner(EXP, data),[LOGS[o](folder, EXP) for o in names]
    learn.resume(5, folder, cbs=logs)
    for o in logs: o.close()
    learn.history.to_csv(folder/'history.csv', index=False)

@pytest.fixture(scope='module')
def killed(few, tmp_path_factory):
    "The folder and the history of a training that was killed in its fourth epoch, and went on from its second"
    folder,env = tmp_path_factory.mktemp('killed')/'run',offline(tmp_path_factory.mktemp('home'))
    if not (names := [o for o in LOGS if importlib.util.find_spec(o)]):
        pytest.skip(f"none of {', '.join(LOGS)} is installed")
    first = Started(train_until_killed, few, folder, names, env=env)
    assert first.exit_code()==-signal.SIGKILL, first.read('err')
    Started(resume, few, folder, names, env=env).ended()
    history = pd.read_csv(folder/'history.csv')
    assert history.epoch.tolist()==[1,2,3,4,5]
    return folder,history

def test_tensorboard_goes_on_after_a_kill(killed):
    pytest.importorskip('tensorboard')
    folder,history = killed
    assert len(list((folder/'tensorboard').iterdir()))==2
    agrees(events(folder), history)

# ---- Weights & Biases

def wandb_records(file):
    "The records of a `.wandb` file, LevelDB's log format behind 7 bytes; wandb 0.31 has no reader in Python"
    from wandb.proto.wandb_internal_pb2 import Record
    data,i,whole = file.read_bytes(),7,b''
    assert data[:4]==b':W&B'
    while i+7<=len(data):
        if (left := 32768-i%32768)<7: i += left
        else:
            crc,n,kind = struct.unpack('<IHB', data[i:i+7])
            part,i = data[i+7:i+7+n],i+7+n
            assert zlib.crc32(bytes([kind])+part)==crc
            whole += part
            if kind in (1,4): yield Record.FromString(whole)
            if kind in (1,4): whole = b'' # 2 and 3 are the first and a middle part

def wandb_rows(file):
    "Numbers that were logged, by step"
    rows = [o.history for o in wandb_records(file) if o.WhichOneof('record_type')=='history']
    return {o.step.num: {'/'.join(i.nested_key) or i.key: json.loads(i.value_json) for i in o.item} for o in rows}

def wandb_agrees(rows, history):
    for row in history.to_dict('records'):
        assert {k: rows[row['epoch']][k] for k in COLUMNS}=={k: row[v] for k,v in COLUMNS.items()}

def log_finished(folder):
    "Log a finished run"
    run = Run(folder)
    WandbLog(run.folder, run.experiment).finish(run)

def test_wandb_offline_has_the_run(run, tmp_path):
    "A finished run is logged without any network; numbers, choices, figures and the result are in the file"
    pytest.importorskip('wandb')
    shutil.copytree(run.folder, folder := tmp_path/'run')
    assert Started(log_finished, folder, env=offline(tmp_path)).ended()==''
    file, = (folder/'wandb').glob('offline-run-*/*.wandb')
    assert file.stem==f"run-{(folder/'wandb_id.txt').read_text()}" and not Run(folder).problems
    wandb_agrees(wandb_rows(file), run.history)
    about = next(o.run for o in wandb_records(file) if o.WhichOneof('record_type')=='run')
    config = {o.key: json.loads(o.value_json) for o in about.config.update if not o.key.startswith('_')}
    assert (about.project,about.display_name)==('advtrain','fp32')
    assert config=={k: list(v) if isinstance(v, tuple) else v for k,v in vars(run.experiment).items()}
    summary = {
        '/'.join(u.nested_key) or u.key: json.loads(u.value_json)
        for o in wandb_records(file) if o.WhichOneof('record_type')=='summary' for u in o.summary.update}
    assert summary['final/test accuracy']==run.metrics['test_accuracy']
    assert summary['final/seconds']==run.metrics['seconds']
    shown = wandb_rows(file)[len(run.history)+1]
    for name,(caption,figure) in run.figures().items():
        assert shown[f'figures/{name}/caption']==caption
        assert (file.parent/'files'/shown[f'figures/{name}/path']).read_bytes()==figure.read_bytes()

def test_wandb_goes_on_after_a_kill(killed):
    pytest.importorskip('wandb')
    folder,history = killed
    files = sorted((folder/'wandb').glob('offline-run-*/*.wandb'))
    assert [f.stem for f in files]==[f"run-{(folder/'wandb_id.txt').read_text()}"]*2
    assert list(rows := wandb_rows(files[1]))==[1,2,3,4,5] # of the other, a killed `wandb` may have written nothing
    wandb_agrees(rows, history)

def test_wandb_without_an_account_says_both_ways_out(tmp_path):
    "In a terminal, where wandb would ask, too"
    pytest.importorskip('wandb')
    pty = pytest.importorskip('pty')
    master,slave = pty.openpty()
    process = Started(WandbLog, tmp_path/'run',
        env=offline(tmp_path) | dict(WANDB_MODE='online'), terminal=os.ttyname(slave))
    assert process.exit_code()==1
    said = os.read(master, 10_000).decode()
    assert 'PermissionError: not logged in to Weights & Biases' in said
    assert '`wandb login`' in said and 'WANDB_MODE=offline' in said
    assert not (tmp_path/'run').exists()
