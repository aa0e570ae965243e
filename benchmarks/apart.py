"""Calls in separate processes: one that fails, crashes or hangs doesn't affect the others.

The processes are copies of one that has imported the heavy modules and done no other work.
"""
import importlib,json,multiprocessing,os,signal,sys
from contextlib import suppress
from pathlib import Path

import psutil

CONTEXT = multiprocessing.get_context('forkserver')
HEAVY = 'keep','advtrain.all','heavy'
SETTINGS = dict(PYTHONUNBUFFERED='1', PYTHONFAULTHANDLER='1', MPLBACKEND='Agg', NO_ALBUMENTATIONS_UPDATE='1')
# otherwise, asking if there's a GPU starts using it, and then copies can't
SETTINGS['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'

def prepare(modules=HEAVY):
    "Set what processes have imported when they start; call it before the first one"
    os.environ.update(SETTINGS)
    os.environ.pop('PYTHONDONTWRITEBYTECODE', None) # the next process reuses what one has compiled
    places = [str(Path(__file__).parent), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    os.environ['PYTHONPATH'] = os.pathsep.join(dict.fromkeys(o for o in places if o))
    CONTEXT.set_forkserver_preload(list(modules))

def _uses_gpu():
    "Did the original of this copy start using the GPU?"
    return 'torch' in sys.modules and sys.modules['torch'].cuda._is_in_bad_fork()

def _begin(log, function, args):
    "Call `function`, in a fresh Python if this copy can't use the GPU"
    os.setsid()
    multiprocessing.set_start_method(None, force=True) # its processes start the usual way
    to = os.open(log, os.O_WRONLY|os.O_APPEND|os.O_CREAT, 0o644)
    for fd in (1,2): os.dup2(to, fd)
    if _uses_gpu(): os.execv(sys.executable, [sys.executable, __file__, json.dumps([function, args, sys.argv])])
    _call(function, args)

def _call(function, args):
    module,name = function.split(':')
    getattr(importlib.import_module(module), name)(*args)

class Apart:
    "A call in a separate process"
    def __init__(self,
        function, # Its module and name, such as 'forty:run_one'
        *args, # What JSON can hold
        log, # File for everything it prints
    ):
        self.stopped = False
        self.process = CONTEXT.Process(target=_begin, args=(str(log), function, args))
        self.process.start()

    def over(self, seconds=0):
        "Does it end within `seconds`?"
        self.process.join(seconds)
        return self.process.exitcode is not None

    def end(self):
        "Stop it and everything it started"
        self.stopped = not self.over()
        below = []
        with suppress(psutil.Error): below = psutil.Process(self.process.pid).children(recursive=True)
        with suppress(ProcessLookupError): os.killpg(self.process.pid, signal.SIGKILL)
        if self.stopped: self.process.kill() # it may not have its session yet
        for o in below:
            with suppress(psutil.Error): o.kill()
        self.process.join()

    def how(self):
        "Describe how it ended"
        code = self.process.exitcode
        if self.stopped: return 'stopped'
        if code<0: return f'ended by {signal.Signals(-code).name}'
        return f'failed with exit code {code}' if code else 'ok'

if __name__=='__main__':
    function,args,sys.argv = json.loads(sys.argv[1])
    _call(function, args)
