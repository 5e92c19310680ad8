"""Every argument that cannot be meant is refused in one sentence, and what is odd but right is taken."""

import math

import pytest
import torch
import torch.nn.functional as F
from instances import images, sample
from torch import nn
from torch.utils.checkpoint import checkpoint

from helpers import curvature, data, models, training
from helpers.losses import ClippedCrossEntropy

SPLITS = data.disjoint(sample(60), 2, 30, seed=0)
SETTINGS = {"epochs": 2, "batch_size": 8, "lr": 0.1, "seed": 5}


def make():
    return models.mlp(5, 6, 3).double()


def train(make_model=make, splits=SPLITS, **changes):
    return training.train_ensemble(make_model, splits, **SETTINGS | changes)


def labelled(targets, classes=3):
    return [data.Split(torch.zeros(len(targets), 5, dtype=torch.float64), torch.as_tensor(targets), classes, "x")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 31}, "batch_size must lie between 1 and 30, .* got 31"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"epochs": -1}, "epochs must be a whole number of at least 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"lr": 0.0}, "lr must be a finite number above zero"),
        ({"lr": -0.1}, "lr must be a finite number above zero"),
        ({"lr": math.nan}, "lr must be a finite number above zero"),
        ({"lr": math.inf}, "lr must be a finite number above zero"),
        ({"lr": lambda epoch: 0.1 if epoch == 0 else math.nan}, "the value of lr in epoch 1 must be .* got nan"),
        ({"lr": lambda epoch: -1.0}, "the value of lr in epoch 0 must be .* not negative, got -1"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\), got -0.1"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"momentum": math.nan}, r"momentum must lie in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay must be a finite number that is not negative"),
        ({"weight_decay": math.inf}, "weight_decay must be a finite number"),
        ({"until_loss": math.nan}, "until_loss must be a finite number, or None"),
        ({"precision": "fp8"}, 'precision must be "float32", "bf16" or None, got \'fp8\''),
        ({"precision": "bf16"}, "precision='bf16' needs float32 weights, make_model gives float64"),
        ({"precision": "float32"}, "precision='float32' needs float32 weights, make_model gives float64"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        train(**changes)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([], "nothing to train on"),
        (SPLITS[0], r"splits must be a list with one data\.Split for each run"),
        (SPLITS[0].inputs, r"splits must be a list with one data\.Split for each run"),
        (None, r"splits must be a list with one data\.Split for each run"),
        ([SPLITS[0].inputs, SPLITS[0].targets], r"must be a data\.Split, a Dataset, a DataLoader, a pair"),
        ([SPLITS[0], SPLITS[1].take(torch.arange(29))], r"the same number of examples, got \[30, 29\]"),
        (labelled([0] * 8 + [-100]), "split 0 has 3 classes, .* between 0 and 2, got values from -100 to 0"),
        (labelled([3] * 8), "split 0 has 3 classes, .* got values from 3 to 3"),
        (
            labelled(torch.zeros(8)),
            r"split 0 has torch\.float32 targets of shape \(8,\), cross-entropy takes class indices",
        ),
        (labelled([0] * 8, classes=0), r"split 0 has 0 classes and targets of shape \(8,\), .* give loss="),
        (
            labelled(torch.zeros(8, 2, dtype=torch.int64)),
            r"targets of shape \(8, 2\), cross-entropy takes class indices",
        ),
    ],
)
def test_data_that_cannot_be_meant_are_refused(splits, message):
    with pytest.raises(ValueError, match=message):
        train(splits=splits)


def test_regression_targets_must_be_finite():
    splits = labelled(torch.tensor([0.0] * 8 + [math.nan]), classes=0)
    with pytest.raises(ValueError, match="split 0 has a target that is not finite"):
        train(splits=splits, loss=lambda outputs, targets: outputs[:, 0] - targets)


def test_whole_numbers_may_be_regression_targets():
    split = labelled([-3] * 9, classes=0)
    run = train(splits=split, loss=lambda outputs, targets: (outputs[:, 0] - targets).square())
    assert run.losses[-1] < run.losses[0]


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (F.cross_entropy, r"\(\)"),
        (lambda outputs, targets: (outputs - F.one_hot(targets, 3)).square(), r"\(8, 3\)"),
        (lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none")[:, None], r"\(8, 1\)"),
    ],
)
def test_a_training_loss_must_be_per_example(loss, shape):
    with pytest.raises(ValueError, match=f"one value an example, .* returned shape {shape}"):
        train(loss=loss)


def test_too_few_outputs_for_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"outputs of shape \(8, 2\) cannot hold a logit for each of the 3 classes"):
        train(lambda: models.mlp(5, 6, 2).double())


