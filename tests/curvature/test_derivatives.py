"""Where PyTorch's gradient is not the derivative, or not all of it: the right value, or one sentence."""

import threading

import pytest
import torch
import torch.nn.functional as F
from instances import CLIPPED, network, sample
from torch import nn
from torch.autograd.function import once_differentiable

from helpers import curvature, data, langevin, models
from helpers.curvature.derivatives import check_smooth
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy, HalfSquaredError


def differenced(model, split, loss=CLIPPED):
    """The gradient by central differences of the mean loss."""
    w, slopes = models.weights(model), []
    for row in 1e-6 * torch.eye(len(w), dtype=w.dtype):
        sides = []
        for sign in (1, -1):
            with models.at(model, w + sign * row), torch.no_grad():
                sides.append(loss(model(split.inputs), split.targets).mean())
        slopes.append((sides[0] - sides[1]) / 2e-6)
    return torch.stack(slopes)


# --- Hooks ------------------------------------------------------------------------------------------------------------

HOOKS = {
    "scales": lambda g: 2 * g,
    "masks": lambda g: g * (torch.arange(g.numel()).view(g.shape) % 2),
    "zeroes": torch.zeros_like,
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("method", ["exact", "gauss-newton", "hutchinson"])
def test_hooks_on_weights_change_training_and_not_the_derivative(hook, method):
    """The gradient is that of differences, every other quantity that of a twin without hooks."""
    model, twin, split = network(nn.ReLU), network(nn.ReLU), sample()
    for weight in (model[1].weight, model[3].bias):
        weight.register_hook(HOOKS[hook])
    g = curvature.gradient(model, CLIPPED, split)
    torch.testing.assert_close(g, differenced(model, split), rtol=1e-6, atol=1e-9)
    v = torch.randn(39, generator=torch.Generator().manual_seed(0)).double()
    for quantity in (curvature.hessian, curvature.gauss_newton, curvature.per_example_gradients):
        assert torch.equal(quantity(model, CLIPPED, split), quantity(twin, CLIPPED, split))
    for operator in (curvature.hessian_operator, curvature.gauss_newton_operator):
        assert torch.equal(operator(model, CLIPPED, split)(v), operator(twin, CLIPPED, split)(v))
    values = [curvature.trace(net, CLIPPED, split, method=method, most_probes=6).value for net in (model, twin)]
    assert values[0] == values[1]
    F.cross_entropy(model(split.inputs), split.targets).backward()  # and the hooks are still there
    F.cross_entropy(twin(split.inputs), split.targets).backward()
    torch.testing.assert_close(model[1].weight.grad, HOOKS[hook](twin[1].weight.grad))


def test_a_hook_that_only_looks_is_not_called():
    model, seen = network(), []
    model[1].weight.register_hook(lambda g: seen.append(g))
    model[1].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p))
    curvature.gradient(model, CLIPPED, sample())
    assert not seen


@pytest.mark.parametrize("copyable", [True, False])
def test_backward_hooks_of_modules_that_change_the_gradient_are_refused(copyable):
    model = network(nn.Tanh)
    model[3].register_full_backward_hook(lambda module, given, come: tuple(None if g is None else 3 * g for g in given))
    if not copyable:
        model.lock = threading.Lock()
    with pytest.raises(ValueError, match="a backward hook"):
        curvature.gradient(model, CLIPPED, sample())


def test_hooks_on_activations_are_refused_where_they_change_the_gradient():
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.top = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            z = torch.tanh(self.low(x))
            if z.requires_grad:
                z.register_hook(lambda g: g / 2)
            return self.top(z)

    torch.manual_seed(0)
    with pytest.raises(ValueError, match="not the derivative"):
        curvature.gradient(Clipped().double().eval(), CLIPPED, sample())


# --- Models that cannot be copied -------------------------------------------------------------------------------------


