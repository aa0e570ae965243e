"""Run the notebooks as tests, like `nbdev_test`, each in its own process and the longest first. Print the slowest
cells.

    python tools/test_notebooks.py [WORD ...]     # only paths with one of the words, such as `data/`
"""
import json,multiprocessing,os,signal,sys,tempfile,time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

# several notebooks run at once, and threads of two processes would wait for each other
os.environ.setdefault('OMP_NUM_THREADS', '1')
import fastai.torch_core,nbdev.test
from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.doclinks import nbglob

LONGEST = '''heatmaps gradcam commands runner logs interpret checkpoint search resnet_learner folder compare comparison
report image_dls index augment'''.split()
HANGS = 3600 # seconds, more than a notebook takes on a slow machine
TIMES = 'ADVTRAIN_CELL_TIMES' # environment variable: folder for the cell times of each process

class TimedShell(CaptureShell):
    "Run cells, note their seconds, and draw in screen resolution"
    def __init__(self, path):
        super().__init__(path, mpl_format='png')
        self.notebook = place(Path(path))

    def cell(self, cell, *args, **kwargs):
        start = time.perf_counter()
        try: return super().cell(cell, *args, **kwargs)
        finally:
            row = [time.perf_counter()-start, self.notebook, cell.idx_, cell.source.strip().split('\n')[0][:70]]
            with open(Path(os.environ[TIMES])/str(os.getpid()), 'a', encoding='utf-8') as f:
                f.write(json.dumps(row)+'\n')

def test(file):
    "Run one notebook in this process, and exit with 0 if it passes"
    multiprocessing.set_start_method(None, force=True) # its processes start the usual way
    fastai.torch_core.set_seed(0) # otherwise PyTorch draws other numbers in each process
    nbdev.test.CaptureShell = TimedShell
    passed,_ = nbdev.test.test_nb(file, skip_flags=get_config().tst_flags.split(), basepath=get_config().config_path)
    sys.exit(not passed)

def failure(context, file):
    "Run one notebook in a separate process; return why it failed, or `None`"
    process = context.Process(target=test, args=(file,))
    process.start()
    process.join(HANGS)
    if process.exitcode is None:
        process.kill()
        return f'{place(file)} was still running after {HANGS} s'
    if process.exitcode<0: return f'{place(file)} was killed by {signal.Signals(-process.exitcode).name}'
    if process.exitcode: return f'{place(file)} failed'

def place(file):
    "Get the path of a notebook from the notebooks' folder"
    return file.relative_to(get_config().nbs_path).with_suffix('').as_posix()

def order(file):
    "Sort the longest notebooks first, so that processes finish together"
    rank = next((i for i,name in enumerate(LONGEST) if name in file.stem), len(LONGEST))
    return rank,file

def slowest(folder, n=20):
    "List the `n` slowest cells, a line each"
    rows = [json.loads(line) for f in Path(folder).iterdir() for line in f.read_text(encoding='utf-8').splitlines()]
    return [
        f'{seconds:6.1f} s  {notebook}, cell {i}: {first}'
        for seconds,notebook,i,first in sorted(rows, reverse=True)[:n]]

def main(words):
    files = [o.absolute() for o in nbglob(None, as_path=True)]
    unknown = [w for w in words if not any(w in place(o) for o in files)]
    if unknown: sys.exit(f"no notebook's path has {' or '.join(unknown)}")
    files = sorted((o for o in files if not words or any(w in place(o) for w in words)), key=order)
    start,context = time.perf_counter(),multiprocessing.get_context('forkserver')
    # processes are copies of one that has imported these, and done no other work
    context.set_forkserver_preload(['advtrain.all','nbdev.test','torch._dynamo'])
    with tempfile.TemporaryDirectory() as folder:
        os.environ[TIMES] = folder
        with ThreadPoolExecutor(min(os.cpu_count(), 8)) as pool: failures = pool.map(partial(failure, context), files)
        print('The slowest cells:', *slowest(folder), sep='\n')
    failures = [o for o in failures if o]
    print(f'{len(files)-len(failures)} notebooks passed, {len(failures)} failed, in {time.perf_counter()-start:.0f} s',
        *failures, sep='\n  ')
    sys.exit(bool(failures))

if __name__=='__main__': main(sys.argv[1:])
