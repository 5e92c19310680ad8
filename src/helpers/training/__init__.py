"""How far do k runs from one initialisation go apart? Their training on disjoint data, and what the bounds need of it.

==============  ==============================================================================
``ensemble``    ``train_ensemble``: the arguments, the loop over epochs, the ``Run``
``progress``    one epoch of all runs, and all that the next one depends on
``lockstep``    one step of all runs: gradients, SGD update, dispersion, in flat buffers
``steppers``    who performs the step: call by call, or as one recorded CUDA graph
``randomness``  same seed, same numbers, whatever else draws in the process
``arguments``   what is asked of the arguments, each in one sentence
``resume``      an interrupted training goes on from its last whole epoch
``checkpoint``  ``save`` and ``load`` of a finished run: safetensors, nothing is ever unpickled
``container``   named tensors in one file, written whole, recognised when altered
``augment``     shifted and mirrored images, a whole sample at once
``bar``         how far a long computation is, on a terminal and in a notebook
==============  ==============================================================================
"""

from helpers.training.checkpoint import load, save
from helpers.training.container import CheckpointError
from helpers.training.ensemble import Run, train_ensemble
from helpers.training.progress import Diverged
from helpers.training.randomness import seeded

__all__ = ["CheckpointError", "Diverged", "Run", "load", "save", "seeded", "train_ensemble"]