class Halved(nn.Module):
    """Half of the derivative is dropped, in a model that no copy can be made of."""

    def __init__(self, dropped):
        super().__init__()
        self.low, self.top, self.lock, self.dropped = nn.Linear(5, 4), nn.Linear(4, 3), threading.Lock(), dropped

    def forward(self, x):
        z = torch.tanh(self.low(x))
        return self.top((z.detach() + z) / 2 if self.dropped else z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_that_cannot_be_copied_is_tried_all_the_same(dtype):
    torch.manual_seed(0)
    split = sample()
    whole, halved = Halved(False).to(dtype).eval(), Halved(True).to(dtype).eval()
    g = curvature.gradient(whole, CLIPPED, split)
    w = models.weights(whole)
    torch.testing.assert_close(g.double(), differenced(whole.double(), split), rtol=1e-4, atol=1e-5)
    assert torch.equal(models.weights(whole.to(dtype)), w)
    with pytest.raises(ValueError, match="not the derivative"):
        curvature.gradient(halved, CLIPPED, split)


def test_a_trial_in_place_leaves_the_callers_backward_pass():
    torch.manual_seed(0)
    model, split = Halved(False).double().eval(), sample()
    z = model(split.inputs)
    data_of = [p.data_ptr() for p in model.parameters()]
    curvature.hvp(model, CLIPPED, split, torch.ones(39).double())
    z.sum().backward()
    assert [p.data_ptr() for p in model.parameters()] == data_of


# --- Penalties --------------------------------------------------------------------------------------------------------


class Penalised(nn.Module):
    """Keeps the fourth powers of its weights; or returns them beside its outputs."""

    def __init__(self, returned):
        super().__init__()
        self.layer, self.returned = nn.Linear(5, 3), returned

    def forward(self, x):
        self.penalty = self.layer.weight.pow(4).sum()
        z = self.layer(x)
        return torch.cat([z, self.penalty.expand(len(x), 1)], 1) if self.returned else z


DERIVED = ["gradient", "hessian", "trace", "gauss_newton", "per_example_gradients"]


@pytest.mark.parametrize("function", DERIVED)
def test_a_penalty_past_the_outputs_is_refused(function):
    torch.manual_seed(0)
    model, split = Penalised(False).double().eval(), sample()

    def kept(z, y):
        return F.cross_entropy(z, y, reduction="none") + model.penalty

    def read(z, y):
        return F.cross_entropy(z, y, reduction="none") + model.layer.weight.square().sum()

    for loss in (kept, read):
        with pytest.raises(ValueError, match="let the model return the penalty as one more output"):
            getattr(curvature, function)(model, loss, split)
    with pytest.raises(ValueError, match="past the outputs"):
        curvature.hvp(model, kept, split, torch.ones(18).double())
    assert curvature.values(model, kept, split).mean() == pytest.approx(
        kept(model(split.inputs), split.targets).mean().item()
    )


def test_a_penalty_that_is_returned_has_its_curvature():
    """Tr H grows by the sum of 12 w^2 over the weights."""
    torch.manual_seed(0)
    model, split = Penalised(True).double().eval(), sample()

    def loss(z, y):
        return F.cross_entropy(z[:, :3], y, reduction="none") + z[:, 3]

    plain = curvature.hessian(model.layer, CLIPPED, split).trace() + 12 * model.layer.weight.square().sum()
    H = curvature.hessian(model, loss, split)
    assert H.trace().item() == pytest.approx(plain.item())
    v = torch.randn(18, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(curvature.hvp(model, loss, split, v), H @ v)
    assert curvature.trace(model, loss, split).value == pytest.approx(plain.item())


def test_what_a_model_keeps_has_its_graph_afterwards():
    torch.manual_seed(0)
    model, split = Penalised(False).double().eval(), sample()
    model.cache = [model(split.inputs)]
    curvature.gradient(model, CLIPPED, split)
    twin = models.copied(model)
    assert twin.penalty.grad_fn is twin.cache[0].grad_fn is None
    assert model.cache[0].requires_grad
    z, penalty = model(split.inputs), model.penalty
    models.copied(model)
    (z.sum() + penalty).backward()
    torch.testing.assert_close(
        model.layer.weight.grad, 4 * model.layer.weight.detach() ** 3 + split.inputs.sum(0).expand(3, 5)
    )


# --- Embeddings -------------------------------------------------------------------------------------------------------


class Words(nn.Module):
    def __init__(self, functional=None, **options):
        super().__init__()
        self.table, self.top, self.functional = nn.Embedding(6, 3, **options), nn.Linear(3, 3), functional
        nn.init.normal_(self.table.weight)

    def forward(self, x):
        looked = self.table(x) if self.functional is None else F.embedding(x, self.table.weight, **self.functional)
        return self.top(torch.tanh(looked).sum(1))


TOKENS = data.Split(torch.tensor([[0, 1, 2], [0, 0, 3], [4, 0, 1]]), torch.arange(3), 3, "words")


@pytest.mark.parametrize("options", [{}, {"padding_idx": 0}, {"padding_idx": -6}, {"padding_idx": 5}, {"sparse": True}])
def test_the_gradient_of_an_embedding_is_that_of_differences(options):
    torch.manual_seed(0)
    model = Words(**options).double().eval()
    g = curvature.gradient(model, CLIPPED, TOKENS)
    torch.testing.assert_close(g, differenced(model, TOKENS), rtol=1e-6, atol=1e-9)
    assert g[:3].abs().min() > 0  # the row of padding is a part of W
    assert not g[15:18].any()  # and a word that does not occur is one without a gradient


@pytest.mark.parametrize("options", [{"padding_idx": 0}, {"scale_grad_by_freq": True}, {"max_norm": 0.5}])
def test_options_in_the_functional_form_are_refused(options):
    torch.manual_seed(0)
    model = Words(functional=options).double().eval()
    w = models.weights(model)
    with pytest.raises(ValueError, match="changes its weights" if "max_norm" in options else "not the derivative"):
        curvature.gradient(model, CLIPPED, TOKENS)
    assert torch.equal(models.weights(model), w)


# --- Operations without a second derivative ---------------------------------------------------------------------------


def test_the_hard_sigmoid_is_written_out(recwarn):
    """Its pieces are affine, so that Tr H is the Gauss-Newton trace, without differences of gradients."""
    torch.manual_seed(0)
    model, split = network(nn.Hardsigmoid, scale=4.0), sample()
    H = curvature.hessian(model, CLIPPED, split)
    w, columns = models.weights(model), []
    for row in 1e-5 * torch.eye(39).double():
        sides = []
        for sign in (1, -1):
            with models.at(model, w + sign * row):
                sides.append(curvature.gradient(model, CLIPPED, split))
        columns.append((sides[0] - sides[1]) / 2e-5)
    torch.testing.assert_close(H, torch.stack(columns, 1), rtol=1e-5, atol=1e-7)
    v = torch.randn(39, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v), H @ v, rtol=1e-10, atol=1e-12)
    assert curvature.is_piecewise_affine(model, split)[0]
    assert curvature.trace(model, CLIPPED, split, method="gauss-newton", rtol=1e-9).value == pytest.approx(
        H.trace().item()
    )
    G = curvature.gauss_newton(model, CLIPPED, split)
    torch.testing.assert_close(curvature.gauss_newton_operator(model, CLIPPED, split)(v), G @ v)
    assert not [warning for warning in recwarn if "second derivative" in str(warning.message)]


def test_a_loss_of_outputs_alone_may_be_linear_in_them():
    model = nn.Linear(5, 1).double().eval()
    split = data.Split(sample().inputs, torch.zeros(23).double(), 0, "zero")
    assert not curvature.hessian(model, lambda z, y: z[:, 0], split).any()
    assert curvature.hessian(model, HalfSquaredError(), split).trace().item() == pytest.approx(
        split.inputs.square().sum(1).mean().item() + 1
    )


# --- What is right is not refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.1, 1.0, 5.0, 10.0, 30.0, 300.0])
def test_the_loss_of_examples_that_are_fitted_well_is_smooth(size):
    """Their cross-entropy is a difference of logits: all of it is rounding where the margin is large."""
    for seed in range(20):
        logits = size * torch.randn(4, 10, generator=torch.Generator().manual_seed(seed))
        few = Split(logits, logits.argmax(1), 10, "synthetic")
        check_smooth(ClippedCrossEntropy.per_class(10), logits, few)  # raises nothing


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_a_wrong_loss_is_seen_whatever_the_fit(size):
    def halved(z, y):
        losses = F.cross_entropy(z, y, reduction="none")
        return (losses + losses.detach()) / 2

    logits = size * torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="gradient is not its derivative"):
        check_smooth(halved, logits, Split(logits, logits.argmax(1), 10, "synthetic"))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.LeakyReLU])
