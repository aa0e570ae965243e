"""The call for a machine with a GPU: a part that fails or hangs costs only itself, and nothing that was measured is
lost.

The parts here are stand-ins of a few lines, and so are the runs of the queue.
"""
import json,os,subprocess,sys,tarfile,textwrap,time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

BENCHMARKS = Path(__file__).parents[1]/'benchmarks'
sys.path.insert(0, str(BENCHMARKS))
import apart,forty,gpu
from gpu_parts import whole_run

ENOUGH = 300 # seconds that nothing here takes, however slow the machine is

STAND_INS = dict(
    good="""
        def run(o, note):
            note(answer=42)
            note.figure('the answer', 42.0, 'images/s')
        """,
    failing="""
        def run(o, note):
            note(before='kept')
            raise ValueError('on purpose')
        """,
    crashing="""
        import os
        def run(o, note):
            note(before='kept')
            os.abort()
        """,
    hanging="""
        import subprocess,sys,time
        def run(o, note):
            child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'], start_new_session=True)
            note(before='kept', child=child.pid)
            time.sleep(1000)
        """,
    runs="""
        import os,pathlib,time
        def run_one(text, data, folder, threads, kept_in=None):
            from advtrain.runs.experiment import Experiment
            exp,folder = Experiment.from_toml(text),pathlib.Path(folder)
            folder.mkdir(parents=True, exist_ok=True)
            if exp.name=='crashing': os.abort()
            if exp.name=='hanging': time.sleep(1000)
            metrics = '{"test_accuracy": 0.5, "best_watched_accuracy": 0.5, "epochs": 2, "seconds": 3}'
            (folder/'metrics.json').write_text(metrics)
            (folder/'SHA256SUMS').write_text('')
        """)

@pytest.fixture(scope='module', autouse=True)
def stand_ins(tmp_path_factory):
    "Modules that a process finds by the names `STAND_INS` has"
    folder,before = tmp_path_factory.mktemp('parts'),dict(os.environ)
    for name,code in STAND_INS.items(): (folder/f'stand_in_{name}.py').write_text(textwrap.dedent(code))
    sys.path.insert(0, str(folder))
    os.environ['PYTHONPATH'] = os.pathsep.join([str(folder), *filter(None, [os.environ.get('PYTHONPATH')])])
    apart.prepare(['keep'])
    yield
    sys.path.remove(str(folder))
    os.environ.clear()
    os.environ.update(before)

def part(name, seconds=ENOUGH): return gpu.Part(name, seconds, f'stand_in_{name}')

def call(tmp_path, *parts, seconds=10*ENOUGH, out='out', done=None, **options):
    res = gpu.Call(tmp_path/out, tmp_path/f'{out} work', seconds, **options)
    if done: res.take_over(done)
    res.run(parts)
    return res

def noted(call, name): return json.loads((call.out/f'{name}.json').read_text())

def ends(pid):
    "Does a process that was killed end? One that is dead and not yet waited for has"
    for _ in range(10*ENOUGH):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status()==psutil.STATUS_ZOMBIE: return True
        time.sleep(.1)

def test_a_part_that_fails_or_crashes_costs_only_itself(tmp_path):
    c = call(tmp_path, part('failing'), part('crashing'), part('good'))
    assert [o.split(' after')[0] for o in c.ended.values()]==['failed with exit code 1','ended by SIGABRT','ok']
    for name in ('failing','crashing'):
        assert noted(c, name)['numbers']=={'before': 'kept'} and not noted(c, name)['complete']
    assert 'ValueError: on purpose' in noted(c, 'failing')['error'] and 'on purpose' in c.log.read_text()
    good = noted(c, 'good')
    assert good['complete'] and good['numbers']=={'answer': 42}
    assert {'command','date','machine','versions'} <= good.keys()
    assert [f'{k} {v}' for k,v in good['figures'].items()]==['the answer 42 images/s']

def test_a_part_that_hangs_costs_its_time_alone(tmp_path):
    c = call(tmp_path, part('good'), part('hanging', 20), part('crashing'))
    assert c.ended['hanging'].startswith('stopped after') and c.ended['crashing'].startswith('ended by SIGABRT')
    numbers = noted(c, 'hanging')['numbers']
    assert numbers['before']=='kept'
    assert ends(numbers['child'])

def test_a_rehearsal_can_hang_or_crash_on_demand(tmp_path):
    c = call(tmp_path, part('good'), crash='good')
    assert c.ended['good'].startswith('ended by SIGABRT') and noted(c, 'good')['numbers']=={'answer': 42}

