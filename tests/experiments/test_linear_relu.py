from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers import wang_mao
from helpers.experiments import linear_relu
from helpers.models import TwoLayerReLU, linear

SMOKE = linear_relu.PROFILES["smoke"]


@cache
def smoke_row(network):
    return linear_relu.row(SMOKE, {"network": network, "seed": 0})


def test_inputs_have_length_one_and_targets_are_those_of_the_teacher():
    *train, test = linear_relu.draw_samples(SMOKE, 3)
    assert len(train) == SMOKE.k
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(SMOKE.teacher, SMOKE.inputs, generator=generator)
    signs = torch.randint(0, 2, (SMOKE.teacher,), generator=generator) * 2.0 - 1.0
    for sample in (*train, test):
        torch.testing.assert_close(sample.inputs.norm(dim=1), torch.ones(len(sample.inputs)))
        x, y = sample.inputs[7], sample.targets[7]
        by_hand = sum(a * max(0.0, (row @ x).item()) for a, row in zip(signs.tolist(), rows, strict=True))
        assert y.item() == pytest.approx(torch.tanh(torch.tensor(by_hand / SMOKE.teacher**0.5)).item(), abs=1e-5)
    assert not torch.equal(train[0].inputs, train[1].inputs)


def test_one_run_is_plain_sgd_and_its_record_is_that_of_the_steps():
    """The gradient by hand: rows (f - y) a_r I_r x / sqrt(m)."""
    own, _, test = linear_relu.draw_samples(SMOKE, 0)
    torch.manual_seed(0)
    first = TwoLayerReLU(SMOKE.inputs, SMOKE.width)
    run = linear_relu.train_one(replace(SMOKE, epochs=1), first, own, test, seed=5)
    W, a, m = first.hidden.weight.detach().clone(), first.signs, SMOKE.width
    order = torch.randperm(SMOKE.n, generator=torch.Generator().manual_seed(5))
    for step, rows in enumerate(order.split(SMOKE.batch_size)):
        x, y = own.inputs[rows], own.targets[rows]
        on = (x @ W.T >= 0).float()
        error = (x @ W.T * on) @ a / m**0.5 - y
        assert run.losses[step] == pytest.approx((error**2 / 2).mean().item(), rel=1e-4)
        assert run.active_losses[step] == pytest.approx((on.mean(1) * error**2 / 2).mean().item(), rel=1e-4)
        W -= SMOKE.lr * (error[:, None] * on * a / m**0.5).T @ x / len(rows)
    x, y = test.inputs, test.targets
    f = (x @ W.T).relu() @ a / m**0.5
    assert run.test_loss[1] == pytest.approx(((f - y) ** 2 / 2).clamp(max=2).mean().item(), rel=1e-4)
    assert run.active[1] == pytest.approx((own.inputs @ W.T >= 0).float().mean().item(), abs=1e-3)


@pytest.mark.parametrize("network", linear_relu.NETWORKS)
def test_lists_and_the_bound_s_two_parts(network):
    row = smoke_row(network)
    assert row["status"] == "ok"
    assert row["steps"] == SMOKE.epochs * 10
    assert [len(row[name]) for name in ("train_loss", "test_loss", "active")] == [SMOKE.epochs + 1] * 3
    assert len(row["gap"]) == SMOKE.k
    mean_gap = torch.tensor(row["gap"]).mean(0)
    torch.testing.assert_close(mean_gap, torch.tensor(row["test_loss"]) - torch.tensor(row["train_loss"]))
    parts = zip(row["bound"], row["trajectory"], row["flatness"], strict=True)
    for bound, trajectory, flatness in parts:
        assert bound == pytest.approx(trajectory + flatness)
        assert trajectory == pytest.approx(2 * flatness)
    assert row["bound"] == sorted(row["bound"])


def test_the_bounds_are_theorems_3_and_4():
    own, other, test = linear_relu.draw_samples(SMOKE, 0)
    for network, first in [
        (linear_relu.LINEAR, linear(SMOKE.inputs, bias=False)),
        (linear_relu.RELU, TwoLayerReLU(SMOKE.inputs, SMOKE.width)),
    ]:
        runs = [linear_relu.train_one(SMOKE, first, sample, test, seed=i) for i, sample in enumerate((own, other))]
        bound = linear_relu.theorem_bound(SMOKE, network, runs, epoch=2).value
        total = sum(torch.tensor(run.active_losses[:20]).sum().item() / 2 for run in runs)
        active = sum(run.active[2] for run in runs) / 2
        T, n, lr = 20, SMOKE.n, SMOKE.lr
        assert bound == pytest.approx(3 * (active * lr**2 * T / (4 * n) * total) ** (1 / 3), rel=1e-5)
    assert linear_relu.theorem_bound(SMOKE, linear_relu.LINEAR, runs, 1).value == pytest.approx(
        wang_mao.linear_network([sum(r.losses[t] for r in runs) / 2 for t in range(10)], 0.5, n=SMOKE.n, R=1.0).value
    )


def test_a_linear_network_is_one_unit_that_is_always_active():
    assert smoke_row(linear_relu.LINEAR)["active"] == [1.0] * (SMOKE.epochs + 1)
    assert 0.3 < smoke_row(linear_relu.RELU)["active"][-1] < 0.7


def test_a_diverged_row_says_so():
    row = linear_relu.row(replace(SMOKE, lr=1e14), {"network": linear_relu.LINEAR, "seed": 0})
    assert row["status"].startswith("diverged")


def test_the_paper_s_code_path_runs_at_a_tiny_size():
    config = replace(linear_relu.PROFILES["paper"], teacher=50, k=2, n=100, n_test=100, epochs=2, batch_size=50)
    for point in linear_relu.points(config)[:2]:
        assert linear_relu.row(config, point)["status"] == "ok"
    assert linear_relu.PROFILES["paper"].epochs * 20_000 // 100 == 5000