@pytest.mark.parametrize("scale", [0.5, 8.0])
def test_networks_of_any_size_of_weights_are_taken(activation, scale):
    for seed in range(5):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(8, 16), activation(), nn.LayerNorm(16), nn.Linear(16, 5)).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(scale)
        x = scale * torch.randn(50, 8)
        split = Split(x, model(x).argmax(1), 5, "synthetic")
        curvature.gradient(model, ClippedCrossEntropy.per_class(5), split)  # raises nothing


# --- Second derivatives -----------------------------------------------------------------------------------------------


class SquareOnce(torch.autograd.Function):
    """z^2 with a right gradient, whose own derivative PyTorch takes for zero."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * ctx.saved_tensors[0] * slope


def square_once(outputs, targets):
    return SquareOnce.apply(outputs).sum(1)


def ctc(outputs, targets):
    log_p, lengths = outputs.log_softmax(1)[None].repeat(4, 1, 1), torch.ones_like(targets)
    return F.ctc_loss(log_p, targets[:, None] % 2 + 1, 4 * lengths, lengths, reduction="none")


def labels(outputs, targets):
    return F.multilabel_margin_loss(outputs, F.pad(targets[:, None], (0, 2), value=-1), reduction="none")


CURVATURES = {
    "hvp": lambda *given: curvature.hvp(*given, torch.ones(39).double()),
    "hessian": curvature.hessian,
    "gauss_newton": curvature.gauss_newton,
    "gauss_newton_operator": curvature.gauss_newton_operator,
    "trace": curvature.trace,
    "hutchinson": lambda *given: curvature.trace(*given, method="hutchinson", most_probes=2),
}


@pytest.mark.parametrize("quantity", CURVATURES)
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.MultiMarginLoss(reduction="none"), "loss has no second derivative in PyTorch .*multi_margin.*write it in"),
        (nn.MultiMarginLoss(p=2, reduction="none"), "loss has no second derivative in PyTorch"),
        (labels, "loss has no second derivative in PyTorch"),
        (ctc, "loss has no second derivative in PyTorch"),
        (square_once, "loss has a gradient whose derivative PyTorch does not know"),
    ],
)
def test_a_loss_without_a_second_derivative_has_a_gradient_and_no_curvature(loss, message, quantity):
    model, split = network(), sample()
    w, v = models.weights(model), torch.randn(39, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope = curvature.gradient(model, loss, split) @ v
    ahead, behind = (curvature.values(placed(w + h * v), loss, split).mean() for h in (1e-6, -1e-6))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-8)
    with pytest.raises(ValueError, match=message):
        CURVATURES[quantity](model, loss, split)


def placed(w):
    model = network()
    models.set_weights(model, w)
    return model


@pytest.mark.parametrize(
    "loss",
    [
        nn.MultiLabelSoftMarginLoss(reduction="none"),
        lambda z, y: F.relu(1 + z - z.gather(1, y[:, None])).sum(1),  # the margin in plain operations
        lambda z, y: F.huber_loss(z, torch.zeros_like(z), reduction="none").sum(1),
        lambda z, y: F.l1_loss(z, torch.zeros_like(z), reduction="none").sum(1),  # no curvature of its own
        lambda z, y: F.cross_entropy(z, y, reduction="none", label_smoothing=0.1),
    ],
)
def test_losses_with_a_second_derivative_keep_it(loss):
    model, split = network(nn.Tanh), sample()
    split = split if not isinstance(loss, nn.Module) else data.Split(split.inputs, F.one_hot(split.targets), 3, "bits")
    H, w, v = curvature.hessian(model, loss, split), models.weights(model), torch.ones(39).double()
    sides = []
    for h in (1e-5, -1e-5):
        models.set_weights(model, w + h * v)
        sides.append(curvature.gradient(model, loss, split))
    torch.testing.assert_close(H @ v, (sides[0] - sides[1]) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.ReLU6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_on_a_kink_are_told_so(activation, dtype):
    """f(w) = v relu(u x): from zero, the gradient grows at one rate ahead and at another behind."""
    model = network(activation).to(dtype)
    models.set_weights(model, torch.zeros(39))
    for quantity in ("hvp", "hessian", "hutchinson"):
        with pytest.raises(ValueError, match=r"the weights lie on a kink of the model, .*take weights that were drawn"):
            CURVATURES[quantity](model, CLIPPED, sample())
    smooth = network(nn.Tanh).to(dtype)
    models.set_weights(smooth, torch.zeros(39))
    curvature.hessian(smooth, CLIPPED, sample())  # zero is no kink by itself


# --- Backward passes to go through once -------------------------------------------------------------------------------


class Marked(torch.autograd.Function):
    """tanh, with a backward pass that is marked as one to go through once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0].tanh() ** 2)