def test_no_part_begins_that_would_not_end_in_time(tmp_path):
    c = call(tmp_path, part('crashing', 2*ENOUGH), part('good', ENOUGH), seconds=1.5*ENOUGH)
    assert c.ended['crashing'].startswith('not started') and c.ended['good'].startswith('ok')
    assert not (c.out/'crashing.json').exists()

def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, 'FILES', ['good.json','crashing.json','runs.tar.gz','log.txt'])
    first = call(tmp_path, part('good'), part('crashing'))
    run(first.runs, 'one')
    first.pack()
    second = call(tmp_path, part('good'), part('crashing'), out='again', done=first.out)
    assert second.ended['good']=='done before' and second.ended['crashing'].startswith('ended by SIGABRT')
    assert noted(second, 'good')==noted(first, 'good') and forty.is_over(second.runs/'one')
    assert second.log.read_text().startswith(first.log.read_text())

def test_an_archive_that_cannot_be_read_or_written_stops_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path/'old').mkdir()
    (tmp_path/'old/runs.tar.gz').write_bytes(b'no archive')
    (tmp_path/'old/good.json').write_text('[1]')
    def _full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(forty, 'pack', _full)
    monkeypatch.setattr(gpu, 'FILES', ['good.json','runs.tar.gz','log.txt'])
    c = gpu.Call(tmp_path/'out', tmp_path/'work', 10*ENOUGH)
    c.take_over(tmp_path/'old')
    run(c.runs, 'one')
    c.run([part('good')])
    said = capsys.readouterr().out
    assert "can't read the archive" in said and "can't write the archive" in said and c.ended['good'].startswith('ok')

@pytest.mark.parametrize('words,reason', [
    (['--done','missing'],'no such folder'), (['--data','missing.tgz'],'no such file'),
    (['--done','other'],'earlier call')])
