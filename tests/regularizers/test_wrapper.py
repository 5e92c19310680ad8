"""Wrappers are optimisers: states, schedules, copies; and what they refuse."""

import copy

import pytest
import torch
from optimisers import START, WRAPPERS, closure_of, quadratic, wavy
from torch import nn

from helpers.regularizers import AMP, GMP, NVRM, SAM, AbsoluteGMP, DynamicClipping, EntropySGD, LaggedClipping


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_restored_run_goes_on_as_the_uninterrupted_one(name):
    def fresh(w: torch.Tensor) -> torch.optim.Optimizer:
        return WRAPPERS[name](torch.optim.SGD([w], lr=0.02, momentum=0.9))

    w = START.clone().requires_grad_()
    optimizer = fresh(w)
    for _ in range(4):
        optimizer.step(closure_of(w, wavy))
    resumed = w.detach().clone().requires_grad_()
    other = fresh(resumed)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(4):
        optimizer.step(closure_of(w, wavy))
        other.step(closure_of(resumed, wavy))
    assert torch.equal(w, resumed)
    assert other.param_groups is other.base.param_groups
    assert other.state is other.base.state


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("on_base", [False, True])
def test_schedules_work_on_either_optimiser(name, on_base):
    w = START.clone().requires_grad_()
    optimizer = WRAPPERS[name](torch.optim.SGD([w], lr=0.1))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer.base if on_base else optimizer, 1, gamma=0.5)
    rates = []
    for _ in range(3):
        rates.append(optimizer.base.param_groups[0]["lr"])
        optimizer.step(closure_of(w, quadratic))
        schedule.step()
    assert rates == [0.1, 0.05, 0.025]
    assert optimizer.param_groups[0]["lr"] == 0.0125


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_can_be_copied_and_extended(name):
    w, more = START.clone().requires_grad_(), START.clone().requires_grad_()
    optimizer = WRAPPERS[name](torch.optim.Adam([w], lr=0.1))
    optimizer.add_param_group({"params": [more], "lr": 0.2})
    assert optimizer.base.param_groups[1]["params"] == [more]
    optimizer.step(closure_of(w, lambda w: wavy(w) + wavy(more)))
    assert not torch.equal(more.detach(), START)
    twin = copy.deepcopy(optimizer)
    assert twin.param_groups is twin.base.param_groups
    assert twin.param_groups[0]["params"][0] is not w


