"""What ``train_ensemble`` asks of a network, and of a first batch: the right training, or one sentence."""

import threading

import pytest
import torch
import torch.nn.functional as F
from instances import network, sample
from torch import nn

from helpers import data, models, training


def trained(make, splits=None, **settings):
    splits = splits or [sample(20), sample(20, seed=1)]
    return training.train_ensemble(make, splits, **{"epochs": 1, "batch_size": 5, "lr": 0.1, "seed": 0} | settings)


def by_hand(model, split, order, lr=0.1, batch_size=5):
    """One epoch of torch.optim.SGD on the examples in order."""
    optimizer = torch.optim.SGD(model.parameters(), lr)
    for rows in order.split(batch_size):
        optimizer.zero_grad()
        F.cross_entropy(model(split.inputs[rows]), split.targets[rows]).backward()
        optimizer.step()
    return models.weights(model)


def order_of(run, n=20, seed=0):
    return torch.randperm(n, generator=training.randomness.generator_of(run, seed, torch.device("cpu")))


def hooked(hook):
    model = network(nn.Tanh)
    model[1].weight.register_hook(hook)
    return model


HOOKS = {
    "a mask": lambda g: g * (torch.arange(20).view(4, 5) % 2),
    "a scale": lambda g: 3 * g,
    "a look": lambda g: None,
}


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_on_weights_act_in_every_run(hook):
    run = trained(lambda: hooked(HOOKS[hook]))
    for i, model in enumerate(run.models):
        expected = by_hand(hooked(HOOKS[hook]), sample(20, seed=i), order_of(i))
        torch.testing.assert_close(models.weights(model), expected)


