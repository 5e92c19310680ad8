"""Settings of the whole suite."""

import torch
from hypothesis import settings

# The tests' tensors are tiny: splitting them over threads costs more than it saves, most of all on a busy machine.
torch.set_num_threads(1)

# A busy machine is no reason for a property to fail.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
