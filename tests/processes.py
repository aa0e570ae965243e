"""Processes of their own that need not import everything anew, and can be killed at a known place."""
import multiprocessing,os,signal,time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

PRELOADED = 'advtrain.search','optuna.visualization.matplotlib','pg8000'

def _context():
    "What makes processes as copies of one that has imported what takes seconds, and has done nothing else"
    if 'forkserver' not in multiprocessing.get_all_start_methods(): pytest.skip('the processes are forked')
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([*PRELOADED])
    return context

def hold(name, tell):
    "Let this process tell that it is in the second epoch of a run in a folder like `name`, and wait there until it is stopped"
    from advtrain import experiment
    class Held(experiment.KeepHistory):
        def before_batch(self):
            if self.epoch==1 and self.training and self.folder.match(name):
                tell()
                while True: signal.pause()
    experiment.KeepHistory = Held

def _call(function, args, folder, hold_in, held):
    "Call a function with one thread; what it prints goes into files"
    import torch
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1' # for processes that it starts
    for i,name in ((1,'out'),(2,'err')): os.dup2(os.open(folder/name, os.O_WRONLY | os.O_CREAT), i)
    if hold_in: hold(hold_in, held.set)
    function(*args)

class Started:
    "A function that is called in a process of its own"
    def __init__(self, function, *args, hold=None):
        context,self.printed = _context(),TemporaryDirectory()
        self.held = context.Event()
        self.process = context.Process(target=_call, args=(function, args, Path(self.printed.name), hold, self.held), daemon=True)
        self.process.start()
        self.pid = self.process.pid

    def read(self, name): return (Path(self.printed.name)/name).read_text(encoding='utf-8')

    def ended(self):
        "What it printed, at its end without an error"
        self.process.join(300)
        assert self.process.exitcode==0, self.read('err')
        return self.read('out')

    def wait_until_held(self, seconds=120):
        wait_for(lambda: self.held.is_set() or not self.process.is_alive(), seconds)
        assert self.process.is_alive(), self.read('err')

    def kill(self):
        "Kill it while it is at work"
        assert self.process.is_alive(), self.read('err')
        self.process.kill()
        self.process.join()
        assert self.process.exitcode==-signal.SIGKILL

def wait_for(what, seconds=120):
    "Wait until `what()` is true"
    end = time.monotonic()+seconds
    while not (res := what()):
        assert time.monotonic()<end, 'waited in vain'
        time.sleep(.05)
    return res
