"""Examples with a role, and the disjoint roles that the bounds need: k training samples, val, val2 and test."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import repeat
from math import comb
from typing import Any

import torch
from torch import Tensor

from helpers._checks import no_text, seed_of, whole
from helpers._generators import generator_from
from helpers.data.inputs import each, flat_rows, length, tensors, types
from helpers.data.reading import array, batches_of, is_item, items_of, joined


@dataclass(frozen=True)
class Split:
    """Examples with one role.

    Attributes:
        inputs: shape (n, ...); or a tuple or dictionary of such tensors, for a model of several arguments.
        targets: shape (n,), int64 class indices; floating values for regression; (n, m) for several outputs, class
            probabilities or sequences. Whole numbers of another type become int64.
        classes: number of classes (0 for regression).
        edition: what the examples are, as captions say it, e.g. "CIFAR-10 (JPEG edition)".
        origin: the file or set that ``indices`` number, e.g. "digits/train"; "" when unknown.
        indices: shape (n,), row numbers within ``origin``, on the processor; None when unknown.

    Raises:
        ValueError: if the split is empty, something is not a tensor, or inputs and targets differ in length.
    """

    inputs: (
        Any  # a tensor, a tuple or a dictionary of tensors (data.inputs); most code of the book knows its one tensor
    )
    targets: Tensor
    classes: int
    edition: str
    origin: str = ""
    indices: Tensor | None = None

    def __post_init__(self) -> None:
        for name, part in [*(("inputs", part) for part in tensors(self.inputs)), ("targets", self.targets)]:
            if not isinstance(part, Tensor):
                raise ValueError(f"{name} must be a tensor, got {type(part).__name__}; use Split.from_arrays")
            if part.layout != torch.strided or part.is_nested:
                raise ValueError(f"{name} are sparse or nested; give them dense, as with to_dense()")
            if part.ndim == 0:
                raise ValueError(f"{name} are a single number; the first axis counts examples, so give shape (1, ...)")
        if self.targets.is_complex():
            raise ValueError(f"targets must be real, got {self.targets.dtype}; torch.view_as_real makes two of each")
        n = length(self.inputs)
        if n == 0:
            raise ValueError("a split needs at least one example; this one is empty")
        if n != len(self.targets):
            raise ValueError(f"a split has {n} inputs but {len(self.targets)} targets; give one each")
        if not self.targets.is_floating_point() and self.targets.dtype != torch.int64:
            object.__setattr__(self, "targets", self.targets.long())  # without loss

    def __repr__(self) -> str:
        shapes = [tuple(part.shape[1:]) for part in tensors(self.inputs)]
        shape = f"shape {shapes[0]}" if len(shapes) == 1 else f"{len(shapes)} tensors"
        task = f"{self.classes} classes" if self.classes else "regression"
        return f"<Split: {len(self.targets)} examples of {shape[:60]}, {task}, {repr(self.edition)[:60]}>"

    @classmethod
    def from_arrays(
        cls, X: Any, y: Any, *, classes: int | None = None, edition: str = "arrays", origin: str = ""
    ) -> "Split":
        """Arrays, tensors or lists; X may be a tuple or dictionary of them.

        Args:
            X: shape (n, ...).
            y: shape (n, ...); whole numbers are class indices, floating numbers regression targets.
            classes: number of classes; where it is left out, the largest class in y plus 1, or 0 for regression.

        Raises:
            ValueError: as ``Split``.
        """
        inputs, targets = each(array, X), array(y)
        split = cls(inputs, targets, classes or 0, edition, origin)
        if classes is None and not targets.is_floating_point() and targets.numel() > 0:
            return replace(split, classes=int(targets.max()) + 1)
        return split

    @classmethod
    def from_dataset(cls, dataset: Any, *, classes: int | None = None, edition: str | None = None) -> "Split":
        """Every item of a data set, read once, in order: (input, target), (input, ..., target) or a dictionary.

        A dictionary names its target "target", "targets", "label" or "labels". The edition is the data set's class name
        unless given.

        Raises:
            ValueError: if an item has no target, or holds what is no number (give ``transform=ToTensor()``); if items
                differ in shape, or from one reading to the next.
        """
        return cls._joined(torch.stack, items_of(dataset), dataset, classes, edition)

    @classmethod
    def from_loader(cls, loader: Any, *, classes: int | None = None, edition: str | None = None) -> "Split":
        """All batches of a loader, read once and joined. Items as in ``from_dataset``.

        Raises:
            ValueError: if the loader drops a last batch that is not full, takes examples by chance, is empty, or a
                batch has no target; if the examples or their joining change from one reading to the next.
        """
        source = getattr(loader, "dataset", None) or loader
        pieces = batches_of(loader)
        single = getattr(loader, "batch_size", None) is None and all(map(is_item, pieces))
        join = torch.stack if single else torch.cat  # a loader with batch_size=None may hand out items one by one
        return cls._joined(join, pieces, source, classes, edition)

    @classmethod
    def _joined(
        cls, join: Any, pieces: list[tuple[Any, Any]], source: Any, classes: int | None, edition: str | None
    ) -> "Split":
        """Items that are stacked, or batches that are concatenated."""
        if not pieces:
            raise ValueError(f"a split needs at least one example; this {type(source).__name__} is empty")
        columns = [piece[0] for piece in pieces]
        inputs: Any
        if isinstance(columns[0], Mapping):
            inputs = {name: joined(join, [one[name] for one in columns]) for name in columns[0]}
        elif isinstance(columns[0], tuple):
            inputs = tuple(joined(join, column) for column in zip(*columns, strict=True))
        else:
            inputs = joined(join, columns)
        names = getattr(source, "classes", None)
        count = classes if classes is not None else len(names) if names else None
        targets = joined(join, [piece[1] for piece in pieces])
        return cls.from_arrays(inputs, targets, classes=count, edition=edition or type(source).__name__)

    def __len__(self) -> int:
        return length(self.inputs)

    def take(self, rows: Tensor | slice) -> "Split":
        """The examples at ``rows``, (m,) on any device or a slice, in that order."""

        def at(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device) if isinstance(rows, Tensor) else rows]

        indices = None if self.indices is None else at(self.indices)
        return replace(self, inputs=each(at, self.inputs), targets=at(self.targets), indices=indices)

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Split":
        """The same examples on another device; ``dtype`` converts floating inputs and targets, and no others."""

        def moved(tensor: Tensor) -> Tensor:
            if tensor.is_inference() and not torch.is_inference_mode_enabled():
                tensor = tensor.clone()  # into one that autograd may save
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return replace(self, inputs=each(moved, self.inputs), targets=moved(self.targets))


def as_split(examples: Any) -> Split:
    """A Split as it is; a Dataset, a DataLoader, a pair (X, y) of arrays or a list of (input, target) as its Split.

    A list of tuples holds examples, also when they are two; X and y come as a tuple, or as a list of two arrays.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(examples, Split):
        return examples
    if isinstance(examples, torch.utils.data.DataLoader):
        return Split.from_loader(examples)
    if isinstance(examples, torch.utils.data.IterableDataset):
        raise ValueError(
            "an IterableDataset has no items by number, so it cannot be read again to see that it stays the same; give "
            "a DataLoader of it, or list(dataset)"
        )
    if isinstance(examples, torch.utils.data.Dataset) and hasattr(examples, "__len__"):
        return Split.from_dataset(examples)
    if isinstance(examples, list) and examples and all(isinstance(item, tuple) for item in examples):
        return Split.from_dataset(examples)
    if isinstance(examples, tuple | list) and len(examples) == 2:
        return Split.from_arrays(*examples)
    raise ValueError(
        "examples must be a data.Split, a Dataset, a DataLoader, a pair (X, y) or a list of (input, target), "
        f"got {type(examples).__name__}"
    )


