"""The shell commands, from their first moment: Ctrl-C is one line and code 130, also while modules are imported."""
import signal,sys
from importlib import import_module

def _command(name):
    "The command called `name`, for the shell"
    def command():
        try:
            code = getattr(import_module('advtrain.cli.commands'), name)()
        except KeyboardInterrupt: # before the command could say more, or a second one
            print(f'{name}: interrupted', file=sys.stderr)
            code = 130
        signal.signal(signal.SIGINT, signal.SIG_IGN) # it's over, whatever is pressed now
        return code
    return command

advtrain_run = _command('advtrain_run')
advtrain_grid = _command('advtrain_grid')
advtrain_search = _command('advtrain_search')
advtrain_compare = _command('advtrain_compare')
advtrain_lr_find = _command('advtrain_lr_find')
advtrain_predict = _command('advtrain_predict')
