"""SAM, AMP, GMP and NVRM against their update rules written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimisers import START, H, closure_of, gradient, noise, quadratic, wavy
from torch import nn

from helpers.regularizers import AMP, GMP, NVRM, SAM, AbsoluteGMP, NotFinite

anytime = settings(deadline=None)  # a busy machine is not a failure

# --- SAM ---


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


# --- adaptive SAM ---


def test_adaptive_sam_measures_the_ball_by_the_weights():
    w = START.clone().requires_grad_()
    SAM(torch.optim.SGD([w], lr=0.1), rho=0.3, adaptive=True).step(closure_of(w, quadratic))
    g, T = H @ START, START.abs()
    expected = START - 0.1 * H @ (START + 0.3 * T**2 * g / (T * g).norm())
    assert torch.allclose(w.detach(), expected, atol=1e-14)


@pytest.mark.parametrize("adaptive", [True, False])
def test_only_the_adaptive_perturbation_survives_rescaling(adaptive):
    """f(x) = b a x is that of (c a, b / c): the loss at the perturbed weights is the same only if the ball rescales."""
    losses = []
    for c in (1.0, 7.0):
        a, b = (torch.tensor(v, dtype=torch.float64).requires_grad_() for v in (0.8 * c, -0.5 / c))
        values = []

        def closure(a=a, b=b, values=values) -> torch.Tensor:
            loss = (a * b - 1) ** 2
            loss.backward()
            values.append(loss.item())
            return loss

        SAM([a, b], torch.optim.SGD, rho=0.2, adaptive=adaptive, lr=0.0).step(closure)
        losses.append(values)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-13)
    assert (losses[0][1] == pytest.approx(losses[1][1], rel=1e-13)) is adaptive


def test_adaptive_sam_where_every_weight_is_zero_takes_the_bases_step():
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    SAM([w], torch.optim.SGD, adaptive=True, lr=0.1).step(closure_of(w, lambda w: (w - START).square().sum()))
    assert torch.allclose(w.detach(), 0.2 * START)


# --- AMP ---


@pytest.mark.parametrize("rate", [0.01, 0.05, 10.0])
def test_amp_steps_up_and_is_cut_to_the_ball(rate):
    """||g|| is sqrt(10): the first two rates stay inside the ball of radius 0.3, the last is cut to it."""
    w = START.clone().requires_grad_()
    loss = AMP(torch.optim.SGD([w], lr=0.1), rho=0.3, rate=rate).step(closure_of(w, quadratic))
    up = rate * (H @ START)
    if up.norm() > 0.3:
        up = 0.3 * up / up.norm()
    assert torch.allclose(w.detach(), START - 0.1 * H @ (START + up), atol=1e-14)
    assert loss.item() == pytest.approx(quadratic(START).item(), abs=1e-14)


def test_amp_is_sam_where_the_ascent_leaves_the_ball():
    ends = []
    for wrap in (lambda base: AMP(base, rho=0.2, rate=1e6), lambda base: SAM(base, rho=0.2)):
        w = START.clone().requires_grad_()
        optimizer = wrap(torch.optim.SGD([w], lr=0.02, momentum=0.9))
        for _ in range(4):
            optimizer.step(closure_of(w, wavy))
        ends.append(w.detach())
    assert torch.equal(*ends)


def test_near_a_minimum_sam_jitters_and_amp_comes_to_rest():
    """L = h w^2 / 2: SAM ends in a cycle of two points, |w| = lr h rho / (2 - lr h); AMP's steps shrink with w."""
    h, lr, rho = 2.0, 0.1, 0.3
    ends = {}
    for name, wrap in {"SAM": lambda b: SAM(b, rho), "AMP": lambda b: AMP(b, rho, rate=0.5)}.items():
        w = torch.tensor([1.0], dtype=torch.float64).requires_grad_()
        optimizer = wrap(torch.optim.SGD([w], lr=lr))
        for _ in range(300):
            optimizer.step(closure_of(w, lambda w: h / 2 * w.square().sum()))
        ends[name] = abs(w.item())
    assert ends["SAM"] == pytest.approx(lr * h * rho / (2 - lr * h), rel=1e-9)
    assert ends["AMP"] < 1e-20