def test_wrong_words_are_refused(tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(tmp_path)
    for o in ('out','other'): Path(o).mkdir()
    Path('out/works.json').write_text('{}')
    monkeypatch.setattr(sys, 'argv', ['gpu.py', '--out', 'out' if words[-1]=='other' else 'new', *words])
    with pytest.raises(SystemExit): gpu.options()
    assert reason in capsys.readouterr().err and Path('out/works.json').read_text()=='{}'

def run(runs, name, page=1000):
    "A finished run's folder, as far as the archive cares"
    (runs/name/'figures').mkdir(parents=True)
    files = ('weights.safetensors','checkpoint-0002.safetensors','figures/curves.png','README.md',
        'history.csv','predictions.safetensors')
    for file in files: (runs/name/file).write_bytes(b'0')
    (runs/name/'report.html').write_bytes(os.urandom(page))
    metrics = dict(test_accuracy=.5, best_watched_accuracy=.5, epochs=2, seconds=3)
    (runs/name/'metrics.json').write_text(json.dumps(metrics))
    (runs/name/'SHA256SUMS').write_text('')

def names(archive):
    with tarfile.open(archive) as tar: return tar.getnames()

def test_the_archive_has_no_weights_and_stays_small(tmp_path):
    for name in ('first','second'):
        run(tmp_path/'runs', name)
        os.utime(tmp_path/'runs'/name/'SHA256SUMS', (len(name), len(name)))
    (tmp_path/'runs/unfinished').mkdir()
    forty.pack(tmp_path/'runs', archive := tmp_path/'runs.tar.gz')
    small = ['SHA256SUMS','history.csv','metrics.json','predictions.safetensors']
    assert sorted(names(archive))==sorted(
        [f'{o}/{f}' for o in ('first','second') for f in small] + ['first/report.html'])
    (tmp_path/'runs/first/report.html').write_bytes(os.urandom(100_000))
    forty.pack(tmp_path/'runs', archive, limit=50_000)
    assert archive.stat().st_size<50_000 and len(names(archive))==8 and 'first/report.html' not in names(archive)

def experiments(*names):
    "Stand-ins for experiments"
    how = dict(epochs=40, watch='valid', last_stride=2)
    return [SimpleNamespace(name=o, to_toml=lambda o=o: f'name = "{o}"', **how) for o in names]

def queue(tmp_path, *names, n=None, **kwargs):
    "Lines that a queue of stand-ins says; the time is up when `n` runs have ended"
    lines,ended = [],[]
    def _done():
        ended.append(1)
        if len(ended)==n: q.ends = 0
    exps = experiments(*names)
    q = forty.Queue(lambda ended: exps, None, tmp_path/'runs',
        log=tmp_path/'log.txt', say=lines.append, done=_done, **kwargs)
    q.function = 'stand_in_runs:run_one'
    q.run()
    return lines

def test_a_run_that_crashes_or_hangs_does_not_stop_the_queue(tmp_path):
    lines = queue(tmp_path, 'hanging', 'crashing', 'a', 'b', n=3, seconds=ENOUGH, jobs=2, estimate=.1)
    assert [o.name for o in sorted((tmp_path/'runs').iterdir()) if forty.is_over(o)]==['a','b']
    crashed, = (o for o in lines if o.startswith('crashing: ended by SIGABRT'))
    assert crashed.endswith(' s; log.txt says why') and 'hanging: stopped, unfinished' in lines
    assert all(o.endswith(' s') for o in lines if ': ok' in o)

def test_the_queue_begins_what_can_end_in_time(tmp_path):
    run(tmp_path/'runs', 'done')
    assert queue(tmp_path, 'done', 'a', seconds=ENOUGH, estimate=ENOUGH)==[
        'a: not started, it would take too long']
    assert any(o.startswith('a: ok') for o in queue(tmp_path, 'done', 'a', seconds=ENOUGH))

def test_a_failed_run_is_not_tried_again(tmp_path):
    (tmp_path/'runs/bad').mkdir(parents=True)
    (tmp_path/'runs/bad/stopped.json').write_text('{}')
    lines = queue(tmp_path, 'bad', 'a', seconds=ENOUGH)
    assert lines[0]=='a: started' and not any(o.startswith('bad') for o in lines)
    (tmp_path/'runs/a/report.html').write_text('a page')
    forty.pack(tmp_path/'runs', archive := tmp_path/'runs.tar.gz')
    assert {'bad/stopped.json','a/report.html'} <= {*names(archive)}

def test_only_the_epochs_that_are_left_need_time(tmp_path):
    (tmp_path/'runs/a').mkdir(parents=True)
    (tmp_path/'runs/a/history.csv').write_text('epoch\n'+'1\n'*38)
    lines = queue(tmp_path, 'b', 'a', seconds=ENOUGH, estimate=ENOUGH)
    assert any(o.startswith('a: ok') for o in lines) and 'b: not started, it would take too long' in lines

def test_a_resumed_run_does_not_make_the_others_look_short(tmp_path, monkeypatch):
    trained = dict(seconds=2*ENOUGH, best_watched_accuracy=.5) # most of it in an earlier call
    monkeypatch.setattr(forty, 'metrics_of', lambda folder: trained)
    lines = queue(tmp_path, 'a', 'b', seconds=ENOUGH)
    assert any(o.startswith('a: ok') for o in lines) and 'b: not started, it would take too long' in lines

def test_a_fresh_python_takes_the_place_of_a_copy_that_cannot_use_the_gpu(tmp_path):
    job = json.dumps(['stand_in_runs:run_one', ['name = "a"', None, str(tmp_path/'a'), 1], ['gpu.py']])
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    subprocess.run([sys.executable, str(BENCHMARKS/'apart.py'), job], check=True, env=env)
    assert forty.is_over(tmp_path/'a')

def test_the_table_and_the_number_of_files(tmp_path, capsys):
    c = call(tmp_path, part('good'), part('good')._replace(name='other'))
    run(c.runs, 'one')
    c.pack()
    for name in ('.works.json.tmp','.mine.tmp'): (c.out/name).write_text('{')
    c.log.write_bytes(b'x'*(gpu.LOG_LIMIT+1000))
    c.tidy()
    assert sorted(o.name for o in c.out.iterdir())==['.mine.tmp','good.json','log.txt','other.json','runs.tar.gz']
    assert len(gpu.FILES)==8
    assert c.log.stat().st_size < gpu.LOG_LIMIT+100
    table = c.table([part('good'), part('crashing')])
    assert 'the answer' in table and '42 images/s' in table
    assert 'crashing: not started' in table and '50.00% of the test images' in table

def test_every_part_has_its_module():
    for o in gpu.PARTS: assert (BENCHMARKS/f"{o.module.replace('.', '/')}.py").is_file()
    assert sum(o.seconds for o in gpu.PARTS) < 540

def test_the_steps_that_are_timed_are_there():
    assert all(hasattr(*place) for place in whole_run.STEPS.values())
