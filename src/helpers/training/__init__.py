"""k models from one initialisation on disjoint data, and what the bounds need from the way there.

==============  ==============================================================================
``ensemble``    ``train_ensemble``: the loop over epochs, the record of the way
``lockstep``    one step of all runs: gradients, SGD update, dispersion, in flat buffers
``steppers``    who performs the step: call by call, or as one recorded CUDA graph
``checkpoint``  ``save`` and ``load``: safetensors, nothing is ever unpickled
==============  ==============================================================================
"""

from helpers.training.checkpoint import CheckpointError, load, save
from helpers.training.ensemble import Diverged, Run, train_ensemble

__all__ = ["CheckpointError", "Diverged", "Run", "load", "save", "train_ensemble"]
