"""Verdicts that are remembered hold where the network goes next; what a trial could not show is not remembered."""

import threading
import warnings
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import curvature, data
from helpers.losses import ClippedCrossEntropy, HalfSquaredError

CLIPPED = ClippedCrossEntropy(9.0)


def examples(n=50, zero=2, inputs=20, classes=3):
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(n, inputs, generator=generator)
    X[:zero] = 0
    return data.Split(X, torch.randint(classes, (n,), generator=generator), classes, "made up")


def dense(model, split):
    return by_differences(build(model), split)


def by_differences(twin, split):
    """The Hessian of a network in float64 from differences of gradients: no second derivative is trusted."""
    names = [name for name, _ in twin.named_parameters()]
    w = torch.cat([p.detach().reshape(-1) for p in twin.parameters()])
    shapes = [p.shape for p in twin.parameters()]

    def mean_loss(vector):
        pieces = vector.split([shape.numel() for shape in shapes])
        weights = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        z = torch.func.functional_call(twin, weights, (split.inputs.double(),))
        return F.cross_entropy(z, split.targets)

    step, rows = 1e-5, []
    for e in torch.eye(len(w), dtype=torch.float64):
        sides = [torch.func.grad(mean_loss)(w + sign * step * e) for sign in (1, -1)]
        rows.append((sides[0] - sides[1]) / (2 * step))
    H = torch.stack(rows)
    return (H + H.T) / 2


def build(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        twin = make(model.kind).double()
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def make(kind):
    torch.manual_seed(0)
    if kind == "layer norm":
        parts = [nn.Linear(20, 6, bias=False), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)]
    elif kind == "weight norm":
        parts = [nn.utils.parametrizations.weight_norm(nn.Linear(20, 6)), nn.Tanh(), nn.Linear(6, 3)]
    else:
        parts = [nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3)]
    model = nn.Sequential(*parts).eval()
    model.kind = kind
    return model


@pytest.mark.parametrize("kind", ["layer norm", "weight norm"])
def test_a_second_derivative_is_tried_where_the_first_examples_show_nothing(kind):
    model, split = make(kind), examples()
    H, v = dense(model, split), torch.randn(sum(p.numel() for p in model.parameters()))
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v).double(), H @ v.double(), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(curvature.hessian(model, CLIPPED, split).double(), H, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["layer norm", "weight norm", "plain"])
def test_a_verdict_at_a_zero_head_holds_after_training(kind):
    model, split = make(kind), examples(zero=0)
    head = model[-1].weight
    with torch.no_grad():
        head.zero_()
    curvature.trace(model, CLIPPED, split)
    curvature.hvp(model, CLIPPED, split, torch.ones(sum(p.numel() for p in model.parameters())))
    with torch.no_grad():
        head.normal_(generator=torch.Generator().manual_seed(1))
    H = dense(model, split)
    v = torch.randn(len(H), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v).double(), H @ v.double(), rtol=2e-3, atol=2e-3)
    assert not curvature.is_piecewise_affine(model, split)[0]


def test_a_function_that_is_swapped_in_is_tried_anew():
    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.top, self.act = nn.Linear(20, 40), nn.Linear(40, 3), torch.relu

        def forward(self, x):
            return self.top(self.act(self.low(x)))

    torch.manual_seed(0)
    model, split = Swapped().eval(), examples()
    assert curvature.is_piecewise_affine(model, split)[0]
    model.act = torch.tanh
    assert not curvature.is_piecewise_affine(model, split)[0]


def test_a_model_that_cannot_be_copied_is_tried_as_it_is():
    model, split = make("weight norm"), examples()
    v = torch.randn(sum(p.numel() for p in model.parameters()), generator=torch.Generator().manual_seed(2))
    right = curvature.hvp(model, CLIPPED, split, v)
    locked = make("weight norm")
    locked.lock = threading.Lock()
    torch.testing.assert_close(curvature.hvp(locked, CLIPPED, split, v), right, rtol=1e-4, atol=1e-5)


class BatchStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        return self.norm(self.convolution(x)).mean((2, 3)) + self.convolution(x).mean((2, 3))


@pytest.mark.parametrize("rows", [[0, 0], [0]])
def test_dependence_on_the_batch_is_seen_where_examples_are_equal_or_alone(rows):
    torch.manual_seed(0)
    X = torch.randn(20, 1, 6, 6)[torch.tensor(rows)]
    split = data.Split(X, torch.zeros(len(rows), dtype=torch.long), 4, "equal")
    with pytest.raises(ValueError, match="depends on the rest of its batch"):
        curvature.values(BatchStatistics().eval(), CLIPPED, split)