def as_splits(samples: Iterable[Any], *, name: str) -> list[Split]:
    """One Split for each of several samples, whatever hands them out; ``name`` is what a refusal calls them.

    Raises:
        ValueError: if it is one sample, whose examples or batches would be taken for samples; with the position, if an
            entry is no sample.
    """
    one = isinstance(samples, Split | Tensor | Mapping | str | bytes | torch.utils.data.Dataset)
    one = one or isinstance(samples, torch.utils.data.DataLoader) or hasattr(samples, "__array__")
    if one or not isinstance(samples, Iterable):
        raise ValueError(
            f"{name} must be a list with one data.Split for each run, got one {type(samples).__name__}; data.disjoint "
            "makes k of them"
        )
    splits = []
    for position, sample in enumerate(samples):
        try:
            splits.append(as_split(sample))
        except ValueError as error:
            raise ValueError(
                f"{name}[{position}]: {error} ({name} must be a list with one data.Split for each run)"
            ) from error
    return splits


def partition(split: Any, sizes: Sequence[int], *, seed: int) -> list[Split]:
    """Disjoint uniformly random subsets of the given sizes; what is left over stays unused.

    Args:
        split: a ``data.Split`` or what ``as_split`` takes.

    Raises:
        ValueError: if a size is no whole number from 1, or the sizes sum to more than the split holds.
    """
    split = as_split(split)
    no_text("sizes", sizes)
    if not isinstance(sizes, Iterable):
        raise ValueError(f"sizes must hold one number for each part, such as [{sizes}], got a {type(sizes).__name__}")
    sizes = [whole("every entry of sizes", size) for size in sizes]
    if sum(sizes) > len(split):
        raise ValueError(
            f"{len(sizes)} disjoint parts need {sum(sizes)} examples, but there are {len(split)} of {split.edition}"
        )
    order = torch.randperm(len(split), generator=generator_from(seed))
    return [split.take(rows) for rows in order[: sum(sizes)].split(sizes)]


def disjoint(split: Any, k: int, n: int, *, seed: int) -> list[Split]:
    """k disjoint random samples of n examples each: the training sets of k independent runs.

    Args:
        split: a ``data.Split`` or what ``as_split`` takes.

    Raises:
        ValueError: if k * n examples are not there, or k or n is no whole number from 1.
    """
    return partition(split, [whole("n", n)] * whole("k", k), seed=seed)


