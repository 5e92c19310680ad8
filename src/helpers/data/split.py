"""Examples with a role, and the disjoint roles that the bounds need: k training samples, val, val2 and test."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Examples with one role.

    Attributes:
        inputs: shape (n, ...).
        targets: shape (n,), int64 class indices (floating values for regression).
        classes: number of classes (0 for regression).
        edition: what the examples are, as captions say it, e.g. "CIFAR-10 (JPEG edition)".
        origin: the file or set that ``indices`` number, e.g. "digits/train"; "" when unknown.
        indices: shape (n,), row numbers within ``origin``; None when unknown.

    Raises:
        ValueError: if the split is empty, or inputs and targets differ in length.
    """

    inputs: Tensor
    targets: Tensor
    classes: int
    edition: str
    origin: str = ""
    indices: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) == 0:
            raise ValueError("a split needs at least one example; this one is empty")
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"a split has {len(self.inputs)} inputs but {len(self.targets)} targets; give one each")

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Tensor) -> "Split":
        """The examples at ``rows`` (m,), in that order."""
        indices = None if self.indices is None else self.indices[rows]
        return replace(self, inputs=self.inputs[rows], targets=self.targets[rows], indices=indices)

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Split":
        """The same examples on another device; ``dtype`` converts the inputs (and floating targets)."""
        targets = self.targets.to(device)
        if targets.is_floating_point():
            targets = targets.to(dtype)
        return replace(self, inputs=self.inputs.to(device=device, dtype=dtype), targets=targets)


def partition(split: Split, sizes: Sequence[int], *, seed: int) -> list[Split]:
    """Disjoint uniformly random subsets of the given sizes; what is left over stays unused.

    Raises:
        ValueError: if a size is not positive, or the sizes sum to more than the split holds.
    """
    if any(size < 1 for size in sizes):
        raise ValueError(f"every part needs at least one example, got sizes {list(sizes)}")
    if sum(sizes) > len(split):
        raise ValueError(
            f"{len(sizes)} disjoint parts need {sum(sizes)} examples, but there are {len(split)} of {split.edition}"
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return [split.take(rows) for rows in order[: sum(sizes)].split(list(sizes))]


def disjoint(split: Split, k: int, n: int, *, seed: int) -> list[Split]:
    """k disjoint random samples of n examples each: the training sets of k independent runs.

    Raises:
        ValueError: if k * n examples are not there, or k or n is not positive.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return partition(split, [n] * k, seed=seed)


def check_disjoint(*splits: Split) -> None:
    """Refuse splits that share examples, as far as their indices are known.

    Raises:
        ValueError: naming the first two splits that overlap, by position.
    """
    known = [(i, s.origin, set(s.indices.tolist())) for i, s in enumerate(splits) if s.origin and s.indices is not None]
    for position, (i, origin, rows) in enumerate(known):
        for j, other_origin, other_rows in known[position + 1 :]:
            if origin == other_origin and (shared := len(rows & other_rows)):
                raise ValueError(f"splits {i} and {j} share {shared} examples of {origin}; roles must be disjoint")


def with_label_noise(split: Split, share: float, *, seed: int) -> Split:
    """Replace the labels of a random ``share`` of examples by uniform random labels (Wang & Mao, section 5).

    A replaced label can be the true one by chance, so a share s changes s (1 - 1/classes) of the labels on average.

    Raises:
        ValueError: if the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of noisy labels must lie in [0, 1], got {share}")
    generator = torch.Generator().manual_seed(_seed_for("label noise", seed))
    rows = torch.randperm(len(split), generator=generator)[: round(share * len(split))]
    targets = split.targets.clone()
    targets[rows] = torch.randint(split.classes, (len(rows),), generator=generator)
    noisy = f"{split.edition}, {share:.0%} of the labels random" if share else split.edition
    return replace(split, targets=targets, edition=noisy)


def _seed_for(purpose: str, seed: int) -> int:
    """A seed of its own for a purpose: else the noisy examples would be the first that ``partition`` hands out."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:7], "big")


def as_images(split: Split) -> Split:
    """Inputs as (n, channels, height, width): flat square inputs such as digits' become one-channel images.

    Raises:
        ValueError: if flat inputs are not square.
    """
    if split.inputs.ndim == 4:
        return split
    side = round(split.inputs[0].numel() ** 0.5)
    if split.inputs.ndim != 2 or side**2 != split.inputs.shape[1]:
        raise ValueError(f"inputs of shape {tuple(split.inputs.shape)} are not images and not square when flat")
    return replace(split, inputs=split.inputs.view(-1, 1, side, side))
