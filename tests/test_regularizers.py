"""Wrapped optimisers against their update rules written out, and what they must leave alone."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import regularizers
from helpers.regularizers import GMP, SAM, AbsoluteGMP, DynamicClipping, LaggedClipping

anytime = settings(deadline=None)  # a busy machine is not a failure

H = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
START = torch.tensor([1.0, -2.0], dtype=torch.float64)

WRAPPERS = {
    "SAM": lambda base: SAM(base, rho=0.1),
    "GMP": lambda base: GMP(base, sigma=0.1, rho=0.5, draws=2, seed=3),
    "AbsoluteGMP": lambda base: AbsoluteGMP(base, sigma=0.1, rho=0.5, draws=2, seed=3),
    "DynamicClipping": lambda base: DynamicClipping(base, alpha=0.5, start=2),
    "LaggedClipping": lambda base: LaggedClipping(base, alpha=0.5, lag=2),
}
EVALUATE_MORE = ["SAM", "GMP", "AbsoluteGMP"]


def closure_of(w: torch.Tensor, loss):
    """The closure of loss(w); it leaves zero_grad to the optimiser, which must not add up gradients."""

    def closure() -> torch.Tensor:
        value = loss(w)
        value.backward()
        return value

    return closure


def quadratic(w: torch.Tensor) -> torch.Tensor:
    return 0.5 * w @ H @ w


def wavy(w: torch.Tensor) -> torch.Tensor:
    return (w**4).sum() + torch.sin(3 * w).sum()


def noise(seed: int, draws: int, shape=(2,), sigma: float = 0.1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([sigma * torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(draws)])


def gradient(loss, w: torch.Tensor) -> torch.Tensor:
    w = w.clone().requires_grad_()
    return torch.autograd.grad(loss(w), w)[0]


# --- SAM ---------------------------------------------------------------------------------------------------------


def test_sam_on_a_quadratic():
    w = START.clone().requires_grad_()
    loss = SAM(torch.optim.SGD([w], lr=0.1), rho=0.3).step(closure_of(w, quadratic))
    g = H @ START
    expected = START - 0.1 * H @ (START + 0.3 * g / g.norm())
    assert torch.allclose(w.detach(), expected, atol=1e-14)
    assert loss.item() == pytest.approx(quadratic(START).item(), abs=1e-14)  # at the unperturbed weights


def test_sam_measures_the_norm_over_all_parameters():
    a, b = START[:1].clone().requires_grad_(), START[1:].clone().requires_grad_()
    optimizer = SAM(torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.2}], lr=0.1), rho=0.3)
    optimizer.step(closure_of(a, lambda _: quadratic(torch.cat([a, b]))))
    g = H @ START
    expected = START - torch.tensor([0.1, 0.2], dtype=torch.float64) * (H @ (START + 0.3 * g / g.norm()))
    assert torch.allclose(torch.cat([a, b]).detach(), expected, atol=1e-14)


def test_momentum_and_weight_decay_are_the_bases_own():
    w, reference = START.clone().requires_grad_(), START.clone().requires_grad_()
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    optimizer, base = SAM(torch.optim.SGD([w], **options), rho=0.2), torch.optim.SGD([reference], **options)
    for _ in range(4):
        optimizer.step(closure_of(w, wavy))
        g = gradient(wavy, reference.detach())
        reference.grad = gradient(wavy, reference.detach() + 0.2 * g / g.norm())
        base.step()
    assert torch.allclose(w, reference, atol=1e-13)


def test_sam_at_a_zero_gradient_takes_the_bases_step():
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    SAM(torch.optim.SGD([w], lr=0.1), rho=0.3).step(closure_of(w, quadratic))
    assert w.tolist() == [0, 0]


@anytime
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_without_perturbation_sam_and_gmp_are_their_base(x, y):
    start = torch.tensor([x, y], dtype=torch.float64)
    expected = start - 0.01 * gradient(wavy, start)
    for wrap in lambda base: SAM(base, rho=0.0), lambda base: GMP(base, sigma=0.1, rho=0.0, draws=2):
        w = start.clone().requires_grad_()
        wrap(torch.optim.SGD([w], lr=0.01)).step(closure_of(w, wavy))
        assert torch.allclose(w.detach(), expected, atol=1e-14)


# --- GMP -----------------------------------------------------------------------------------------------------------


def test_gmp_is_algorithm_2():
    w = START.clone().requires_grad_()
    loss = GMP(torch.optim.SGD([w], lr=0.1), sigma=0.1, rho=0.4, draws=3, seed=5).step(closure_of(w, wavy))
    near = torch.stack([gradient(wavy, START + d) for d in noise(5, 3)])
    expected = START - 0.1 * (0.6 * gradient(wavy, START) + 0.4 / 3 * near.sum(0))
    assert torch.allclose(w.detach(), expected, atol=1e-13)
    assert loss.item() == pytest.approx(wavy(START).item(), abs=1e-14)


def test_absolute_gmp_signs_every_draw():
    w = START.clone().requires_grad_()
    AbsoluteGMP(torch.optim.SGD([w], lr=0.1), sigma=0.1, rho=0.4, draws=4, seed=0).step(closure_of(w, wavy))
    plain, total = gradient(wavy, START), torch.zeros(2, dtype=torch.float64)
    signs = [torch.sign(wavy(START + d) - wavy(START)).item() for d in noise(0, 4)]
    assert {-1.0, 1.0} == set(signs)  # both occur, else the test is of GMP
    for sign, d in zip(signs, noise(0, 4), strict=True):
        total += 0.1 * sign * (gradient(wavy, START + d) - plain)
    assert torch.allclose(w.detach(), START - 0.1 * (plain + total), atol=1e-13)


def test_absolute_gmp_is_gmp_at_a_minimum():
    minimum = torch.zeros(2, dtype=torch.float64)
    ends = []
    for kind in GMP, AbsoluteGMP:
        w = minimum.clone().requires_grad_()
        kind(torch.optim.SGD([w], lr=0.1), sigma=0.1, draws=3).step(closure_of(w, quadratic))
        ends.append(w.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("power", [2, 4])
def test_mean_of_gmp_is_the_gradient_with_a_trace_penalty(power):
    # 40,000 independent copies of one weight share a loss that is a sum: one step is 40,000 draws.
    # L = x^p: grad [L + (rho sigma^2 / 2) L''] is exact for p <= 4; on a quadratic the plain gradient
    copies, x, rho, sigma = 40_000, 1.3, 0.5, 0.4
    w = torch.full((copies,), x, dtype=torch.float64, requires_grad=True)
    optimizer = GMP(torch.optim.SGD([w], lr=1.0), sigma=sigma, rho=rho, draws=1, seed=1)
    optimizer.step(closure_of(w, lambda w: (w**power).sum()))
    seen = x - w.detach()
    expected = {2: 2 * x, 4: 4 * x**3 + rho * sigma**2 / 2 * 24 * x}[power]
    assert abs(seen.mean().item() - expected) < 4 * seen.std().item() / copies**0.5
    if power == 4:  # the penalty is large enough to be seen
        assert abs(4 * x**3 - expected) > 20 * seen.std().item() / copies**0.5


def test_gmp_draws_afresh_each_step_and_leaves_the_global_state_alone():
    w = START.clone().requires_grad_()
    optimizer = GMP(torch.optim.SGD([w], lr=0.0), sigma=0.1, rho=1.0, draws=1, seed=5)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    seen = []
    for _ in range(2):
        optimizer.step(closure_of(w, quadratic))
        seen.append(w.grad.clone())
    assert torch.equal(torch.rand(1), expected)
    d = noise(5, 2)
    assert torch.allclose(torch.stack(seen), (START + d) @ H, atol=1e-13)


# --- what an evaluation elsewhere must not change --------------------------------------------------------------------


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


# --- clipping ------------------------------------------------------------------------------------------------------


def norms_seen(optimizer_of, norms: list[float]) -> list[float]:
    """Norms that the base sees when these are the norms of the gradients."""
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_of(torch.optim.SGD([w], lr=1.0))
    seen = []
    for norm in norms:
        w.grad = norm * torch.tensor([0.6, -0.8], dtype=torch.float64)
        before = w.detach().clone()
        optimizer.step()
        step = before - w.detach()
        assert torch.allclose(step / step.norm(), torch.tensor([0.6, -0.8], dtype=torch.float64))
        seen.append(step.norm().item())
    return seen


def test_dynamic_clipping_is_algorithm_1():
    norms = [5.0, 3.0, 4.0, 2.0, 6.0, 2.0]
    seen = norms_seen(lambda base: DynamicClipping(base, 0.1, 1), norms)
    assert seen == pytest.approx([5, 3, 0.3, 2, 0.2, 2], abs=1e-12)  # G: inf, 3, 3, 2, 2, 2
    seen = norms_seen(lambda base: DynamicClipping(base, 0.1, 1, 2.5), norms)
    assert seen == pytest.approx([5, 0.25, 0.25, 2, 0.2, 2], abs=1e-12)  # G: 2.5, 2.5, 2.5, 2, 2, 2
    seen = norms_seen(lambda base: DynamicClipping(base, 0.1, 0), norms)
    assert seen == pytest.approx([5, 3, 0.3, 2, 0.2, 2], abs=1e-12)


def test_lagged_clipping_is_the_rule_of_the_text():
    seen = norms_seen(lambda base: LaggedClipping(base, 0.1, 2), [5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 5.0])
    assert seen == pytest.approx([5, 3, 4, 2, 0.4, 0.2, 5], abs=1e-12)
    # against the norm before clipping: 2 is compared with 4, not with the 0.1 that is left of it
    seen = norms_seen(lambda base: LaggedClipping(base, 0.1, 1), [1.0, 4.0, 2.0])
    assert seen == pytest.approx([1, 0.1, 2], abs=1e-12)


@anytime
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=12), st.floats(0.05, 1), st.integers(0, 4))
def test_clipped_norms_never_exceed_the_running_minimum(norms, alpha, start):
    seen = norms_seen(lambda base: DynamicClipping(base, alpha, start), norms)
    smallest = math.inf
    for t, (norm, left) in enumerate(zip(norms, seen, strict=True), 1):
        if t <= start:
            assert left == pytest.approx(norm)
            continue
        assert left == pytest.approx(norm if norm <= smallest else alpha * smallest)
        smallest = min(smallest, norm)


def test_clipping_with_a_closure_returns_its_loss():
    w = START.clone().requires_grad_()
    loss = DynamicClipping(torch.optim.SGD([w], lr=0.1), 0.1, 0).step(closure_of(w, quadratic))
    assert loss.item() == pytest.approx(quadratic(START).item())
    assert torch.allclose(w.detach(), START - 0.1 * H @ START)


# --- wrappers are optimisers -----------------------------------------------------------------------------------------


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


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda base: SAM(base, rho=-1.0), "rho must be"),
        (lambda base: GMP(base, sigma=0.0), "sigma must be"),
        (lambda base: GMP(base, sigma=0.1, rho=-0.1), "rho must be"),
        (lambda base: GMP(base, sigma=0.1, draws=0), "draws must be"),
        (lambda base: DynamicClipping(base, 0.0, 1), r"alpha must lie in \(0, 1\]"),
        (lambda base: LaggedClipping(base, 1.5, 1), r"alpha must lie in \(0, 1\]"),
        (lambda base: DynamicClipping(base, 0.1, -1), "start must be"),
        (lambda base: DynamicClipping(base, 0.1, 1, 0.0), "initial must be"),
        (lambda base: LaggedClipping(base, 0.1, 0), "lag must be"),
        (lambda base: SAM(base).step(), r"SAM evaluates a batch more than once; call step\(closure\)"),
        (lambda base: GMP(base, 0.1).step(), "GMP evaluates a batch more than once"),
        (lambda base: DynamicClipping(base, 0.1, 1).step(), "no parameter has a gradient"),
        (lambda base: LaggedClipping(base, 0.1, 1).step(), "no parameter has a gradient"),
        (lambda base: SAM(base).step(lambda: torch.ones(())), "no parameter has a gradient"),
    ],
)
def test_refusals(wrap, message):
    with pytest.raises(ValueError, match=message):
        wrap(torch.optim.SGD([START.clone().requires_grad_()], lr=0.1))


@pytest.mark.parametrize("name", ["SAM", "DynamicClipping", "LaggedClipping"])
def test_a_diverged_gradient_is_named(name):
    w = START.clone().requires_grad_()
    with pytest.raises(ValueError, match="gradient norm is nan: training diverged"):
        WRAPPERS[name](torch.optim.SGD([w], lr=0.1)).step(closure_of(w, lambda w: (w * math.nan).sum()))


# --- comparisons -----------------------------------------------------------------------------------------------------


def test_flooding_ascends_below_the_level():
    x = torch.tensor(0.3, requires_grad=True)
    regularizers.flooding(x, 0.5).backward()
    assert x.grad == -1
    assert regularizers.flooding(torch.tensor(0.3), 0.5) == pytest.approx(0.7)
    assert regularizers.flooding(torch.tensor(0.9), 0.5) == pytest.approx(0.9)


def test_mixup_mixes_inputs_and_targets_alike():
    x, y = torch.tensor([[0.0], [4.0]]), torch.eye(2)
    mixed, soft = regularizers.mixup(x, y, share=0.75, partners=torch.tensor([1, 0]))
    assert mixed.tolist() == [[1.0], [3.0]]
    assert soft.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    with pytest.raises(ValueError, match="share must lie in"):
        regularizers.mixup(x, y, share=1.5, partners=torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="mixup needs class probabilities"):
        regularizers.mixup(x, torch.tensor([0, 1]), share=0.5, partners=torch.tensor([1, 0]))