def check_disjoint(*samples: Any, names: Sequence[str] | None = None) -> None:
    """Refuse splits that share examples: by their indices where both have one origin, else by the inputs' values.

    Values that repeat within a split (bits, categories) may repeat between splits, too: twice the share of examples
    that have a twin within a split may be common to two of them.

    Args:
        samples: each a ``data.Split`` or what ``as_split`` takes.
        names: what a refusal calls each split; unless given, "split" and its position.

    Raises:
        ValueError: naming the first two splits that overlap.
    """
    splits = [as_split(sample) for sample in samples]
    names = names or [f"split {i}" for i in range(len(splits))]

    @cache
    def rows(position: int, dtype: torch.dtype | None) -> list[bytes]:
        return flat_rows(splits[position].inputs, dtype=dtype)

    for j, second in enumerate(splits):
        for i, first in enumerate(splits[:j]):
            numbered = first.indices is not None and second.indices is not None
            if numbered and first.origin and first.origin == second.origin:
                shared = len(set(first.indices.tolist()) & set(second.indices.tolist()))  # type: ignore[union-attr]
                if shared:
                    raise ValueError(
                        f"{names[i]} and {names[j]} share {shared} examples of {first.origin}; roles must be disjoint"
                    )
            elif not (numbered and first.origin and second.origin):
                # a copy in another precision is a copy: then what float32 tells apart decides
                dtype = None if types(first.inputs) == types(second.inputs) else torch.float32
                shared = _shared(rows(i, dtype), rows(j, dtype))
                if shared:
                    raise ValueError(
                        f"{names[i]} and {names[j]} share {shared} examples; roles must be disjoint: leave the doubles "
                        "out, or join both and draw the roles anew with data.partition"
                    )


def _shared(first: list[bytes], second: list[bytes]) -> int:
    """Examples of the smaller list that are in the larger, if too many for values that repeat anyway: draws of one
    distribution agree as often between two lists as within either, also within the one without doubles.
    """
    few, many = sorted(map(Counter, (first, second)), key=Counter.total)
    shared = sum(count for row, count in few.items() if row in many)
    twins = max(sum(count for count in rows.values() if count > 1) / rows.total() for rows in (few, many))
    # the share of pairs that agree within a list, with three more: at 95 % there are no more where none was seen
    usual = min((sum(map(comb, r.values(), repeat(2))) + 3) / comb(max(r.total(), 2), 2) for r in (few, many))
    pairs = sum(count * many[row] for row, count in few.items()) / few.total() / many.total()
    return shared if shared > 2 * twins * few.total() or pairs > 2 * usual else 0


def with_label_noise(split: Any, share: float, *, seed: int) -> Split:
    """Replace the labels of a random ``share`` of examples by uniform random labels (Wang & Mao, section 5).

    A replaced label can be the true one by chance, so a share s changes s (1 - 1/classes) of the labels on average.

    Args:
        split: a ``data.Split`` or what ``as_split`` takes.

    Raises:
        ValueError: if the share is not in [0, 1] or of no example, or the targets are not one class an example.
    """
    given: Split = as_split(split)
    if given.classes < 2 or given.targets.is_floating_point() or given.targets.ndim != 1:
        raise ValueError("label noise draws random classes; this split has no class an example")
    if not 0 <= share <= 1:
        raise ValueError(f"the share of noisy labels must lie in [0, 1], got {share}")
    generator = generator_from(_seed_for("label noise", seed_of(seed)))
    rows = torch.randperm(len(given), generator=generator)[: round(share * len(given))]
    if share > 0 and len(rows) == 0:
        raise ValueError(f"a share of {share} of {len(given)} examples is no example; take more of either")
    targets = given.targets.clone()
    targets[rows] = torch.randint(given.classes, (len(rows),), generator=generator)
    noisy = f"{given.edition}, {100 * share:g}% of the labels random" if share else given.edition
    return replace(given, targets=targets, edition=noisy)


def _seed_for(purpose: str, seed: int) -> int:
    """A seed of its own for a purpose: else the noisy examples would be the first that ``partition`` hands out."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:7], "big")


def as_images(split: Any) -> Split:
    """Inputs as (n, channels, height, width): flat square inputs such as digits' become one-channel images.

    Args:
        split: a ``data.Split`` or what ``as_split`` takes.

    Raises:
        ValueError: if flat inputs are not square, or there are several.
    """
    given: Split = as_split(split)
    if not isinstance(given.inputs, Tensor):
        raise ValueError(f"images are one tensor, but the inputs are a {type(given.inputs).__name__} of several")
    if given.inputs.ndim == 4:
        return given
    side = round(given.inputs[0].numel() ** 0.5)
    if given.inputs.ndim != 2 or side**2 != given.inputs.shape[1]:
        raise ValueError(f"inputs of shape {tuple(given.inputs.shape)} are not images and not square when flat")
    return replace(given, inputs=given.inputs.view(-1, 1, side, side))
