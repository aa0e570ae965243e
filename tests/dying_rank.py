"""The command `advtrain_run`, in whose second epoch rank 1 is killed, unless it was started again. For `torchrun`."""
import os,signal,sys

import advtrain.all # noqa: F401 - what the command imports, before it is changed
from advtrain.cli.commands import advtrain_run
from advtrain.train.ddp import SharedTraining
from advtrain.dist import rank
from conftest import little_drawn

def after_step(self):
    first = os.environ['TORCHELASTIC_RESTART_COUNT']=='0'
    if first and rank()==1 and len(self.epoch_log.rows)==1: os.kill(os.getpid(), signal.SIGKILL)

SharedTraining.after_step = after_step
if __name__=='__main__':
    with little_drawn(): sys.exit(advtrain_run()) # the run of the other launcher draws all pictures