def test_an_augmentation_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match=r"keep the shape of the inputs, \(30, 5\), got \(1, 5\)"):
        train(augment=lambda inputs, generator: inputs[:1])


def test_tokens_keep_their_type_and_train_an_embedding():
    tokens = torch.randint(7, (40, 4), generator=torch.Generator().manual_seed(0))
    split = data.Split(tokens, tokens[:, 0] % 3, 3, "tokens")
    run = train(lambda: nn.Sequential(nn.Embedding(7, 5), nn.Flatten(), nn.Linear(20, 3)), [split], epochs=30)
    assert run.losses[-1].item() < 0.5 * run.losses[0].item()


class TwoPaths(nn.Module):
    """Takes two tensors, of which one holds tokens."""

    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(4, 2), nn.Linear(5, 3)

    def forward(self, x, tokens):
        return self.layer(x) + F.pad(self.embedding(tokens), (0, 1))


@pytest.mark.parametrize("form", [tuple, dict])
def test_a_model_may_take_several_tensors(form):
    named = {"x": SPLITS[0].inputs, "tokens": torch.arange(30) % 4}
    inputs = named if form is dict else tuple(named.values())
    split = data.Split(inputs, SPLITS[0].targets, 3, "two")
    run = train(lambda: TwoPaths().double(), [split], epochs=40)
    assert run.losses[-1] < 0.8 * run.losses[0]
    assert torch.equal(
        models.weights(run.models[0]),
        models.weights(train(lambda: TwoPaths().double(), [split], epochs=40, augment=lambda i, _: i).models[0]),
    )


def test_loaders_data_sets_and_arrays_are_taken_as_the_splits_that_they_hold():
    held = [torch.utils.data.TensorDataset(split.inputs, split.targets) for split in SPLITS]
    expected = train().initial, train().losses
    loaders = [torch.utils.data.DataLoader(one, 7) for one in held]
    arrays = [(split.inputs.numpy(), split.targets.numpy()) for split in SPLITS]
    for splits in (held, loaders, arrays):
        run = train(splits=splits)
        assert torch.equal(run.initial, expected[0])
        assert torch.equal(run.losses, expected[1])


def test_class_probabilities_are_targets_of_cross_entropy():
    sure = [data.Split(s.inputs, F.one_hot(s.targets, 3).double(), 3, "sure") for s in SPLITS]
    torch.testing.assert_close(train(splits=sure).losses, train().losses, rtol=1e-12, atol=0)


def test_floating_inputs_and_targets_take_the_type_of_the_weights():
    split = data.Split(SPLITS[0].inputs.float(), SPLITS[0].inputs[:, 0].float(), 0, "regression")
    run = train(splits=[split], loss=lambda outputs, targets: (outputs[:, 0] - targets).square())
    assert run.initial.dtype == run.losses.dtype == torch.float64


def test_one_run_has_no_dispersion():
    run = train(splits=SPLITS[:1])
    assert math.isnan(run.dispersion)
    assert run.step_dispersion.isnan().all()
    assert math.isnan(train(splits=SPLITS[:1], epochs=0).dispersion)
    assert train(epochs=0).dispersion == 0


def test_a_channels_last_model_gives_the_numbers_of_a_plain_one():
    split = images(16)

    def plain():
        return models.cnn(2, 3, channels=1, size=8).double()

    one, other = (train(m, [split]) for m in (plain, lambda: plain().to(memory_format=torch.channels_last)))
    assert torch.equal(one.initial, other.initial)
    torch.testing.assert_close(models.weights(one.models[0]), models.weights(other.models[0]), rtol=1e-12, atol=1e-14)


def test_batchnorm_with_a_cumulative_average_trains():
    run = train(lambda: nn.Sequential(nn.BatchNorm1d(5, momentum=None), nn.Linear(5, 3)).double(), epochs=1)
    for model, split in zip(run.models, SPLITS, strict=True):
        assert model[0].num_batches_tracked == 3
        visited = torch.randperm(30, generator=torch.Generator().manual_seed(1_000_003 * 5 + run.models.index(model)))
        torch.testing.assert_close(model[0].running_mean, split.inputs[visited[:24]].mean(0))


# --- What would be trained wrongly, or not at all ---------------------------------------------------------------------

NUMBERS = data.Split(SPLITS[0].inputs, torch.linspace(-1, 1, 30).double(), 0, "numbers")


def column():
    return models.mlp(5, 6, 1).double()


def test_outputs_that_a_loss_broadcasts_against_targets_are_refused():
    """(8, 1) - (8,) is (8, 8), each output against every target."""
    for axis in (0, 1):
        with pytest.raises(ValueError, match=r"depends on the rest of its batch.*outputs are \(8, 1\), targets \(8,\)"):
            train(column, [NUMBERS], loss=lambda z, y, axis=axis: (z - y).square().mean(axis))
    right = train(column, [NUMBERS], loss=lambda z, y: (z[:, 0] - y).square())
    same = train(column, [NUMBERS], loss=lambda z, y: (z - y[:, None]).square().mean(1))
    assert torch.allclose(right.losses, same.losses)


