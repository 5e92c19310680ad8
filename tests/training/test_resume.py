"""A training that is interrupted and called again ends with the bits of one that was not."""

import errno
from functools import partial

import pytest
import torch
from instances import images
from torch import nn

from helpers import data, models, training
from helpers.losses import ClippedCrossEntropy
from helpers.training import CheckpointError, container, files
from helpers.training.augment import crop_and_flip
from helpers.training.resume import name_of

STEPS = []

SPLITS = data.disjoint(images(60), 2, 30, seed=0)
SETTINGS = {
    "epochs": 5, "batch_size": 8, "lr": lambda epoch: 0.1 / (epoch + 1), "momentum": 0.9, "weight_decay": 0.01,
    "seed": 3, "augment": crop_and_flip,
}  # fmt: skip


def make():
    """Draws at random, and keeps statistics."""
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(108, 3)]
    return nn.Sequential(*layers).double()


class Interrupted(Exception):
    pass


class Observer:
    """Notes epochs and weights; breaks off in the middle of one."""

    def __init__(self, stop=None):
        self.stop, self.epochs, self.weights = stop, [], []

    def __call__(self, epoch, runs):
        torch.rand(3)
        if epoch == self.stop:
            raise Interrupted
        self.epochs.append(epoch)
        self.weights.append(models.weights(runs[1]))


def train(make_model=make, splits=SPLITS, **changes):
    return training.train_ensemble(make_model, splits, **SETTINGS | changes)


def break_off(path, stop=3, **changes):
    observer = Observer(stop)
    with pytest.raises(Interrupted):
        train(checkpoint=path, observe=observer, **changes)
    return observer


def assert_equal_runs(one, other):
    for name in ("initial", "step_dispersion", "losses"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.steps == other.steps
    for model, twin in zip(one.models, other.models, strict=True):
        for (name, value), again in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
            assert torch.equal(value, again), name


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
@pytest.mark.parametrize(
    "changes", [{}, {"augment": None, "momentum": 0.0}, {"until_loss": 1.1775}, {"until_loss": 0.0}]
)
def test_it_ends_with_the_bits_of_a_training_that_was_not_interrupted(tmp_path, changes, stop):
    whole = Observer()
    expected = train(observe=whole, **changes)
    stop = min(stop, whole.epochs[-1])
    path = tmp_path / "new" / "state"
    first = break_off(path, stop, **changes)
    assert path.exists() == (stop > 0)
    torch.rand(5)
    second = Observer()
    assert_equal_runs(train(checkpoint=path, observe=second, **changes), expected)
    assert first.epochs + second.epochs == whole.epochs  # each epoch is observed once, to the end
    assert all(torch.equal(a, b) for a, b in zip(first.weights + second.weights, whole.weights, strict=True))
    assert list(tmp_path.rglob("*")) == [path.parent]


def test_it_may_be_interrupted_again_and_again(tmp_path):
    for stop in range(1, 6):
        assert break_off(tmp_path / "state", stop).epochs == [stop - 1]
    assert_equal_runs(train(checkpoint=tmp_path / "state"), train())


def test_an_interruption_in_the_middle_of_an_epoch_loses_that_epoch_only(tmp_path):
    STEPS.clear()

    def loss(outputs, targets):
        STEPS.append(1)
        if len(STEPS) == 2 * 3 * 2 + 3:  # two runs, three steps an epoch: in the third epoch
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=tmp_path / "state", loss=loss)
    assert_equal_runs(train(checkpoint=tmp_path / "state", loss=loss), train(loss=loss))


def scaled(factor, shift=0.0):
    return lambda outputs, targets: factor * plain(outputs, targets) + shift


def test_functions_are_told_by_what_they_hold():
    """Two closures of one place in the code are two functions; the same one made again is one."""
    assert name_of(scaled(2.0)) == name_of(scaled(2.0))
    assert len({name_of(scaled(*held)) for held in ((1.0,), (2.0,), (2.0, 1.0))}) == 3
    tensors = [scaled(torch.arange(3.0) + i) for i in (0, 0, 1)]
    assert [name_of(f) == name_of(tensors[0]) for f in tensors] == [True, True, False]
    assert name_of(partial(scaled, 1.0)) != name_of(partial(scaled, 2.0))
    assert name_of(ClippedCrossEntropy(4.0)) != name_of(ClippedCrossEntropy(8.0))
    assert name_of(lambda z, y: z in {"a", "b"}) != name_of(lambda z, y: z in {"a", "c"})
    assert name_of(nn.CrossEntropyLoss(reduction="none")) != name_of(nn.CrossEntropyLoss())
    assert name_of(plain).startswith(f"{plain.__module__}.plain ")


