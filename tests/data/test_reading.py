"""Data sets and loaders of other people: all of it, once, and the same at a second look; or one sentence."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)  # fmt: skip

from helpers import data

X, Y = torch.arange(24.0).view(12, 2), torch.arange(12) % 3
HELD = TensorDataset(X, Y)


def rows(split):
    """Which rows of X a split holds."""
    return sorted((split.inputs[:, 0] / 2).long().tolist())


# --- Samplers ---------------------------------------------------------------------------------------------------------


def loaders(generator):
    return {
        "shuffled": DataLoader(HELD, 5, shuffle=True, generator=generator),
        "random sampler": DataLoader(HELD, 5, sampler=RandomSampler(HELD, generator=generator)),
        "in a batch sampler": DataLoader(
            HELD, batch_sampler=BatchSampler(RandomSampler(HELD, generator=generator), 5, False)
        ),
        "a subset": DataLoader(HELD, 5, sampler=SubsetRandomSampler(range(12), generator=generator)),
        "one by one": DataLoader(HELD, batch_size=1, sampler=RandomSampler(HELD, generator=generator)),
    }


@pytest.mark.parametrize("kind", loaders(None))
@pytest.mark.parametrize("own", [False, True])
def test_reading_a_loader_takes_every_example_and_moves_no_generator(kind, own):
    generator = torch.Generator().manual_seed(4) if own else None
    loader = loaders(generator)[kind]
    states = torch.get_rng_state(), generator and generator.get_state(), random.getstate()
    split = data.as_split(loader)
    assert rows(split) == list(range(12))
    assert torch.equal(split.targets, (split.inputs[:, 0] / 2).long() % 3)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert generator is None or torch.equal(generator.get_state(), states[1])
    assert random.getstate() == states[2]
    assert torch.equal(data.as_split(loader).inputs, split.inputs)


CHANCE = {
    "too few": lambda: RandomSampler(HELD, num_samples=7),
    "too many": lambda: RandomSampler(HELD, num_samples=24),
    "with replacement": lambda: RandomSampler(HELD, replacement=True),
    "weighted": lambda: WeightedRandomSampler([1.0] * 12, 12),
    "a part for each process": lambda: DistributedSampler(HELD, num_replicas=5, rank=0),
}


@pytest.mark.parametrize("kind", CHANCE)
@pytest.mark.parametrize("batched", [False, True])
def test_a_sampler_that_takes_examples_by_chance_is_refused(kind, batched):
    sampler = CHANCE[kind]()
    loader = (
        DataLoader(HELD, batch_sampler=BatchSampler(sampler, 5, False))
        if batched
        else DataLoader(HELD, sampler=sampler)
    )
    with pytest.raises(ValueError, match=r"leaves examples out or takes some twice, .* give the data set itself"):
        data.as_split(loader)


def test_a_sampler_of_chosen_rows_is_read_as_it_is():
    chosen = [1, 4, 7]
    for loader in (
        DataLoader(HELD, 2, sampler=SubsetRandomSampler(chosen)),
        DataLoader(HELD, 2, sampler=chosen),
        DataLoader(Subset(HELD, chosen), 2, shuffle=True),
        DataLoader(HELD, batch_sampler=[[4, 1], [7]]),
        DataLoader(HELD, 2, sampler=DistributedSampler(Subset(HELD, chosen), num_replicas=1, rank=0)),
    ):
        assert len(data.as_split(loader)) == 3
    assert rows(data.as_split(DataLoader(HELD, batch_sampler=[[4, 1], [7]]))) == chosen


@pytest.mark.parametrize(("taken", "dropped"), [(7, 2), (10, 0), (12, 2), (3, 3)])
def test_what_drop_last_drops_is_counted_in_the_sampler(taken, dropped):
    for loader in (
        DataLoader(HELD, 5, sampler=SubsetRandomSampler(range(taken)), drop_last=True),
        DataLoader(HELD, batch_sampler=BatchSampler(SubsetRandomSampler(range(taken)), 5, True)),
        DataLoader(HELD, batch_sampler=BatchSampler(range(taken), 5, True)),
        DataLoader(Subset(HELD, range(taken)), 5, drop_last=True),
    ):
        if dropped:
            with pytest.raises(ValueError, match=f"drops the last {dropped} examples; make it with drop_last=False"):
                data.as_split(loader)
        else:
            assert rows(data.as_split(loader)) == list(range(taken))


# --- Examples that change ---------------------------------------------------------------------------------------------


class Drawing(Dataset):
    """Adds noise at every reading."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 12

    def __getitem__(self, i):
        if i >= 12:
            raise IndexError
        return X[i] + self.draw(), Y[i]


