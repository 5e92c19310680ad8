import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import data, losses, omniscient, supersample, training

JPEG = Path(os.environ.get("HELPERS_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def numbered(n, classes=10):
    return data.Split(
        torch.arange(n)[:, None].float(), torch.arange(n) % classes, classes, "numbers", "n", torch.arange(n)
    )


@given(k=st.integers(1, 6), n=st.integers(1, 15), seed=st.integers(0, 5))
def test_disjoint_samples_share_nothing_and_stay_aligned(k, n, seed):
    splits = data.disjoint(numbered(100), k, n, seed=seed)
    rows = torch.cat([split.indices for split in splits])
    assert len(splits) == k
    assert {len(split) for split in splits} == {n}
    assert len(rows.unique()) == k * n
    for split in splits:
        assert torch.equal(split.inputs[:, 0].long(), split.indices)
        assert torch.equal(split.targets, split.indices % 10)
    data.check_disjoint(*splits)


def test_partition_is_random_and_repeatable():
    first, again, other = (data.partition(numbered(50), [20], seed=seed)[0].indices for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_overlap_is_found_by_number_within_one_origin_and_by_content_where_an_origin_is_unknown():
    whole = numbered(10)
    with pytest.raises(ValueError, match=r"split 0 and split 1 share 2 examples of n"):
        data.check_disjoint(whole.take(torch.arange(5)), whole.take(torch.arange(3, 8)))
    elsewhere = data.Split(whole.inputs, whole.targets, 10, "other", "m", whole.indices)
    data.check_disjoint(whole, elsewhere)  # row 3 of one file is not row 3 of another
    unknown = data.Split(whole.inputs, whole.targets, 10, "unknown")
    for pair in ((unknown, unknown), (whole, unknown), (unknown.take(slice(4)), unknown.take(slice(3, 9)))):
        with pytest.raises(ValueError, match=r"split 0 and split 1 share (10|1) examples"):
            data.check_disjoint(*pair)
    data.check_disjoint(unknown.take(slice(4)), unknown.take(slice(4, 10)))


def test_values_that_repeat_within_a_sample_may_repeat_between_samples():
    coins = [data.Split.from_arrays(torch.randint(2, (40, 3)), torch.zeros(40, dtype=torch.int64)) for _ in range(2)]
    data.check_disjoint(*coins)
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(2, 1)
    data.check_disjoint(*(data.Split.from_arrays(corners, torch.zeros(8, dtype=torch.int64)) for _ in range(2)))


@pytest.mark.parametrize("rows", [list(range(80)) * 2, [i % 50 for i in range(80)]])
def test_a_list_that_repeats_itself_does_not_hide_what_it_shares(rows):
    """A sample written twice, a bootstrap of it; values here never repeat by themselves."""
    values = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    train, test = (
        data.Split.from_arrays(values[part], torch.zeros(len(part), dtype=torch.int64)) for part in (range(80), rows)
    )
    for pair in ((train, test), (test, train)):
        with pytest.raises(ValueError, match=r"share (50|80) examples"):
            data.check_disjoint(*pair)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [([60, 60], "120 examples"), ([0], "every entry of sizes must be a whole number of at least 1")],
)
def test_impossible_partitions_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        data.partition(numbered(100), sizes, seed=0)


def test_empty_and_ragged_splits_are_refused():
    with pytest.raises(ValueError, match="this one is empty"):
        data.Split(torch.zeros(0, 2), torch.zeros(0), 2, "none")
    with pytest.raises(ValueError, match="3 inputs but 2 targets"):
        data.Split(torch.zeros(3, 2), torch.zeros(2), 2, "ragged")


def test_label_noise_changes_the_stated_share():
    split = numbered(4000)
    noisy = data.with_label_noise(split, 0.5, seed=0)
    changed = (noisy.targets != split.targets).double().mean()
    assert changed == pytest.approx(0.5 * 0.9, abs=0.03)
    assert "50% of the labels random" in noisy.edition
    assert torch.equal(noisy.inputs, split.inputs)
    assert data.with_label_noise(split, 0, seed=0).edition == split.edition
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        data.with_label_noise(split, 1.5, seed=0)


def test_digits_are_standardised_and_mixed():
    train, test = data.load("digits"), data.load("digits", train=False)
    assert (len(train), len(test), train.inputs.shape[1], train.classes) == (1297, 500, 64, 10)
    assert train.inputs.mean() == pytest.approx(0, abs=1e-6)
    assert train.inputs.std() == pytest.approx(1, abs=1e-6)
    assert len(test.targets.unique()) == 10
    assert data.as_images(train).inputs.shape == (1297, 1, 8, 8)


def test_images_must_be_square():
    with pytest.raises(ValueError, match="not square"):
        data.as_images(data.Split(torch.zeros(2, 5), torch.zeros(2), 2, "x"))


def test_the_jpeg_edition_is_read_whole():
    if not (JPEG / "cifar10-jpeg").is_dir():
        pytest.skip("the JPEG edition of CIFAR-10 is not here: set HELPERS_DATA to the folder that holds cifar10-jpeg/")
    test = data.load("cifar10-jpeg", root=JPEG, train=False)
    assert test.inputs.shape == (10_000, 3, 32, 32)
    assert test.targets.bincount().tolist() == [1000] * 10
    assert test.edition == "CIFAR-10 (JPEG edition)"
    assert test.inputs.mean((0, 2, 3)).abs().max() < 0.05
    assert (test.inputs.std((0, 2, 3)) - 1).abs().max() < 0.02
    halved = data.load("cifar10-jpeg-16", root=JPEG, train=False)
    torch.testing.assert_close(halved.inputs[7, 1, 3, 5], test.inputs[7, 1, 6:8, 10:12].mean())
    assert halved.inputs.shape == (10_000, 3, 16, 16)
    assert halved.edition == "CIFAR-10 (JPEG edition, 16 × 16 pixels)"
    with pytest.raises(ValueError, match=r"share 10000 examples of cifar10-jpeg/test"):
        data.check_disjoint(halved, test)


def test_a_missing_file_names_itself_and_the_ways_out(tmp_path):
    with pytest.raises(
        data.DataError, match=r"train\.parquet is missing; point HELPERS_DATA .* or use dataset 'digits'"
    ):
        data.load("cifar10-jpeg", root=tmp_path)
    with pytest.raises(data.DataError, match=r"CIFAR-10 was not found whole .* download=True"):
        data.load("cifar10", root=tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1 not really", b"\0" * 1000])
def test_a_wrong_file_is_refused_before_it_is_parsed(tmp_path, content):
    (tmp_path / "cifar10-jpeg").mkdir()
    (tmp_path / "cifar10-jpeg" / "train.parquet").write_bytes(content)
    with pytest.raises(data.DataError, match="not the expected file of 50,000 images"):
        data.load("cifar10-jpeg", root=tmp_path)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(data.DataError, match="choose from digits, cifar10-jpeg, cifar10"):
        data.load("imagenet")


def test_the_data_root_is_the_argument_then_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("HELPERS_DATA", str(tmp_path))
    assert data.data_root() == tmp_path
    assert data.data_root("elsewhere") == Path("elsewhere")
    monkeypatch.delenv("HELPERS_DATA")
    assert data.data_root().parts[-2:] == (".cache", "flatness-and-information")


X, Y = torch.arange(14.0).view(7, 2), torch.tensor([0, 1, 2, 0, 1, 2, 2])


class Pairs(torch.utils.data.Dataset):
    """Items as a user's data set gives them."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return 7

    def __getitem__(self, i):
        if i >= 7:
            raise IndexError
        return self.form(X[i], int(Y[i]))


FORMS = {
    "pairs": lambda x, y: (x, y),
    "numpy": lambda x, y: (x.numpy(), y),
    "dictionary": lambda x, y: {"x": x, "label": y},
    "several": lambda x, y: (x, 2 * x, y),
}


@pytest.mark.parametrize("form", FORMS)
def test_datasets_and_loaders_become_splits(form):
    dataset = Pairs(FORMS[form])
    loader = torch.utils.data.DataLoader(dataset, batch_size=3)
    for split in (data.as_split(dataset), data.as_split(loader)):
        assert (len(split), split.classes, split.edition) == (7, 3, "Pairs")
        assert torch.equal(split.targets, Y)
        part = split.take(torch.tensor([4, 2]))
        if form == "dictionary":
            assert torch.equal(part.inputs["x"], X[[4, 2]])
        elif form == "several":
            assert torch.equal(part.inputs[1], 2 * X[[4, 2]])
        else:
            assert torch.equal(part.inputs, X[[4, 2]])


def test_arrays_and_pairs_become_splits():
    split = data.as_split((X.numpy(), Y.numpy().astype("int32")))
    assert split.targets.dtype == torch.int64
    assert split.classes == 3
    assert data.as_split(split) is split
    assert data.Split.from_arrays(X, Y.double()).classes == 0
    assert data.Split.from_arrays(X.double(), Y.float()).to(dtype=torch.float32).inputs.dtype == torch.float32
    assert data.Split.from_arrays(Y[:, None], Y).to(dtype=torch.float64).inputs.dtype == torch.int64


def test_what_is_no_sample_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="a Dataset, a DataLoader, a pair"):
        data.as_split("digits")
    with pytest.raises(ValueError, match=r"use Split\.from_arrays"):
        data.Split(X.numpy(), Y, 3, "numpy")
    with pytest.raises(ValueError, match="drops the last 1 examples"):
        data.as_split(torch.utils.data.DataLoader(Pairs(FORMS["pairs"]), batch_size=3, drop_last=True))
    with pytest.raises(ValueError, match="names no target"):
        data.as_split(Pairs(lambda x, y: {"x": x, "y": y}))
    with pytest.raises(ValueError, match="transform=ToTensor"):
        data.as_split(Pairs(lambda x, y: (object(), y)))
    with pytest.raises(ValueError, match="one row an example"):
        data.Split((X, X[:3]), Y, 3, "ragged")
    with pytest.raises(ValueError, match="draws random classes"):
        data.with_label_noise(data.Split.from_arrays(X, Y.float()), 0.5, seed=0)


def test_row_numbers_say_nothing_where_an_origin_is_unknown():
    """Equal numbers of different examples are no overlap; equal examples of different numbers are one."""
    whole = numbered(10)
    first, second = whole.take(slice(5)), whole.take(slice(5, 10))
    for origins in (("", ""), ("n", ""), ("", "n")):
        same_numbers = [
            data.Split(part.inputs, part.targets, 10, "?", origin, torch.arange(5))
            for part, origin in zip((first, second), origins, strict=True)
        ]
        data.check_disjoint(*same_numbers)
        other_numbers = [
            data.Split(first.inputs, first.targets, 10, "?", origin, torch.arange(5) + 5 * i)
            for i, origin in enumerate(origins)
        ]
        with pytest.raises(ValueError, match="split 0 and split 1 share 5 examples"):
            data.check_disjoint(*other_numbers)


# --- What is a sample, and what several are ---------------------------------------------------------------------------

HELD = torch.utils.data.TensorDataset(X, Y)
SAMPLES = {
    "a data set": HELD,
    "a loader": torch.utils.data.DataLoader(HELD, 3),
    "a loader that does not batch": torch.utils.data.DataLoader(HELD, batch_size=None),
    "a pair": (X, Y),
    "a pair of NumPy": (X.numpy(), Y.numpy()),
    "a list of examples": list(HELD),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_roles_are_drawn_from_whatever_is_a_sample(kind):
    given, split = SAMPLES[kind], data.Split.from_arrays(X, Y)
    for draw in (
        lambda s: data.partition(s, [2, 4], seed=3),
        lambda s: data.disjoint(s, 2, 3, seed=3),
        lambda s: [data.with_label_noise(s, 0.5, seed=3)],
        lambda s: [supersample.Supersample.draw(s, 3, seed=3).examples],
    ):
        for found, right in zip(draw(given), draw(split), strict=True):
            assert torch.equal(found.inputs, right.inputs)
            assert torch.equal(found.targets, right.targets)
    even = supersample.Supersample((X[:6], Y[:6])).examples
    assert torch.equal(even.inputs, X[:6])
    with pytest.raises(ValueError, match="split 0 and split 1 share 7 examples"):
        data.check_disjoint(given, split)
    one = data.as_images((X[:, :1], Y))
    assert one.inputs.shape == (7, 1, 1, 1)


def test_images_are_one_tensor():
    with pytest.raises(ValueError, match="images are one tensor, but the inputs are a tuple of several"):
        data.as_images(((X, X), Y))


ONE = {
    "DataLoader": torch.utils.data.DataLoader(HELD, 4),
    "TensorDataset": HELD,
    "Split": data.Split.from_arrays(X, Y),
    "Tensor": X,
    "ndarray": X.numpy(),
    "dict": {"x": X},
    "str": "digits",
    "int": 3,
}


@pytest.mark.parametrize("kind", ONE)
def test_one_sample_is_not_taken_for_a_list_of_them(kind):
    """A loader's two batches would be two runs."""
    make, test = lambda: torch.nn.Linear(2, 3).eval(), data.Split.from_arrays(100 + X, Y)
    loss = losses.ClippedCrossEntropy(5.0)
    for name, call in {
        "splits": lambda s: training.train_ensemble(make, s, epochs=1, batch_size=2, lr=0.1, seed=0),
        "train": lambda s: omniscient.estimate([make(), make()], s, test, test, loss=loss, lambdas=1.0),
        "train ": lambda s: omniscient.gap([make(), make()], s, test, loss=loss),
    }.items():
        message = rf"^{name.strip()} must be a list with one data\.Split for each run, got one {kind}; data\.disjoint"
        with pytest.raises(ValueError, match=message):
            call(ONE[kind])


def test_several_samples_come_in_whatever_hands_them_out():
    splits = data.as_splits((one for one in (HELD, (X, Y), torch.utils.data.DataLoader(HELD, 4))), name="splits")
    assert [torch.equal(split.inputs, X) for split in splits] == [True] * 3
    with pytest.raises(ValueError, match=r"splits\[1\]: examples must be .* got int \(splits must be a list with one"):
        data.as_splits([HELD, 3], name="splits")
    with pytest.raises(ValueError, match=r"splits\[0\]: examples must be .* got Tensor \(splits must be a list"):
        data.as_splits((X, Y), name="splits")