def test_a_rare_draw_is_seen_in_the_generator():
    class Rarely(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(20, 3)

        def forward(self, x):
            return F.dropout(self.layer(x), 1e-6, training=True)

    model = Rarely().eval()
    state = torch.random.get_rng_state()
    with pytest.raises(ValueError, match="draws at random"):
        curvature.values(model, CLIPPED, examples())
    assert torch.equal(torch.random.get_rng_state(), state)


def squares(z, y):
    return ((z - y) ** 2).mean(1)


def divided(z, y):
    return F.cross_entropy(z, y, reduction="none") / len(y)


def restless(z, y):
    return F.cross_entropy(z, y, reduction="none") * torch.rand(len(y))


@pytest.mark.parametrize(
    ("loss", "outputs", "message"),
    [
        (squares, 1, "depends on the rest of its batch"),
        (divided, 3, "depends on the rest of its batch"),
        (restless, 3, "loss draws at random"),
    ],
)
def test_a_loss_of_more_than_its_example_is_refused(loss, outputs, message):
    torch.manual_seed(0)
    split = examples()
    if outputs == 1:
        split = data.Split(split.inputs, split.targets.float(), 0, "made up")
    model = nn.Linear(20, outputs).eval()
    for function in (curvature.values, curvature.gradient, curvature.trace):
        with pytest.raises(ValueError, match=message):
            function(model, loss, split)


def focal(z, y):
    ce = F.cross_entropy(z, y, reduction="none")
    return (1 - torch.exp(-ce.detach())) ** 2 * ce


def detached(z, y):
    return F.cross_entropy(z, y, reduction="none").detach()


CURVED = [
    curvature.gradient,
    curvature.hessian,
    curvature.gauss_newton,
    curvature.per_example_gradients,
    curvature.trace,
]


@pytest.mark.parametrize("function", CURVED)
def test_a_loss_whose_gradient_is_not_its_derivative_is_refused(function):
    model, split = make("plain"), examples()
    with pytest.raises(ValueError, match="loss's gradient is not its derivative"):
        function(model, focal, split)
    with pytest.raises(ValueError, match="loss cuts the graph"):
        function(model, detached, split)
    assert curvature.values(model, detached, split).shape == (50,)


@pytest.mark.parametrize("function", CURVED)
def test_a_model_that_is_detached_is_refused(function):
    class Cut(nn.Module):
        def __init__(self, whole):
            super().__init__()
            self.body, self.head, self.whole = nn.Linear(20, 4), nn.Linear(4, 3), whole

        def forward(self, x):
            z = self.head(torch.tanh(self.body(x)).detach())
            return z.detach() if self.whole else z

    torch.manual_seed(0)
    for whole, message in ((True, "model cuts the graph"), (False, "not the derivative")):
        with pytest.raises(ValueError, match=message):
            function(Cut(whole).eval(), CLIPPED, examples())


def test_losses_with_kinks_and_steps_pass():
    model, split = make("plain"), examples()
    hinge = nn.MultiMarginLoss(reduction="none")
    assert curvature.gradient(model, hinge, split).norm() > 0
    assert curvature.gradient(model, ClippedCrossEntropy(1.0), split).isfinite().all()


def test_both_ends_are_found_from_a_start_in_an_invariant_space():
    """H = [[2, -1], [-1, 2]]: random signs are one of its eigenvectors."""
    X = torch.linalg.cholesky(torch.tensor([[2.0, -1.0], [-1.0, 2.0]])).T * 2**0.5
    split = data.Split(X, torch.zeros(2), 0, "two")
    model = nn.Linear(2, 1, bias=False).eval()
    for seed in range(8):
        edge = curvature.extreme_eigenvalues(model, HalfSquaredError(), split, seed=seed)
        assert edge.largest.item() == pytest.approx(3, abs=1e-5)
        assert edge.smallest.item() == pytest.approx(1, abs=1e-5)
        assert edge.counts_copies


def test_the_largest_eigenvalue_is_found_where_no_vector_of_signs_reaches_it():
    """With zero weights each row of the table has the block c (1, -1)(1, -1)^T; signs that agree in a row miss it."""
    table = nn.Embedding(60, 2).double().eval()
    nn.init.zeros_(table.weight)
    counts = torch.ones(60, dtype=torch.long)
    counts[7] = 20
    rows = torch.arange(60).repeat_interleave(counts)
    split = data.Split(rows, torch.arange(len(rows)) % 2, 2, "a table")
    for seed in range(6):
        edge = curvature.extreme_eigenvalues(table, nn.CrossEntropyLoss(reduction="none"), split, seed=seed, rtol=1e-6)
        assert edge.largest.item() == pytest.approx(20 / len(rows) / 2, rel=1e-5)


def test_repeated_eigenvalues_that_are_listed_once_are_declared():
    inputs = torch.diag(torch.linspace(1, 4, 60).sqrt().repeat_interleave(3)) * 180**0.5
    split = data.Split(inputs, torch.zeros(180), 0, "triples")
    model = nn.Linear(180, 1, bias=False).eval()
    edge = curvature.extreme_eigenvalues(model, HalfSquaredError(), split, count=3, rtol=1e-4)
    assert not edge.counts_copies
    assert edge.largest[0].item() == pytest.approx(4, rel=1e-3)


def test_samples_that_agree_by_chance_are_no_exact_value():
    """H = [[1, 1], [1, 1]]: v^T H v is 0 or 4 with equal chance, and the trace 2."""
    split = data.Split(torch.ones(1, 1), torch.zeros(1), 0, "one")
    model = nn.Linear(1, 1).eval()
    for seed in range(20):
        for most in (1, 2, 3):
            found = curvature.trace(model, HalfSquaredError(), split, method="hutchinson", most_probes=most, seed=seed)
            assert found.standard_error > 0
            assert abs(found.value - 2) <= 4 * found.standard_error + 1e-6


# --- What is right is not refused ---------------------------------------------------------------------------------


def test_activations_that_sit_on_their_kink_are_no_wrong_gradient():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    nn.init.zeros_(model[0].bias)
    split = (torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([0, 1]))
    assert curvature.gradient(model, CLIPPED, split).norm() > 0


def test_a_scripted_model_in_float32_has_its_gradient():
    plain = nn.Linear(2, 2).eval()
    split = (torch.randn(4, 2), torch.tensor([0, 1, 0, 1]))
    scripted = torch.jit.script(plain).eval()
    torch.testing.assert_close(curvature.gradient(scripted, CLIPPED, split), curvature.gradient(plain, CLIPPED, split))


@pytest.mark.parametrize("residual", [0.0, 1e-5, 1e-3, 0.1])
def test_a_loss_beside_its_kink_is_no_wrong_gradient(residual):
    model = nn.Linear(1, 1, bias=False).eval()
    nn.init.ones_(model.weight)
    X = torch.linspace(0.5, 1, 4)[:, None]

    def absolute(z, y):
        return (z[:, 0] - y).abs()

    slope = curvature.gradient(model, absolute, (X, X[:, 0] + residual)).item()
    assert slope == pytest.approx(-0.75 if residual else 0.0)


def test_a_loss_of_probabilities_is_not_asked_beyond_them():
    model = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid()).eval()
    nn.init.constant_(model[0].weight, 8.0)

    def entropy(p, y):
        return F.binary_cross_entropy(p[:, 0], y, reduction="none")

    split = (torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, 0.0]))
    assert curvature.gradient(model, entropy, split).isfinite().all()