class Severed(Marked):
    """The same, cut by hand: neither what enters it nor where it stands is seen a second time."""

    @staticmethod
    def backward(ctx, g):
        return g.detach() * (1 - ctx.saved_tensors[0].detach().tanh() ** 2)


class Frozen(Marked):
    """Differentiable in what enters it, but not in where it stands."""

    @staticmethod
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0].detach().tanh() ** 2)


class Through(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.low, self.top, self.function = nn.Linear(5, 120), nn.Linear(120, 3), function

    def forward(self, x):
        return self.top(self.function(self.low(x)))


def through(function):
    torch.manual_seed(0)
    return Through(function).double().eval()


ONCE = {"marked": Marked.apply, "severed": Severed.apply, "frozen": Frozen.apply}


@pytest.mark.parametrize("kind", ONCE)
def test_a_backward_pass_to_go_through_once_is_not_taken_for_affine(kind):
    """Its second derivative is not zero but unknown to PyTorch: the trace is had by differences, and right."""
    affine, why = curvature.is_piecewise_affine(through(ONCE[kind]), sample())
    assert (affine, why) == (False, "an operation of the model has no second derivative to check affinity with")
    settings = {"rtol": 0.2, "seed": 1}
    with pytest.warns(UserWarning, match="differences of gradients"):
        found = curvature.trace(through(ONCE[kind]), CLIPPED, sample(), **settings)
    right = curvature.trace(through(torch.tanh), CLIPPED, sample(), **settings)
    assert found.method == right.method == "hutchinson"
    assert found.value == pytest.approx(right.value, rel=1e-5)


@pytest.mark.parametrize("kind", ONCE)
def test_what_asks_for_a_second_pass_refuses_it_or_is_right(kind):
    v = torch.ones(sum(p.numel() for p in through(torch.tanh).parameters())).double()
    walk = {"steps": 1, "lr": 0.1, "temperature": 0.1, "seed": 0}
    calls = [
        lambda f: curvature.gauss_newton_operator(through(f), CLIPPED, sample())(v),
        lambda f: langevin.train(lambda: through(f), sample(), **walk).incoherence,
    ]
    for call in calls:
        if kind == "frozen":  # both are derivatives in what enters the pass
            torch.testing.assert_close(call(ONCE[kind]), call(torch.tanh))
        else:
            with pytest.raises(ValueError, match=r"cannot be differentiated twice.*once_differentiable or a detach"):
                call(ONCE[kind])


def test_an_operation_whose_second_pass_is_infinite_is_named():
    """That of torch.logcumsumexp takes the logarithm of what enters it, and a product begins at 0."""
    model, v = through(lambda h: torch.logcumsumexp(h, 1)), torch.ones(1083).double()
    with pytest.raises(ValueError, match=r"twice, as a product without a matrix, unlike gauss_newton.*logcumsumexp"):
        curvature.gauss_newton_operator(model, CLIPPED, sample())
    assert curvature.hvp(model, CLIPPED, sample(), v).isfinite().all()
