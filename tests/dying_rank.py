"""The command `advtrain_run`, in whose second epoch rank 1 is killed, unless it was started again. For `torchrun`."""
import os,signal,sys

import advtrain.all
from advtrain import experiment
from advtrain.cli import advtrain_run
from advtrain.distributed import SharedTraining

def after_step(self):
    first = os.environ['TORCHELASTIC_RESTART_COUNT']=='0'
    if first and self.rank==1 and len(self.epoch_log.rows)==1: os.kill(os.getpid(), signal.SIGKILL)

SharedTraining.after_step = after_step
experiment._DRAW = {'curves': experiment._DRAW['curves']} # the run of the other launcher draws all pictures
if __name__=='__main__': sys.exit(advtrain_run())