def test_the_callers_backward_survives_a_model_that_cannot_be_copied():
    model, split = make("plain"), examples()
    model.lock = threading.Lock()
    z = model(split.inputs)
    curvature.values(model, CLIPPED, split)
    z.sum().backward()


def test_a_model_that_asserts_what_it_takes_is_not_asked_for_more():
    class Positive(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(20, 3)

        def forward(self, x):
            assert (x >= 0).all()
            return self.layer(x)

    split = examples()
    positive = data.Split(split.inputs.relu(), split.targets, 3, "positive")
    assert curvature.gradient(Positive().eval(), CLIPPED, positive).norm() > 0


class Gated(nn.Module):
    """Few examples go through a branch whose fast products are wrong (layer normalisation), the others through ReLU."""

    def __init__(self, branch):
        super().__init__()
        self.usual, self.branch, self.out = nn.Linear(4, 5), branch, nn.Linear(5, 3)

    def forward(self, x):
        return self.out(torch.where(x[:, :1] > 1.6, self.branch(x), torch.relu(self.usual(x))))


BRANCHES = {
    "layer normalisation": lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh()),
    "weight normalisation": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)),
}


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("seed", range(4))
def test_a_branch_that_few_examples_take_is_tried(branch, seed):
    torch.manual_seed(seed)
    model = Gated(BRANCHES[branch]()).double().eval()
    X = torch.randn(60, 4, dtype=torch.float64)
    X[:, 0].clamp_(max=1.5)[[7, 22, 41]] = 2.0
    split = data.Split(X, torch.randint(3, (60,)), 3, "made up")
    expected = by_differences(deepcopy(model), split)
    v = torch.randn(len(expected), dtype=torch.float64)
    assert torch.allclose(curvature.hvp(model, CLIPPED, split, v), expected @ v, rtol=1e-5, atol=1e-7)
    assert torch.allclose(curvature.hessian(model, CLIPPED, split), expected, rtol=1e-5, atol=1e-7)


def test_a_bend_that_few_examples_reach_is_no_affine_network():
    """An exponential linear unit is affine above zero, where all but some examples are."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(800, 1), nn.ELU(), nn.Linear(1, 3)).double().eval()
    with torch.no_grad():
        model[0].bias.fill_(1.0)
    split = data.Split(torch.randn(80, 800, dtype=torch.float64), torch.randint(3, (80,)), 3, "made up")
    assert (model[0](split.inputs) < 0).sum() > 0
    assert not curvature.is_piecewise_affine(model, split)[0]
