"""Run the notebooks as tests, as `nbdev_test` does, each in a process of its own, the longest first; print the slowest cells.

    python tools/test_notebooks.py [WORD ...]     # only notebooks whose path contains one of the words
"""
import json,multiprocessing,os,sys,tempfile,time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1') # several notebooks run at once, and threads of two processes would spin against each other
import nbdev.test
from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.doclinks import nbglob

LONGEST = 'gradcam cli experiment training extras interpret checkpoint search data overview compare report index augment'.split()
TIMES = 'ADVTRAIN_CELL_TIMES' # environment variable: folder where each process writes how long its cells took

class TimedShell(CaptureShell):
    "Runs cells, notes their seconds, and draws in screen resolution"
    def __init__(self, path):
        super().__init__(path, mpl_format='png')
        self.notebook = Path(path).name

    def cell(self, cell, *args, **kwargs):
        start = time.perf_counter()
        try: return super().cell(cell, *args, **kwargs)
        finally:
            row = [time.perf_counter()-start, self.notebook, cell.idx_, cell.source.strip().split('\n')[0][:70]]
            with open(Path(os.environ[TIMES])/str(os.getpid()), 'a', encoding='utf-8') as f: f.write(json.dumps(row)+'\n')

def test(file):
    "Run one notebook; True if it passes"
    multiprocessing.set_start_method(None, force=True) # its own processes start as they do in a notebook
    nbdev.test.CaptureShell = TimedShell
    return nbdev.test.test_nb(file, skip_flags=get_config().tst_flags.split(), basepath=get_config().config_path)[0]

def order(file):
    "The longest notebooks first, so that at the end no process waits for another one"
    place = next((i for i,name in enumerate(LONGEST) if name in file.stem), len(LONGEST))
    return place,file

def slowest(folder, n=20):
    "The `n` cells that took longest, a line each"
    rows = [json.loads(line) for f in Path(folder).iterdir() for line in f.read_text(encoding='utf-8').splitlines()]
    return [f'{seconds:6.1f} s  {notebook}, cell {i}: {first}' for seconds,notebook,i,first in sorted(rows, reverse=True)[:n]]

def main(words):
    files = [o.absolute() for o in nbglob(None, as_path=True) if not words or any(w in str(o) for w in words)]
    if not files: sys.exit(f"no notebook is called {' or '.join(words)}")
    files = sorted(files, key=order)
    start,context = time.perf_counter(),multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['advtrain.all','nbdev.test','torch._dynamo']) # a process is a copy of one that has imported them, and done nothing else
    with tempfile.TemporaryDirectory() as folder:
        os.environ[TIMES] = folder
        with ProcessPoolExecutor(min(len(files), os.cpu_count(), 8), context, max_tasks_per_child=1) as pool: passed = list(pool.map(test, files))
        print('The slowest cells:', *slowest(folder), sep='\n')
    failed = [o.name for o,ok in zip(files, passed) if not ok]
    print(f'{len(files)-len(failed)} notebooks passed, {len(failed)} failed, in {time.perf_counter()-start:.0f} s', *failed, sep='\n  ')
    sys.exit(bool(failed))

if __name__=='__main__': main(sys.argv[1:])
