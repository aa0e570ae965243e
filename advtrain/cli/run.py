"""`advtrain_run` as a module, for launchers: `torchrun --nproc_per_node 2 -m advtrain.cli.run quickstart`."""
import sys

from advtrain.cli.shell import advtrain_run

if __name__=='__main__': sys.exit(advtrain_run())
