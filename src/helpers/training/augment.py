"""Augmentation of a whole sample at once, on whatever device it lies: no loader, no worker processes."""

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 8  # of a side: the farthest shift is 4 of CIFAR-10's 32 pixels


def crop_and_flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to an eighth of its sides, and mirrored left to right with probability 1/2.

    The usual augmentation of CIFAR-10 (pad by 4 pixels, cut out a window of the old size at one of 9 x 9 places,
    mirror), in proportion for images of another size. Pixels from outside are 0, the mean colour of standardised
    images. Every image draws its own place and side.

    Args:
        inputs: shape (n, channels, height, width).
        generator: on the device of the inputs; it alone decides what is drawn.

    Raises:
        ValueError: if the inputs are not images.
    """
    if inputs.ndim != 4:
        raise ValueError(f"crop_and_flip takes images (n, channels, height, width), got shape {tuple(inputs.shape)}")
    n, _, height, width = inputs.shape
    down, right = height // SHARE, width // SHARE
    shifts = [torch.randint(2 * most + 1, (n, 1), generator=generator, device=inputs.device) for most in (down, right)]
    mirrored = torch.randint(2, (n, 1), generator=generator, device=inputs.device).bool()
    columns = torch.arange(width, device=inputs.device).expand(n, width)
    columns = torch.where(mirrored, columns.flip(1), columns) + shifts[1]
    rows = torch.arange(height, device=inputs.device) + shifts[0]
    images = torch.arange(n, device=inputs.device)
    padded = F.pad(inputs, (right, right, down, down))
    return padded[images[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