def test_amp_at_a_zero_gradient_takes_the_bases_step_and_groups_have_their_own_radius():
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    AMP(torch.optim.SGD([w], lr=0.1)).step(closure_of(w, quadratic))
    assert w.tolist() == [0, 0]
    a, b = START[:1].clone().requires_grad_(), START[1:].clone().requires_grad_()
    groups = [{"params": [a], "rho": 0.1}, {"params": [b], "rho": 0.4}]
    AMP(torch.optim.SGD(groups, lr=0.1), rate=100.0).step(closure_of(a, lambda _: quadratic(torch.cat([a, b]))))
    g = H @ START
    up = torch.tensor([0.1, 0.4], dtype=torch.float64) * g / g.norm()
    assert torch.allclose(torch.cat([a, b]).detach(), START - 0.1 * H @ (START + up), atol=1e-14)


# --- a step in two halves ---


def scaled_step(w, optimizer, scaler):
    """One step of SAM as its docstring writes it."""
    for half in (optimizer.first_step, optimizer.second_step):
        scaler.scale(wavy(w)).backward()
        scaler.unscale_(optimizer)
        try:
            half(zero_grad=True)
        except NotFinite:
            optimizer.zero_grad()
            break
        finally:
            scaler.update()


@pytest.mark.parametrize("adaptive", [True, False])
def test_two_halves_around_a_grad_scaler_are_the_unscaled_step(adaptive):
    ends = []
    for scaled in (True, False):
        w = START.clone().requires_grad_()
        optimizer = SAM([w], torch.optim.SGD, rho=0.2, adaptive=adaptive, lr=0.02, momentum=0.9)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for _ in range(3):
            scaled_step(w, optimizer, scaler) if scaled else optimizer.step(closure_of(w, wavy))
        ends.append(w.detach())
    assert torch.equal(*ends)  # a scale that is a power of two costs no rounding


@pytest.mark.parametrize("bad", [1, 2])
def test_a_scale_too_large_skips_the_step_lowers_the_scale_and_moves_the_weights_back(bad):
    """Gradients of float16 overflow in the named half."""
    w = START.clone().requires_grad_()
    optimizer, scaler, calls = SAM([w], torch.optim.SGD, lr=0.02), torch.amp.GradScaler("cpu", init_scale=8.0), []
    w.register_hook(lambda g: calls.append(1) or (g * torch.inf if len(calls) == bad else g))
    scaled_step(w, optimizer, scaler)
    assert torch.equal(w.detach(), START)
    assert scaler.get_scale() == 4.0
    assert w.grad is None
    scaled_step(w, optimizer, scaler)
    assert not torch.equal(w.detach(), START)


def test_two_halves_see_the_batch_once_and_a_gradient_that_is_missing_in_one_is_zero():
    model = nn.BatchNorm1d(2, affine=False).double()
    w, b = START.clone().requires_grad_(), START.clone().requires_grad_()
    optimizer = SAM([w, b], torch.optim.SGD, rho=0.1, lr=0.1)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double()
    for half, loss in ((optimizer.first_step, quadratic(w) + b.sum()), (optimizer.second_step, None)):
        model(x)
        (quadratic(w) if loss is None else loss).backward()
        half(zero_grad=True)
    assert model.num_batches_tracked == 1
    assert torch.equal(b.detach(), START)


def test_halves_out_of_turn_are_one_sentence():
    w = START.clone().requires_grad_()
    optimizer = SAM([w], torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match="second_step comes after first_step"):
        optimizer.second_step()
    quadratic(w).backward()
    optimizer.first_step(zero_grad=True)
    for call in (optimizer.first_step, optimizer.state_dict, lambda: optimizer.step(closure_of(w, quadratic))):
        with pytest.raises(ValueError, match="the weights are perturbed; call second_step"):
            call()
    with pytest.raises(ValueError, match="no parameter has a gradient"):
        optimizer.second_step()  # without a backward: the weights are back all the same
    assert torch.equal(w.detach(), START)
    optimizer.state_dict()


# --- GMP ---


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


# --- NVRM ---


def test_nvrm_is_the_gradient_at_the_perturbed_weights():
    w = START.clone().requires_grad_()
    loss = NVRM(torch.optim.SGD([w], lr=0.1), sigma=0.1, seed=5).step(closure_of(w, wavy))
    (d,) = noise(5, 1)
    assert torch.allclose(w.detach(), START - 0.1 * gradient(wavy, START + d), atol=1e-14)
    assert loss.item() == pytest.approx(wavy(START + d).item(), abs=1e-14)


