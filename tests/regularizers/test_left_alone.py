"""What an evaluation elsewhere must not change: weights, buffers, hooks."""

import copy
import math

import pytest
import torch
from optimisers import EVALUATE_MORE, START, WRAPPERS, closure_of, quadratic, wavy
from torch import nn

from helpers.regularizers import GMP, NotFinite


@pytest.mark.parametrize("name", EVALUATE_MORE)
def test_weights_come_back_to_the_bit(name):
    w = (START / 3).requires_grad_()
    before = w.detach().clone()
    WRAPPERS[name](torch.optim.SGD([w], lr=0.0)).step(closure_of(w, wavy))
    assert torch.equal(w.detach(), before)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", EVALUATE_MORE)
def test_batchnorm_sees_the_batch_once(name, momentum):
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=momentum))
    model = nn.Sequential(block, nn.ReLU(), nn.Linear(4, 1)).double()
    twin, x = copy.deepcopy(model), torch.randn(16, 3, dtype=torch.float64)
    optimizer = WRAPPERS[name](torch.optim.SGD(model.parameters(), lr=0.0))
    for _ in range(3):
        twin(x)

        def closure() -> torch.Tensor:
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
    for buffer, once in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(buffer, once)
    assert model[0][1].num_batches_tracked == 3


@pytest.mark.parametrize("name", EVALUATE_MORE)
def test_a_failing_closure_leaves_the_weights_and_no_hook(name):
    w, calls = START.clone().requires_grad_(), []

    def closure() -> torch.Tensor:
        calls.append(w.detach().clone())
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        loss = wavy(w)
        loss.backward()
        return loss

    hooks = len(nn.modules.module._global_forward_pre_hooks)
    with pytest.raises(RuntimeError, match="out of memory"):
        WRAPPERS[name](torch.optim.SGD([w], lr=0.1)).step(closure)
    assert not torch.equal(calls[1], START)
    assert torch.equal(w.detach(), START)
    assert len(nn.modules.module._global_forward_pre_hooks) == hooks


def test_frozen_parameters_stay():
    w, frozen = START.clone().requires_grad_(), START.clone()
    optimizer = GMP(torch.optim.SGD([w, frozen], lr=0.1), sigma=0.1)
    optimizer.step(closure_of(w, lambda w: quadratic(w) + quadratic(frozen)))
    assert torch.equal(frozen, START)


class Counting(nn.Module):
    """A linear map that counts its calls, in place or by a new tensor, and registers a buffer when it first runs."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.map, self.in_place = nn.Linear(2, 1).double(), in_place
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("none", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.in_place:
            self.seen += 1
        else:
            self.seen = self.seen + 1
        return self.map(x)


def step_of(model, optimizer, losses=lambda call, value: value):
    """One step on the mean square of the model's outputs; ``losses`` sees the number of the call."""
    x, calls = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), []

    def closure() -> torch.Tensor:
        calls.append(1)
        loss = losses(len(calls), model(x).square().mean())
        loss.backward()
        return loss

    return optimizer.step(closure)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("name", EVALUATE_MORE)
def test_a_buffer_counts_one_call_a_step_however_it_is_kept(name, in_place):
    model = nn.Sequential(Counting(in_place), nn.Identity())
    optimizer = WRAPPERS[name](torch.optim.SGD(model.parameters(), lr=0.1))
    for steps in (1, 2):
        step_of(model, optimizer)
        assert model[0].seen == steps
    assert list(model[0]._buffers) == ["seen", "none"]


def test_a_buffer_that_a_further_evaluation_registers_is_gone_again():
    model = Counting(in_place=False)

    def grown(call, value):
        if call == 2:
            model.register_buffer("late", torch.ones(()))
        return value

    step_of(model, WRAPPERS["SAM"](torch.optim.SGD(model.parameters(), lr=0.1)), grown)
    assert list(model._buffers) == ["seen", "none"]


EVALUATIONS = [
    *(("SAM", call) for call in (1, 2)),
    *((name, call) for name in ("GMP", "AbsoluteGMP") for call in (1, 2, 3)),
    *((name, 1) for name in ("DynamicClipping", "LaggedClipping")),
]
BAD_LOSSES = {
    "a loss that is nan": lambda value: value * math.nan,
    "a loss that is infinite": lambda value: value + math.inf,
    "a gradient that is nan": lambda value: value + torch.sqrt(0 * value),  # the value is right, its slope 0 * inf
}


@pytest.mark.parametrize("bad", BAD_LOSSES)
@pytest.mark.parametrize(("name", "call"), EVALUATIONS)
def test_a_step_that_meets_what_is_not_finite_changes_nothing(name, call, bad):
    torch.manual_seed(0)
    model = nn.Sequential(Counting(in_place=False), nn.BatchNorm1d(1).double(), nn.Linear(1, 1).double())
    before = copy.deepcopy(model.state_dict())
    optimizer = WRAPPERS[name](torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    with pytest.raises(NotFinite, match=r"(loss|gradient norm) is (nan|inf): training diverged; lower"):
        step_of(model, optimizer, lambda now, value: BAD_LOSSES[bad](value) if now == call else value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not optimizer.state
