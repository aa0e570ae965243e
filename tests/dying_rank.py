"""The command `advtrain_run`, in whose second epoch rank 1 is killed, unless it was started again. For `torchrun`."""
import os,signal,sys

from advtrain.cli import advtrain_run
from advtrain.distributed import SharedTraining

def after_step(self):
    if self.rank==1 and len(self.epoch_log.rows)==1 and os.environ['TORCHELASTIC_RESTART_COUNT']=='0': os.kill(os.getpid(), signal.SIGKILL)

SharedTraining.after_step = after_step
if __name__=='__main__': sys.exit(advtrain_run())
