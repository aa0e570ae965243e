"""The shell commands. Ctrl-C prints one line and exits with 130, even while modules are imported."""
import signal,sys
from importlib import import_module

def _command(name):
    "Make the shell command `name`"
    def command():
        try:
            code = getattr(import_module('advtrain.cli.commands'), name)()
        except KeyboardInterrupt: # too early for the command to print more, or pressed twice
            print(f'{name}: interrupted', file=sys.stderr)
            code = 130
        signal.signal(signal.SIGINT, signal.SIG_IGN) # it's over: ignore further Ctrl-C
        return code
    return command

advtrain_run = _command('advtrain_run')
advtrain_grid = _command('advtrain_grid')
advtrain_search = _command('advtrain_search')
advtrain_ablate = _command('advtrain_ablate')
advtrain_compare = _command('advtrain_compare')
advtrain_lr_find = _command('advtrain_lr_find')
advtrain_predict = _command('advtrain_predict')
