"""Settings of the whole suite."""

import torch

# The tests' tensors are tiny: splitting them over threads costs more than it saves, most of all on a busy machine.
torch.set_num_threads(1)