def test_a_state_goes_back_to_its_own_class():
    w = START.clone().requires_grad_()
    base = torch.optim.SGD([w], lr=0.1)
    with pytest.raises(ValueError, match="saved by SAM, not by GMP"):
        GMP(base, 0.1).load_state_dict(SAM(base).state_dict())
    with pytest.raises(ValueError, match="saved by an optimiser without a wrapper, not by SAM"):
        SAM(base).load_state_dict(base.state_dict())


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda base: SAM(base, rho=-1.0), "rho must be"),
        (lambda base: AMP(base, rho=-1.0), "rho must be"),
        (lambda base: AMP(base, rate=0.0), "rate must be"),
        (lambda base: GMP(base, sigma=0.0), "sigma must be"),
        (lambda base: NVRM(base, sigma=0.0), "sigma must be"),
        (lambda base: EntropySGD(base, gamma=0.0), "gamma must be"),
        (lambda base: EntropySGD(base, 1.0, rate=0.0), "rate must be"),
        (lambda base: EntropySGD(base, 1.0, noise=-1.0), "noise must be"),
        (lambda base: EntropySGD(base, 1.0, steps=0), "steps must be"),
        (lambda base: EntropySGD(base, 1.0, alpha=0.0), r"alpha must lie in \(0, 1\]"),
        (lambda base: GMP(base, sigma=0.1, rho=-0.1), "rho must be"),
        (lambda base: GMP(base, sigma=0.1, draws=0), "draws must be"),
        (lambda base: DynamicClipping(base, 0.0, 1), r"alpha must lie in \(0, 1\]"),
        (lambda base: LaggedClipping(base, 1.5, 1), r"alpha must lie in \(0, 1\]"),
        (lambda base: DynamicClipping(base, 0.1, -1), "start must be"),
        (lambda base: DynamicClipping(base, 0.1, 1, 0.0), "initial must be"),
        (lambda base: LaggedClipping(base, 0.1, 0), "lag must be"),
        (lambda base: SAM(base).step(), r"SAM evaluates a batch more than once; call step\(closure\)"),
        (lambda base: GMP(base, 0.1).step(), "GMP evaluates a batch more than once"),
        (lambda base: NVRM(base, 0.1).step(lambda: torch.ones(())), "no parameter has a gradient"),
        (lambda base: EntropySGD(base, 1.0).step(lambda: torch.ones(())), "no parameter has a gradient"),
        (lambda base: DynamicClipping(base, 0.1, 1).step(), "no parameter has a gradient"),
        (lambda base: LaggedClipping(base, 0.1, 1).step(), "no parameter has a gradient"),
        (lambda base: SAM(base).step(lambda: torch.ones(())), "no parameter has a gradient"),
    ],
)
def test_refusals(wrap, message):
    with pytest.raises(ValueError, match=message):
        wrap(torch.optim.SGD([START.clone().requires_grad_()], lr=0.1))


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("value", [1.5, 2])
def test_a_closure_may_return_a_number(name, value):
    w = START.clone().requires_grad_()

    def closure() -> float:
        quadratic(w).backward()
        return value

    assert WRAPPERS[name](torch.optim.SGD([w], lr=0.1)).step(closure) == value
    assert not torch.equal(w.detach(), START)


def test_a_closure_that_forgets_its_loss_or_its_backward_is_told_so():
    w = START.clone().requires_grad_()
    optimizer = SAM([w], torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match="the closure returned None; let it return the loss"):
        optimizer.step(lambda: quadratic(w).backward())
    with pytest.raises(ValueError, match="no parameter has a gradient; call"):
        optimizer.step(lambda: quadratic(w))


# --- the two forms of a constructor ---