def test_nvrm_is_gmp_with_all_weight_on_one_draw_at_half_the_price():
    ends, calls = [], {}
    for name, wrap in {"NVRM": lambda b: NVRM(b, 0.1, seed=2), "GMP": lambda b: GMP(b, 0.1, 1.0, 1, seed=2)}.items():
        w = START.clone().requires_grad_()
        optimizer = wrap(torch.optim.SGD([w], lr=0.02, momentum=0.9))
        seen = calls.setdefault(name, [])

        def counted(w, seen=seen):
            seen.append(1)
            return wavy(w)

        for _ in range(4):
            optimizer.step(closure_of(w, counted))
        ends.append(w.detach())
    assert torch.allclose(*ends, atol=1e-13)
    assert len(calls["NVRM"]) * 2 == len(calls["GMP"])


def test_nvrm_adds_the_noise_and_takes_it_out_again():
    """As its source writes it: the walk of the noisy weights, read without their noise."""
    w = START.clone().requires_grad_()
    optimizer, noisy = NVRM(torch.optim.SGD([w], lr=0.05), sigma=0.1, seed=7), START.clone()
    draws = noise(7, 3)
    for step, d in enumerate(draws):
        noisy = noisy + d if step == 0 else noisy - draws[step - 1] + d
        noisy = noisy - 0.05 * gradient(quadratic, noisy)
        optimizer.step(closure_of(w, quadratic))
    assert torch.allclose(w.detach(), noisy - draws[-1], atol=1e-13)


def test_nvrm_puts_the_weights_back_when_the_loss_is_not_finite():
    w = START.clone().requires_grad_()
    with pytest.raises(NotFinite):
        NVRM(torch.optim.SGD([w], lr=0.1), sigma=0.1).step(closure_of(w, lambda w: w.sum() * torch.inf))
    assert torch.equal(w.detach(), START)


# --- a gradient that is missing is zero ---


def closure_with(a, b, uses_a):
    """The loss b^2, plus a^2 in the evaluations whose number ``uses_a`` takes; and the values of a it saw."""
    seen = []

    def closure() -> torch.Tensor:
        seen.append(a.item())
        loss = b**2 + a**2 if uses_a(len(seen)) else b**2
        loss.backward()
        return loss

    return closure, seen


ZERO = {
    # wrapper, evaluations that use a, and the step of a = 1 at lr = 1
    "SAM, only perturbed": (lambda base: SAM(base, rho=0.5), lambda call: call == 2, -1.0),
    "SAM, only first": (lambda base: SAM(base, rho=0.5), lambda call: call == 1, 1.0),
    "GMP, only perturbed": (lambda base: GMP(base, sigma=0.1, rho=1.0), lambda call: call > 1, -1.0),
    "GMP, only first": (lambda base: GMP(base, sigma=0.1, rho=0.25), lambda call: call == 1, -0.5),
}


@pytest.mark.parametrize("case", ZERO)
def test_a_gradient_that_is_missing_in_some_evaluations_is_zero_there(case):
    wrap, uses_a, expected = ZERO[case]
    a, b = (
        torch.tensor(1.0, dtype=torch.float64).requires_grad_(),
        torch.tensor(2.0, dtype=torch.float64).requires_grad_(),
    )
    closure, _ = closure_with(a, b, uses_a)
    wrap(torch.optim.SGD([a, b], lr=1.0)).step(closure)
    assert a.item() == pytest.approx(expected, abs=1e-12)


def test_gmp_mixes_a_gradient_that_comes_and_goes():
    """Used in evaluations 1 and 3 of 4: (1 - rho) 2 a + rho / 3 * 2 (a + d_2), with a perturbed as it has one at w."""
    a, b = (
        torch.tensor([1.0], dtype=torch.float64).requires_grad_(),
        torch.tensor([2.0], dtype=torch.float64).requires_grad_(),
    )
    closure, seen = closure_with(a, b, lambda call: call in (1, 3))
    GMP([a, b], torch.optim.SGD, sigma=0.1, rho=0.6, draws=3, lr=1.0).step(closure)
    assert len(seen) == len(set(seen)) == 4
    assert a.item() == pytest.approx(1 - 0.4 * 2 - 0.2 * 2 * seen[2], abs=1e-12)