def test_a_training_loss_may_draw():
    run = train(loss=lambda z, y: F.cross_entropy(z + 0.1 * torch.randn_like(z), y, reduction="none"))
    assert run.steps == 6


ROWS = {"without a sum of one": torch.rand(30, 3).double(), "negative": torch.tensor([2.0, -1.0, 0.0]).expand(30, 3)}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss(reduction="none"), ClippedCrossEntropy(5.0)])
def test_soft_targets_are_distributions_in_every_split(kind, loss):
    x = SPLITS[0].inputs
    fair = torch.full((30, 3), 1 / 3).double()
    with pytest.raises(ValueError, match=r"probabilities \(n, 3\) that sum to 1"):
        train(splits=[(x, fair), (x, ROWS[kind])], loss=loss)
    assert train(splits=[(x, fair)], loss=loss).losses.isfinite().all()


def test_targets_that_a_training_loss_leaves_out_are_refused():
    x, y = SPLITS[0].inputs, SPLITS[0].targets.clone()
    y[20] = -100
    with pytest.raises(ValueError, match="targets hold -100, which the loss leaves out as its ignore_index"):
        train(splits=[data.Split(x, y, 0, "padded")], loss=nn.CrossEntropyLoss(reduction="none"))


def test_a_loss_or_network_without_gradient_is_refused():
    def cut(z, y):
        return F.cross_entropy(z.detach(), y, reduction="none")

    class Cut(nn.Sequential):
        def forward(self, x):
            return super().forward(x).detach()

    for part, settings in (("loss", {"loss": cut}), ("network", {"make_model": lambda: Cut(make())})):
        with pytest.raises(ValueError, match=f"the {part} cuts the graph .*; compute it in differentiable operations"):
            train(**settings)


def test_inputs_that_are_not_finite_are_refused_before_the_learning_rate_is_blamed():
    x = SPLITS[1].inputs.clone()
    x[3, 1] = math.nan
    with pytest.raises(ValueError, match="split 1 has inputs that are not finite; leave those examples out"):
        train(splits=[SPLITS[0], (x, SPLITS[1].targets)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": ".1"}, "lr must be a number, got '.1' of type str"),
        ({"lr": None}, "lr must be a number, got None of type NoneType"),
        ({"seed": None}, "seed must be a number, got None of type NoneType"),
        ({"epochs": "2"}, "epochs must be a number, got '2' of type str"),
        ({"batch_size": None}, "batch_size must be a number, got None"),
        ({"momentum": ".9"}, "momentum must be a number, got '.9' of type str"),
        ({"weight_decay": "0"}, "weight_decay must be a number, got '0' of type str"),
        ({"until_loss": "1"}, "until_loss must be a number, got '1' of type str"),
        ({"device": "foo"}, "device must be one that PyTorch finds here, such as 'cpu' or None, got 'foo'"),
        ({"device": 3.5}, "device must be one that PyTorch finds here, such as 'cpu' or None, got 3.5"),
    ],
)
def test_settings_that_are_no_numbers_or_devices_are_refused(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        train(**changes)
    assert "\n" not in str(caught.value)


class Checkpointed(nn.Module):
    """Activations of a part are computed again in the backward pass, in PyTorch's old way or in the new."""

    def __init__(self, first, reentrant):
        super().__init__()
        self.low, self.middle, self.top = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.first, self.reentrant = first, reentrant

    def forward(self, x):
        if self.first:
            part = lambda x: self.middle(self.low(x).tanh())  # noqa: E731
            return self.top(checkpoint(part, x, use_reentrant=self.reentrant))
        return self.top(checkpoint(self.middle, self.low(x).tanh(), use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("first", [True, False])
def test_checkpoints_of_the_old_kind_are_told_from_the_new(first):
    """At the first layer the old kind has no gradient, and would train the rest alone."""
    for call in (
        lambda model: train(lambda: model.train()),
        lambda model: curvature.gradient(model.eval(), ClippedCrossEntropy(5.0), SPLITS[0]),
    ):
        with pytest.raises(ValueError, match=r"use_reentrant=(False|True)"):
            call(Checkpointed(first, True).double())
        call(Checkpointed(first, False).double())


def test_class_weights_of_another_type_are_named():
    with pytest.raises(ValueError, match=r"loss has tensors \(class weights\?\) of another type than outputs"):
        train(loss=nn.CrossEntropyLoss(weight=torch.ones(3), reduction="none"))