class Words(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.table, self.top = nn.Embedding(7, 4, **options), nn.Linear(4, 3)

    def forward(self, x):
        return self.top(torch.tanh(self.table(x)).mean(1))


def words(seed):
    tokens = torch.randint(7, (20, 4), generator=torch.Generator().manual_seed(seed))
    return data.Split(tokens, torch.arange(20) % 3, 3, "words")


def worded(**options):
    torch.manual_seed(0)
    return Words(**options).double()


@pytest.mark.parametrize("options", [{}, {"sparse": True}, {"padding_idx": 2}, {"scale_grad_by_freq": True}])
def test_embeddings_are_trained_as_sgd_trains_them(options):
    run = trained(lambda: worded(**options), [words(0), words(1)])
    for i, model in enumerate(run.models):
        expected = by_hand(worded(**options), words(i), order_of(i))
        torch.testing.assert_close(models.weights(model), expected)
    assert run.dispersion > 0


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_what_surrounds_a_training_does_not_change_it(around):
    with around():
        held = [sample(20), sample(20, seed=1)]
        run = trained(lambda: network(nn.Tanh), held)
    expected = trained(lambda: network(nn.Tanh))
    assert torch.equal(models.weights(run.models[1]), models.weights(expected.models[1]))
    after = trained(lambda: network(nn.Tanh), held)
    assert torch.equal(after.step_dispersion, expected.step_dispersion)


def test_one_network_for_all_runs_is_left_as_it_was():
    model = network()
    before = models.weights(model)
    run = trained(lambda: model)
    assert torch.equal(models.weights(model), before)
    assert run.dispersion > 0
    assert {p.data_ptr() for p in model.parameters()}.isdisjoint(
        p.data_ptr() for m in run.models for p in m.parameters()
    )


def test_a_scripted_network_is_trained():
    with pytest.warns(FutureWarning):
        scripted = torch.jit.script(network(nn.Tanh))
    run = trained(lambda: scripted)
    plain = trained(lambda: network(nn.Tanh))
    torch.testing.assert_close(models.weights(run.models[0]), models.weights(plain.models[0]))


def locked():
    model = network()
    model.lock = threading.Lock()
    return model


def inferred():
    with torch.inference_mode():
        return network()


def accumulating():
    model = network()
    model[1].weight.register_post_accumulate_grad_hook(lambda p: None)
    return model


def mixed():
    model = network()
    model[3].float()
    return model


def normalised():
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


class Penalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        self.penalty = self.layer.weight.square().sum()
        return self.layer(x)


def entropy(z, y):
    return F.cross_entropy(z, y, reduction="none")


TEMPERATURE = nn.Parameter(torch.ones(()))
REFUSED = {
    "not callable": (network(), {}, "make_model must be a function without arguments"),
    "a number": (lambda: 3, {}, "must make a torch.nn.Module, but made a int"),
    "cannot be copied": (locked, {}, "cannot be copied for each run .*lock"),
    "inference": (inferred, {}, "made under torch.inference_mode"),
    "accumulating": (accumulating, {}, "use register_hook"),
    "two types": (mixed, {}, "one real floating type, make_model gives torch.float32, torch.float64"),
    "complex": (lambda: nn.Linear(5, 3, dtype=torch.complex64), {}, "one real floating type"),
    "frozen": (lambda: network().requires_grad_(False), {}, "no trainable parameters"),
    "rewrites its weights": (lambda: Words(max_norm=0.1), {}, "leave max_norm out"),
    "one example": (normalised, {"batch_size": 1}, "BatchNorm cannot normalise a batch of one example"),
    "other inputs": (lambda: network(inputs=7), {}, r"does not take a batch of torch.float64 \(5, 5\) \(mat1"),
    "a dictionary": (lambda: Dictionary(), {}, "returns a dict"),
    "a mean": (network, {"loss": nn.CrossEntropyLoss()}, "one value an example"),
    "a class": (network, {"loss": nn.CrossEntropyLoss}, "got the class CrossEntropyLoss; make an instance"),
    "a name": (network, {"loss": "mse"}, "must be a function of outputs and targets"),
    "truth values": (network, {"loss": lambda z, y: z.argmax(1) != y}, "real floating numbers"),
    "a temperature": (
        network,
        {"loss": lambda z, y: entropy(z * TEMPERATURE, y)},
        "weights of its own, which no run trains",
    ),
}


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return {"logits": self.layer(x)}


@pytest.mark.parametrize("kind", REFUSED)
def test_networks_and_losses_that_cannot_be_trained_are_refused(kind):
    make, settings, message = REFUSED[kind]
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        trained(make, **settings)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_penalty_that_one_network_keeps_is_refused_and_one_that_is_returned_is_trained():
    model = Penalised().double()
    model(sample().inputs)
    with pytest.raises(ValueError, match="let the network return what the loss needs"):
        trained(lambda: model, loss=lambda z, y: entropy(z, y) + model.penalty)

    class Returning(Penalised):
        def forward(self, x):
            return torch.cat([super().forward(x), self.penalty.expand(len(x), 1)], 1)

    torch.manual_seed(0)
    twin = Returning().double()
    run = trained(lambda: twin, loss=lambda z, y: entropy(z[:, :3], y) + z[:, 3])
    w = models.weights(twin).requires_grad_()
    for rows in order_of(0).split(5):
        x, y = sample(20).inputs[rows], sample(20).targets[rows]
        value = F.cross_entropy(x @ w[:15].view(3, 5).T + w[15:], y) + w[:15].square().sum()
        w = (w - 0.1 * torch.autograd.grad(value, w)[0]).detach().requires_grad_()
    torch.testing.assert_close(models.weights(run.models[0]), w.detach())


def test_the_first_look_at_a_batch_leaves_no_trace():
    """Dropout draws and BatchNorm counts as if nothing had been tried."""

    def make():
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()

    run = trained(make)
    assert run.models[0][1].num_batches_tracked == 4
    torch.manual_seed(0)
    twin = make().train()
    torch.manual_seed(0)
    make()  # draws of the initialisation, which come before those of dropout
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    alone = trained(make, [sample(20)])
    for rows in order_of(0).split(5):
        optimizer.zero_grad()
        F.cross_entropy(twin(sample(20).inputs[rows]), sample(20).targets[rows]).backward()
        optimizer.step()
    torch.testing.assert_close(models.weights(alone.models[0]), models.weights(twin))
