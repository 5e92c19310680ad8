"""Examples of other people's data sets and loaders: read whole, once, and found the same at a second look.

A bound is about one sample. So a loader that leaves examples out or takes them by chance is refused, and so is a data
set that changes an example whenever it is read, as augmentation does. Reading leaves all shared generators, and those
of the loader, where they stood.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, IterableDataset, RandomSampler, WeightedRandomSampler

from helpers._generators import shared_generators, unchanged

LOOKS = 4  # examples that are read again

Part = tuple[Any, Any]  # inputs and target of an item or a batch


def items_of(dataset: Any) -> list[Part]:
    """Every item of a data set, in order.

    Raises:
        ValueError: if it has no length, an item has no target, or differs from one reading to the next.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ValueError(
            f"a {type(dataset).__name__} has no length and no items by number; give Split.from_loader a loader"
        )
    with _generators_kept(dataset):
        items = [part(dataset[i]) for i in range(len(dataset))]
        few = list(range(0, len(items), max(len(items) // LOOKS, 1)))[:LOOKS]
        _check_same(lambda: [part(dataset[i]) for i in few])
    return items


def batches_of(loader: Any) -> list[Part]:
    """Every batch of a loader, read once.

    Raises:
        ValueError: if examples are left out or taken by chance; if a batch has no target; if the examples, or what
            joins them to batches, differ from one reading to the next.
    """
    _check_whole(loader)
    with _generators_kept(loader):
        batches = [part(batch) for batch in loader]
        dataset: Any = getattr(loader, "dataset", None)
        join = getattr(loader, "collate_fn", None)
        if join is not None and hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset):
            batch = getattr(loader, "batch_sampler", None)
            few = list(islice(loader.sampler if batch is None else next(iter(batch), []), LOOKS))
            if batch is None:
                _check_same(lambda: [part(join(dataset[i])) for i in few])
            elif few:
                _check_same(lambda: [part(join([dataset[i] for i in few]))])
    return batches


def _check_whole(loader: Any) -> None:
    batch = getattr(loader, "batch_sampler", None)
    sampler = getattr(batch, "sampler", None) or getattr(loader, "sampler", None)
    if (
        isinstance(sampler, WeightedRandomSampler)
        or (isinstance(sampler, DistributedSampler) and sampler.num_replicas > 1)
        or (
            isinstance(sampler, RandomSampler)
            and (sampler.replacement or sampler.num_samples != len(sampler.data_source))
        )
    ):
        raise ValueError(
            f"the loader's {type(sampler).__name__} leaves examples out or takes some twice, others at each reading; "
            "give the data set itself, or the torch.utils.data.Subset of it that is meant"
        )
    if getattr(loader, "drop_last", False) or getattr(batch, "drop_last", False):
        held = sampler if isinstance(sampler, Sized) else getattr(loader, "dataset", None)
        size = getattr(batch, "batch_size", None) or getattr(loader, "batch_size", None)
        dropped = len(held) % size if isinstance(held, Sized) and size else None
        if dropped != 0:
            number = "" if dropped is None else f" {dropped}"
            raise ValueError(f"the loader drops the last{number} examples; make it with drop_last=False")


def _check_same(read: Callable[[], list[Part]]) -> None:
    """Refuse what draws while it is read, or gives something else the second time."""
    before = _states_elsewhere()
    with unchanged(shared_generators()) as drawn:
        first = _tensors(read())
        by_chance = drawn() or _states_elsewhere() != before
    second = _tensors(read())
    if by_chance or len(first) != len(second) or not all(map(_equal, first, second)):
        raise ValueError(
            "an example changes whenever it is read (random transforms, a mixing collate_fn?), so there is no one "
            "sample; give the data without them, and to a training by augment="
        )


def _states_elsewhere() -> tuple[Any, ...]:
    """Where the generators of Python and of NumPy stand, which transforms may draw from."""
    state: Any = np.random.get_state()  # noqa: NPY002
    return random.getstate(), state[1].tobytes(), state[2:]


def _tensors(parts: Iterable[Any]) -> list[Tensor]:
    result: list[Tensor] = []
    for one in parts:
        if isinstance(one, Mapping):
            result += _tensors(one.values())
        elif isinstance(one, tuple):
            result += _tensors(one)
        else:
            result.append(array(one))
    return result


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())


@contextmanager
def _generators_kept(source: Any) -> Iterator[None]:
    """Shared generators, and those of the source and its samplers, stand afterwards as before."""
    batch = getattr(source, "batch_sampler", None)
    owners = (source, getattr(source, "dataset", None), getattr(source, "sampler", None), batch)
    held = [getattr(owner, "generator", None) for owner in (*owners, getattr(batch, "sampler", None))]
    generators = {str(i): one for i, one in enumerate(held) if isinstance(one, torch.Generator)}
    with ExitStack() as stack:
        stack.enter_context(unchanged(shared_generators() | generators))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        yield


def part(item: Any) -> Part:
    """Inputs and target of an item or a batch."""
    if isinstance(item, Mapping):
        for name in ("target", "targets", "label", "labels"):
            if name in item:
                return {key: value for key, value in item.items() if key != name}, item[name]
        raise ValueError(f"an item names no target; call it 'target' or 'label' (it has {', '.join(map(str, item))})")
    if isinstance(item, tuple | list) and len(item) >= 2:
        return (item[0] if len(item) == 2 else tuple(item[:-1])), item[-1]
    raise ValueError(f"an item must be (input, target) or a dictionary with a target, got {type(item).__name__}")


def is_item(one: Part) -> bool:
    """Whether this is one example, not a batch, in which inputs and targets are equally many."""
    inputs, target = (_tensors([half]) for half in one)
    return any(tensor.ndim == 0 or len(tensor) != len(inputs[0]) for tensor in (*target, *inputs))


def joined(join: Callable[[list[Tensor]], Tensor], pieces: Sequence[Any]) -> Tensor:
    """Items stacked, or batches concatenated."""
    parts = [array(one) for one in pieces]
    try:
        return join(parts)
    except RuntimeError as error:
        shapes = sorted({tuple(one.shape) for one in parts})
        raise ValueError(f"items differ in shape, {shapes[0]} and {shapes[-1]}; pad or crop them to one") from error


def array(values: Any) -> Tensor:
    """Values of any library as a tensor; ValueError if they are no numbers, or some are masked."""
    if isinstance(values, Tensor):
        return values
    try:
        numbers = np.asarray(values)
        words = [one for one in numbers.flat if isinstance(one, str | bytes)] if numbers.dtype.kind in "USO" else []
        if words:
            raise ValueError(
                f"{str(words[0])!r:.40} is text, where a number is needed; number classes by one list of "
                "names for all samples (names.index, as target_transform of a data set), and texts by their tokens"
            )
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            raise ValueError("an array has masked entries, which a tensor cannot have; fill them or leave them out")
        # In the machine's byte order, forwards in memory and writable, as PyTorch needs them.
        native = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("=")).reshape(numbers.shape)
        return torch.as_tensor(native if native.flags.writeable else native.copy())
    except (TypeError, ValueError) as error:
        if "masked" in str(error) or "is text" in str(error):
            raise
        kind = type(values).__name__
        raise ValueError(f"a {kind} is no array of numbers; give tensors, for images transform=ToTensor()") from error