def listed(factors):
    return lambda outputs, targets: factors[0] * plain(outputs, targets)


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds a list, which cannot be compared.*leave checkpoint= away"):
        train(checkpoint=tmp_path / "state", loss=listed([1.0]))
    break_off(tmp_path / "state", loss=scaled(1.0))
    with pytest.raises(CheckpointError, match="another loss"):
        train(checkpoint=tmp_path / "state", loss=scaled(2.0))


def test_a_generator_without_a_state_is_not_seeded_anew(tmp_path):
    path = tmp_path / "state"
    break_off(path)
    state = container.read(path)
    container.write({name: value for name, value in state.items() if not name.startswith("shared.")}, path)
    with pytest.raises(CheckpointError, match=r"no state for the generator of cpu.*or delete the checkpoint"):
        train(checkpoint=path)


def other_data():
    return [SPLITS[0], data.Split(SPLITS[1].inputs + 1, SPLITS[1].targets, 3, "x")]


def wider():
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)]
    return nn.Sequential(*layers).double()


def smoother():
    """The same weights in another network."""
    model = make()
    model[2] = nn.Softplus()
    return model


def plain(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"seed": 4}, "make_model, seed"),
        ({"epochs": 6}, "epochs, lr"),
        ({"batch_size": 7}, "batch_size"),
        ({"lr": 0.1}, "lr"),
        ({"momentum": 0.8}, "momentum"),
        ({"weight_decay": 0.0}, "weight_decay"),
        ({"augment": None}, "augment"),
        ({"until_loss": 0.1}, "until_loss"),
        ({"loss": plain}, "loss"),
        ({"splits": other_data()}, "splits"),
        ({"splits": SPLITS[::-1]}, "splits"),
        ({"make_model": wider}, "make_model"),
        ({"make_model": smoother}, "make_model"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_and_kept(tmp_path, changes, names):
    path = tmp_path / "state"
    break_off(path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"of a training with another {names}; call with the same arguments"):
        train(checkpoint=path, **changes)
    assert path.read_bytes() == before


def test_other_files_are_refused(tmp_path):
    training.save(train(epochs=1), tmp_path / "run")
    with pytest.raises(CheckpointError, match="is not of a training under way"):
        train(checkpoint=tmp_path / "run")
    break_off(tmp_path / "state")
    with pytest.raises(CheckpointError, match="is not a finished run"):
        training.load(make, tmp_path / "state")
    content = bytearray((tmp_path / "state").read_bytes())
    content[-9] ^= 1
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(CheckpointError, match="was altered after it was written"):
        train(checkpoint=tmp_path / "state")


def test_a_full_disk_ends_the_training_and_leaves_the_state_before(tmp_path, monkeypatch):
    path = tmp_path / "state"
    break_off(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(CheckpointError, match="could not be written"):
            train(checkpoint=path)
    assert path.read_bytes() == before
    assert_equal_runs(train(checkpoint=path), train())


def test_a_training_that_diverges_leaves_no_file(tmp_path):
    with pytest.raises(training.Diverged):
        train(checkpoint=tmp_path / "state", lr=1e200)
    assert list(tmp_path.iterdir()) == []


def test_observe_sees_what_a_shorter_training_ends_with_in_evaluation_mode():
    seen = {}

    def observe(epoch, runs):
        assert not any(module.training for model in runs for module in model.modules())
        seen[epoch] = [{name: value.clone() for name, value in model.state_dict().items()} for model in runs]

    train(observe=observe, lr=0.1)
    for epoch in range(6):
        for state, model in zip(seen[epoch], train(epochs=epoch, lr=0.1).models, strict=True):
            for name, value in model.state_dict().items():
                assert torch.equal(state[name], value), (epoch, name)


def test_observe_may_measure_derivatives_and_leave_gradients_behind():
    def observe(epoch, runs):
        for model, split in zip(runs, SPLITS, strict=True):
            nn.functional.cross_entropy(model(split.inputs), split.targets).backward()

    run = train(observe=observe)
    assert_equal_runs(run, train())
    assert all(p.grad is None for model in run.models for p in model.parameters())
