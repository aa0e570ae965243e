"""Separate processes that skip the slow imports, and can be killed at a known place."""
import gc,multiprocessing,os,signal,time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from conftest import little_drawn

PRELOADED = '''advtrain.launch.search albumentations scipy.stats sklearn.metrics torch._dynamo
matplotlib.backends.backend_agg optuna.visualization.matplotlib pg8000'''.split()
HANGS = 600 # seconds that nothing takes, however busy the machine is

def _context():
    "Fork processes from one that has done the slow imports and nothing else"
    if 'forkserver' not in multiprocessing.get_all_start_methods(): pytest.skip('the processes are forked')
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([*PRELOADED])
    return context

def hold(name, tell):
    "Let this process tell that it is in the second epoch of a run in a folder like `name`, and wait to be stopped"
    from advtrain.launch import runner
    class Held(runner.KeepHistory):
        def before_batch(self):
            if self.epoch==1 and self.training and self.folder.match(name):
                tell()
                while True: signal.pause()
    runner.KeepHistory = Held

def _call(function, args, folder, terminal, env, hold_in, held):
    "Call a function with one thread; what it prints goes into files, or to a terminal"
    import torch
    from advtrain.launch import search
    gc.freeze() # what was imported is not looked through again, here and in forks
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True) # what it starts is not made by the fork server
    os.environ.update({'OMP_NUM_THREADS': '1'} | env) # also for processes that it starts
    to = {i: terminal for i in range(3)} if terminal else {1: folder/'out', 2: folder/'err'}
    for i,file in to.items(): os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), i)
    if hold_in: hold(hold_in, held.set)
    search._PLOTS = search._PLOTS[:1] # the tests that start processes look at no picture
    with little_drawn(): function(*args)

class Started:
    "Call a function in a separate process"
    def __init__(self, function, *args, hold=None, env=None, terminal=None, daemon=True):
        context,self.printed = _context(),TemporaryDirectory()
        self.held = context.Event()
        how = function,args,Path(self.printed.name),terminal,env or {},hold,self.held
        self.process = context.Process(target=_call, args=how, daemon=daemon)
        self.process.start()
        self.pid = self.process.pid

    def read(self, name): return (Path(self.printed.name)/name).read_text(encoding='utf-8')

    def exit_code(self):
        "Wait for the end and return the exit code: negative for a signal, `None` if it hangs"
        self.process.join(HANGS)
        return self.process.exitcode

    def ended(self):
        "Wait for the end without an error, and return the printed text"
        assert self.exit_code()==0, self.read('err')
        return self.read('out')

    def wait_until_held(self):
        wait_for(lambda: self.held.is_set() or not self.process.is_alive())
        assert self.process.is_alive(), self.read('err')

    def kill(self):
        "Kill it while it is at work"
        assert self.process.is_alive(), self.read('err')
        self.process.kill()
        self.process.join()
        assert self.process.exitcode==-signal.SIGKILL

def wait_for(what, pause=.05):
    "Wait until `what()` is true"
    end = time.monotonic()+HANGS
    while not (res := what()):
        assert time.monotonic()<end, f'not true within {HANGS} seconds'
        time.sleep(pause)
    return res
