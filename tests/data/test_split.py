import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import data

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


def test_overlap_is_refused_only_within_one_origin():
    whole = numbered(10)
    with pytest.raises(ValueError, match=r"splits 0 and 1 share 2 examples of n"):
        data.check_disjoint(whole.take(torch.arange(5)), whole.take(torch.arange(3, 8)))
    elsewhere = data.Split(whole.inputs, whole.targets, 10, "other", "m", whole.indices)
    unknown = data.Split(whole.inputs, whole.targets, 10, "unknown")
    data.check_disjoint(whole, elsewhere, unknown, unknown)


@pytest.mark.parametrize(("sizes", "message"), [([60, 60], "120 examples"), ([0], "at least one example")])
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