OWN = torch.Generator().manual_seed(0)
NUMPY = np.random.default_rng(0)
DRAWS = {
    "torch": lambda: torch.randn(2),
    "numpy": lambda: np.random.randn(),  # noqa: NPY002
    "python": random.random,
    "a generator of its own": lambda: torch.randn(2, generator=OWN),
    "numpy's own": NUMPY.standard_normal,
    "a flip that may not be made": lambda: float(torch.rand(()) < 1e-9),
}


@pytest.mark.parametrize("kind", DRAWS)
def test_examples_that_change_at_each_reading_are_refused(kind):
    drawing = Drawing(DRAWS[kind])
    for examples in (drawing, DataLoader(drawing, 5), DataLoader(drawing, None), Subset(drawing, [1, 2])):
        with pytest.raises(ValueError, match="an example changes whenever it is read"):
            data.as_split(examples)


def test_batches_that_are_mixed_are_refused():
    def mixed(items):
        x, y = torch.utils.data.default_collate(items)
        return x + x[torch.randperm(len(x))], y

    with pytest.raises(ValueError, match="a mixing collate_fn"):
        data.as_split(DataLoader(HELD, 5, collate_fn=mixed))


def test_a_data_set_that_draws_once_and_holes_in_it_are_no_change():
    class Lazy(Drawing):
        noise = None

        def __getitem__(self, i):
            if self.noise is None:
                self.noise = torch.randn(12, 2)
            return super().__getitem__(i)[0] + self.noise[i], Y[i]

    lazy = Lazy(lambda: 0.0)
    state = torch.get_rng_state()
    split = data.as_split(lazy)
    assert torch.equal(split.inputs, X + lazy.noise)
    assert torch.equal(torch.get_rng_state(), state)
    hollow = Drawing(lambda: float("nan"))
    assert data.as_split(hollow).inputs.isnan().all()  # refused where it is measured, in another sentence


def test_a_stream_is_read_once():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(zip(X, Y, strict=True))

    assert rows(data.as_split(DataLoader(Stream(), 5))) == list(range(12))
    assert rows(data.as_split(DataLoader(Stream(), batch_size=None))) == list(range(12))
    with pytest.raises(ValueError, match=r"an IterableDataset has no items by number.*give a DataLoader of it"):
        data.as_split(Stream())


class Handed(IterableDataset):
    """Hands out what it is given."""

    def __init__(self, pieces):
        self.pieces = pieces

    def __iter__(self):
        return iter(self.pieces)

    def __len__(self):
        return len(self.pieces)


def test_a_loader_that_does_not_batch_hands_out_items_or_batches():
    soft = torch.eye(3)[Y]
    pieces = {
        "items": zip(X, Y, strict=True),
        "items with probabilities": zip(X, soft, strict=True),
        "batches": zip(X.split(5), Y.split(5), strict=True),
    }
    for name, handed in pieces.items():
        split = data.as_split(DataLoader(Handed(list(handed)), batch_size=None))
        assert torch.equal(split.inputs, X)
        assert torch.equal(split.targets, soft if "probabilities" in name else Y)


# --- Pairs and lists --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_list_of_pairs_holds_examples_also_when_they_are_two(n):
    split = data.as_split([(X[i], Y[i]) for i in range(n)])
    assert torch.equal(split.inputs, X[:n])
    assert torch.equal(split.targets, Y[:n])
    assert torch.equal(data.as_split([(X[i].numpy(), int(Y[i])) for i in range(n)]).inputs, X[:n])


def test_a_pair_of_arrays_is_a_pair_also_with_two_examples_or_two_inputs():
    for pair in ((X[:2], Y[:2]), [X[:2], Y[:2]], (X[:2].tolist(), Y[:2].tolist())):
        split = data.as_split(pair)
        assert torch.equal(split.inputs, X[:2])
        assert torch.equal(split.targets, Y[:2])
    assert torch.equal(data.as_split(((X, 2 * X), Y)).inputs[1], 2 * X)
    with pytest.raises(ValueError, match=r"single number|no array of numbers|one row an example"):
        data.as_split(((X[0], Y[0]), (X[1], Y[1])))