FORMS = {
    "SAM": (
        lambda base: SAM(base, 0.1, True),
        lambda w: SAM([w], torch.optim.SGD, 0.1, adaptive=True, lr=0.02, momentum=0.9),
    ),
    "SAM by name": (
        lambda base: SAM(base, rho=0.1),
        lambda w: SAM([{"params": [w], "lr": 0.02}], torch.optim.SGD, rho=0.1, lr=5.0, momentum=0.9),
    ),
    "GMP": (
        lambda base: GMP(base, 0.1, rho=0.3, seed=4),
        lambda w: GMP([w], torch.optim.SGD, 0.1, lr=0.02, momentum=0.9, rho=0.3, seed=4),
    ),
    "AMP": (
        lambda base: AMP(base, 0.1, 0.02),
        lambda w: AMP([w], torch.optim.SGD, 0.1, rate=0.02, lr=0.02, momentum=0.9),
    ),
    "NVRM": (
        lambda base: NVRM(base, 0.1, seed=4),
        lambda w: NVRM([w], torch.optim.SGD, 0.1, lr=0.02, momentum=0.9, seed=4),
    ),
    "EntropySGD": (
        lambda base: EntropySGD(base, 0.5, steps=2, rate=0.01),
        lambda w: EntropySGD([w], torch.optim.SGD, 0.5, steps=2, rate=0.01, lr=0.02, momentum=0.9),
    ),
    "AbsoluteGMP": (
        lambda base: AbsoluteGMP(base, sigma=0.1, draws=2),
        lambda w: AbsoluteGMP([w], torch.optim.SGD, sigma=0.1, draws=2, lr=0.02, momentum=0.9),
    ),
    "DynamicClipping": (
        lambda base: DynamicClipping(base, 0.5, 2),
        lambda w: DynamicClipping([w], torch.optim.SGD, alpha=0.5, start=2, lr=0.02, momentum=0.9),
    ),
    "LaggedClipping": (
        lambda base: LaggedClipping(base, 0.5, lag=1),
        lambda w: LaggedClipping([w], torch.optim.SGD, 0.5, 1, lr=0.02, momentum=0.9),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_parameters_and_a_class_make_the_same_optimiser(name):
    around, direct = FORMS[name]
    w, v = (START.clone().requires_grad_() for _ in range(2))
    one, other = around(torch.optim.SGD([w], lr=0.02, momentum=0.9)), direct(v)
    for _ in range(4):
        one.step(closure_of(w, wavy))
        other.step(closure_of(v, wavy))
    assert torch.equal(w, v)
    assert isinstance(other.base, torch.optim.SGD)


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (lambda model: SAM(model), "Linear"),
        (lambda model: SAM(model, torch.optim.SGD, lr=0.1), "Linear"),
        (lambda model: SAM(model.parameters()), "generator"),
        (lambda model: GMP(list(model.parameters()), 0.1), "list"),
        (lambda model: DynamicClipping(torch.optim.SGD(model.parameters()), torch.optim.SGD, 0.1, 1), "SGD"),
    ],
)
def test_a_wrong_first_argument_is_one_sentence(make, given):
    with pytest.raises(ValueError, match=rf"goes around an optimiser, .* got a {given} first") as caught:
        make(nn.Linear(1, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [SAM, AMP])
def test_every_group_holds_its_radius(kind):
    """Where a loop of davda54's SAM looks for it, and may change it."""
    a, b, c = (START.clone().requires_grad_() for _ in range(3))
    optimizer = kind([{"params": a}, {"params": b, "rho": 0.5}], torch.optim.SGD, rho=0.1, lr=0.02)
    assert [group["rho"] for group in optimizer.param_groups] == [0.1, 0.5]
    optimizer.rho = 0.2
    optimizer.add_param_group({"params": c})
    assert [group["rho"] for group in optimizer.param_groups] == [0.2, 0.5, 0.2]
    assert "rho" not in torch.optim.SGD([a], lr=0.1).defaults
    with pytest.raises(ValueError, match="rho must be a finite number that is not negative"):
        optimizer.rho = -1.0


def test_a_radius_changed_in_its_group_is_the_radius_of_the_step():
    weights = []
    for start, later in ((0.3, 0.3), (0.1, 0.3)):
        w = START.clone().requires_grad_()
        optimizer = SAM(params=[w], base_optimizer=torch.optim.SGD, rho=start, lr=0.02)
        optimizer.param_groups[0]["rho"] = later
        optimizer.step(closure_of(w, wavy))
        weights.append(w.detach())
    assert torch.equal(*weights)


COMPLEX = [
    lambda p: SAM(torch.optim.SGD([p], lr=0.1)),
    lambda p: SAM([p], torch.optim.SGD, lr=0.1),
    lambda p: AMP(torch.optim.SGD([p], lr=0.1)),
    lambda p: GMP(torch.optim.SGD([p], lr=0.1), sigma=0.1),
    lambda p: NVRM(torch.optim.SGD([p], lr=0.1), sigma=0.1),
    lambda p: EntropySGD(torch.optim.SGD([p], lr=0.1), gamma=1.0),
    lambda p: DynamicClipping(torch.optim.SGD([p], lr=0.1), alpha=0.1, start=0),
    lambda p: LaggedClipping(torch.optim.SGD([p], lr=0.1), alpha=0.1, lag=1),
    lambda p: SAM(torch.optim.SGD([START.clone().requires_grad_()], lr=0.1)).add_param_group({"params": p}),
]


@pytest.mark.parametrize("make", COMPLEX)
def test_complex_parameters_are_refused(make):
    """The square of 3 + 4i is no squared length."""
    p = torch.nn.Parameter(torch.tensor([3 + 4j, 1j]))
    with pytest.raises(ValueError, match=r"is for real parameters, got one of torch\.complex64; .*view_as_real"):
        make(p)
