import dataclasses
import errno
import os
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import residual_network, sample
from safetensors.torch import save_file
from torch import nn

from helpers import data, models, training
from helpers.training import CheckpointError, container


def make():
    return models.mlp(5, 4, 3).double()


@cache
def trained(network=make):
    splits = data.disjoint(sample(40), 2, 20, seed=0)
    if network is residual_network:
        splits = [data.Split(s.inputs.repeat(1, 13)[:, :64].view(-1, 1, 8, 8), s.targets, 3, "x") for s in splits]
    return training.train_ensemble(network, splits, epochs=2, batch_size=5, lr=0.1, seed=0)


@pytest.mark.parametrize("network", [make, residual_network])
def test_a_run_comes_back_to_the_bit(tmp_path, network):
    run = trained(network)
    training.save(run, tmp_path / "new" / "run.safetensors")
    found = training.load(network, tmp_path / "new" / "run.safetensors")
    assert found.steps == run.steps
    for name in ("initial", "step_dispersion", "losses"):
        assert torch.equal(getattr(found, name), getattr(run, name))
    for one, other in zip(run.models, found.models, strict=True):
        assert not other.training
        for (name, value), again in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(value, again), name


def test_the_type_of_the_weights_is_that_of_the_file(tmp_path):
    training.save(trained(), tmp_path / "run")
    found = training.load(lambda: models.mlp(5, 4, 3), tmp_path / "run")
    assert torch.equal(models.weights(found.models[0]), models.weights(trained().models[0]))


def test_loading_leaves_the_callers_random_state_alone(tmp_path):
    training.save(trained(), tmp_path / "run")
    before = torch.get_rng_state()
    training.load(make, tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7), length=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_a_file_that_was_cut_or_altered_is_refused_in_a_sentence(tmp_path_factory, position, bit, length):
    path = tmp_path_factory.getbasetemp() / "altered.safetensors"
    training.save(trained(), path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    for damaged in (bytes(content), path.read_bytes()[: length % len(content)]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"altered\.safetensors"):
            training.load(make, path)


def test_other_files_and_other_models_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist; train and save the run first"):
        training.load(make, tmp_path / "none")
    save_file({"x": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="is not a checkpoint of a run"):
        training.load(make, tmp_path / "other")
    torch.save(trained().models[0].state_dict(), tmp_path / "pickle")
    with pytest.raises(CheckpointError, match="cannot be read"):
        training.load(make, tmp_path / "pickle")
    training.save(trained(), tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds models of another kind"):
        training.load(lambda: models.mlp(5, 3, 3), tmp_path / "run")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    training.save(trained(), tmp_path / "run")
    before = (tmp_path / "run").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"could not be written \(No space left on device\)"):
        training.save(trained(), tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


class Mixed(nn.Module):
    """float32 weights beside an fp16 and a float64 buffer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.register_buffer("rough", torch.linspace(0, 1, 4, dtype=torch.float16))
        self.register_buffer("fine", torch.full((2,), 1 / 3, dtype=torch.float64))

    def forward(self, x):
        return self.layer(x)


class Talkative(Mixed):
    def get_extra_state(self):
        return {"seen": 3}

    def set_extra_state(self, state):
        pass


def run_of(network):
    split = data.Split(torch.ones(4, 5), torch.zeros(4, dtype=torch.int64), 3, "ones")
    return training.train_ensemble(network, [split], epochs=1, batch_size=2, lr=0.1, seed=0)


def test_every_tensor_keeps_its_type(tmp_path):
    run = run_of(Mixed)
    training.save(run, tmp_path / "run")
    for _ in range(5):
        found = training.load(lambda: Mixed().double(), tmp_path / "run").models[0].state_dict()
        for name, value in run.models[0].state_dict().items():
            assert found[name].dtype == value.dtype, name
            assert torch.equal(found[name], value), name


def test_the_digest_knows_names_types_shapes_and_values():
    tensors = {"a": torch.zeros(4)}
    others = [{"b": torch.zeros(4)}, {"a": torch.zeros(4, dtype=torch.int32)}, {"a": torch.zeros(2, 2)}]
    for other in [*others, {"a": torch.tensor([0.0, 0.0, -0.0, 0.0])}]:
        assert not torch.equal(container.digest(tensors), container.digest(other))
    assert torch.equal(container.digest(tensors), container.digest({"a": torch.zeros(8)[::2]}))


def test_tied_weights_stay_tied(tmp_path):
    def tied():
        model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)).double()
        model[1].weight = model[0].weight
        return model

    training.save(run_of(tied), tmp_path / "run")
    model = training.load(tied, tmp_path / "run").models[0]
    assert model[1].weight is model[0].weight


def test_extra_state_is_refused_in_a_sentence(tmp_path):
    run = run_of(Talkative)
    with pytest.raises(CheckpointError, match=r"extra state that is no tensor \(_extra_state\)"):
        training.save(run, tmp_path / "run")


def test_the_precision_comes_back_and_may_be_missing_from_older_files(tmp_path):
    training.save(trained(), tmp_path / "run")
    assert training.load(make, tmp_path / "run").precision == "float64"
    training.save(dataclasses.replace(trained(), precision=None), tmp_path / "run")
    assert training.load(make, tmp_path / "run").precision is None


@pytest.mark.parametrize("left", ["a link", "half a file"])
def test_hidden_neighbours_are_not_followed_as_links(tmp_path, left):
    """A link by the name of the temporary file leads nowhere; what a killed writer left there is in nobody's way."""
    (tmp_path / "precious").write_text("kept")
    neighbour = tmp_path / ".run.safetensors.tmp"
    if left == "a link":
        neighbour.symlink_to(tmp_path / "precious")
    else:
        neighbour.write_text("half")
    container.write({"a": torch.ones(3)}, tmp_path / "run.safetensors")
    assert torch.equal(container.read(tmp_path / "run.safetensors")["a"], torch.ones(3))
    assert (tmp_path / "precious").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "run.safetensors"]