# --- What is no array of numbers --------------------------------------------------------------------------------------

ARRAYS = {
    "backwards": lambda x: x[::-1][::-1][::-1][::-1],
    "reversed copy": lambda x: np.flip(np.flip(x, 0).copy(), 0),
    "big-endian": lambda x: x.astype(">f4"),
    "in columns": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2],
    "broadcast": lambda x: np.broadcast_to(x[None], (1, *x.shape))[0],
    "a list": lambda x: x.tolist(),
    "unmasked": np.ma.masked_array,
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_numpy_arrays_of_any_layout_are_read(kind, recwarn):
    split = data.as_split((ARRAYS[kind](X.numpy()), Y.numpy()))
    assert torch.equal(split.inputs.float(), X)
    assert not recwarn.list


def test_an_array_that_may_not_be_written_is_copied(recwarn):
    locked = X.numpy().copy()
    locked.flags.writeable = False
    split = data.as_split((locked, Y.numpy()))
    split.inputs.add_(1)
    assert np.array_equal(locked, X.numpy())
    assert not recwarn.list


WORDS = r"'cat' is text, where a number is needed; number classes by one list of names"


class Named(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return {"x": X[i], "label": "cat"}


REFUSED = {
    "masked": (lambda: (np.ma.masked_array(X.numpy(), np.eye(12, 2)), Y), "masked entries"),
    "words": (lambda: (X, np.array(["cat", "dog"] * 6)), WORDS),
    "words in a list": (lambda: (X, ["cat", "dog"] * 6), WORDS),
    "words as objects": (lambda: (X, np.array(["cat", "dog"] * 6, dtype=object)), WORDS),
    "words of items": (lambda: [(x, "cat") for x in X], WORDS),
    "words of named items": (Named, WORDS),
    "words of batches": (lambda: torch.utils.data.DataLoader([(x, "cat") for x in X], batch_size=4), WORDS),
    "words without batches": (lambda: torch.utils.data.DataLoader([(x, "cat") for x in X], batch_size=None), WORDS),
    "words as inputs": (lambda: (["cat", "dog"], [0, 1]), WORDS),
    "objects": (lambda: (X.numpy().astype(object), Y), "no array of numbers"),
    "ragged": (lambda: ([[1.0, 2.0], [3.0]], [0, 1]), "no array of numbers"),
    "one target": (lambda: (X, 3), "targets are a single number"),
    "one input": (lambda: (torch.tensor(1.0), Y), "inputs are a single number"),
    "sparse": (lambda: (X.to_sparse(), Y), "inputs are sparse or nested; give them dense"),
    "sparse rows": (lambda: (X.to_sparse_csr(), Y), "inputs are sparse or nested"),
    "nested": (lambda: (torch.nested.nested_tensor([X[0], X[1]]), Y[:2]), "inputs are sparse or nested"),
    "sparse targets": (lambda: (X, Y.to_sparse()), "targets are sparse"),
    "complex targets": (lambda: (X, torch.complex(Y.float(), Y.float())), "targets must be real"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_sample_is_refused_in_a_sentence(kind):
    make, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        data.as_split(make())


def test_items_of_several_shapes_are_refused():
    with pytest.raises(ValueError, match=r"items differ in shape, \(2,\) and \(3,\); pad or crop"):
        data.as_split([(torch.ones(2), 0), (torch.ones(3), 1), (torch.ones(2), 1)])
    with pytest.raises(ValueError, match="targets must be a tensor, got tuple"):
        data.Split(X, (Y,), 3, "tuple")
    with pytest.raises(ValueError, match="inputs must be a tensor, got ndarray"):
        data.Split((X, X.numpy()), Y, 3, "mixed")


def test_indices_of_a_data_set_may_be_names():
    named = {f"row {i}": (X[i], Y[i]) for i in range(12)}

    class Named(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, name):
            return named[name]

    assert rows(data.as_split(DataLoader(Named(), 5, sampler=list(named)))) == list(range(12))
    assert len(data.as_split(DataLoader(HELD, sampler=SequentialSampler(HELD)))) == 12
