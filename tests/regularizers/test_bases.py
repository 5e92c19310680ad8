"""Bases, groups and closures that a wrapper cannot work with are refused in a sentence."""

import pytest
import torch
from optimisers import EVALUATE_MORE, START, WRAPPERS, closure_of, quadratic
from torch import nn

from helpers.regularizers import SAM


def weights():
    return nn.Parameter(START.clone())


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("base", ["LBFGS", *EVALUATE_MORE])
def test_a_base_that_evaluates_the_batch_itself_is_refused(name, base):
    w = weights()
    inner = torch.optim.LBFGS([w]) if base == "LBFGS" else WRAPPERS[base](torch.optim.SGD([w], lr=0.1))
    with pytest.raises(ValueError, match=f"{base} evaluates the batch itself"):
        WRAPPERS[name](inner)


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("base", ["DynamicClipping", "LaggedClipping"])
def test_clipping_may_be_a_base(name, base):
    w = weights()
    optimizer = WRAPPERS[name](WRAPPERS[base](torch.optim.SGD([w], lr=0.1)))
    first = optimizer.step(closure_of(w, quadratic)).item()
    assert optimizer.step(closure_of(w, quadratic)).item() < first


@pytest.mark.parametrize(
    "make",
    [
        lambda w: torch.optim.SGD([w], lr=0.01, momentum=0.9, nesterov=True),
        lambda w: torch.optim.Adam([w], lr=0.01),
        lambda w: torch.optim.AdamW([w], lr=0.01),
        lambda w: torch.optim.Adagrad([w], lr=0.1),
        lambda w: torch.optim.RMSprop([w], lr=0.01),
        lambda w: torch.optim.Rprop([w], lr=0.01),
        lambda w: torch.optim.ASGD([w], lr=0.01),
        lambda w: torch.optim.NAdam([w], lr=0.01),
    ],
)
@pytest.mark.parametrize("name", WRAPPERS)
def test_first_order_bases_are_taken_also_under_a_schedule(name, make):
    w = weights()
    base = make(w)
    schedule = torch.optim.lr_scheduler.StepLR(base, 1, 0.5)  # which wraps the base's step
    optimizer = WRAPPERS[name](base)
    optimizer.step(closure_of(w, quadratic))
    schedule.step()
    optimizer.step(closure_of(w, quadratic))
    assert quadratic(w) < quadratic(START)


@pytest.mark.parametrize("rho", [-1.0, -1e-9, float("nan"), float("inf")])
@pytest.mark.parametrize("half", [False, True])
def test_a_group_whose_radius_is_no_radius_is_refused(rho, half):
    w = weights()
    optimizer = SAM([{"params": [w], "rho": rho}], torch.optim.SGD, lr=0.1)
    closure = closure_of(w, quadratic)
    closure()
    with pytest.raises(ValueError, match="rho of a parameter group must be a finite number that is not negative"):
        optimizer.first_step() if half else optimizer.step(closure)
    assert torch.equal(w, START)
    optimizer.param_groups[0]["rho"] = 0.1
    optimizer.step(closure)
    expected = weights()
    SAM([expected], torch.optim.SGD, lr=0.1, rho=0.1).step(closure_of(expected, quadratic))
    assert torch.equal(w, expected)


@pytest.mark.parametrize("name", EVALUATE_MORE)
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned None"),
        ("loss", "returned 'loss'"),
        (torch.ones(2), r"returned shape \(2,\)"),
        ([1.0], "one number"),
    ],
)
def test_a_closure_that_returns_no_number_is_refused(name, returned, message):
    w = weights()

    def closure():
        quadratic(w).backward()
        return returned

    with pytest.raises(ValueError, match=message):
        WRAPPERS[name](torch.optim.SGD([w], lr=0.1)).step(closure)
    assert torch.equal(w, START)


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_surrounds_a_step_does_not_change_it(name):
    stepped = []
    for around in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        w = weights()
        optimizer = WRAPPERS[name](torch.optim.SGD([w], lr=0.1))
        with around():
            for _ in range(3):
                optimizer.step(closure_of(w, quadratic))
        stepped.append(w.detach().clone())
    assert torch.equal(stepped[0], stepped[1])
    assert torch.equal(stepped[0], stepped[2])


@pytest.mark.parametrize("name", WRAPPERS)
def test_sparse_gradients_of_embeddings_step_as_dense_ones(name):
    """Every word occurs, so that a step of the norm is the same."""
    stepped = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = nn.Embedding(3, 2, sparse=sparse).double()
        optimizer = WRAPPERS[name](torch.optim.SGD(table.parameters(), lr=0.1))

        def closure(table=table):
            loss = (table(torch.tensor([0, 1, 2, 1])) ** 4).sum()
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
        stepped.append(table.weight.detach().clone())
    torch.testing.assert_close(*stepped)
