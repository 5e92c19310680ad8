"""Strange but legitimate models: derivatives against differences of the loss, every route against the dense one."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from instances import CLIPPED, sample
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from helpers import curvature, data, models, omniscient, training
from helpers.losses import ClippedCrossEntropy, HalfSquaredError


def vectors(n=6):
    return torch.randn(n, 5).double()


def pictures(n=6):
    return torch.randn(n, 2, 4, 4).double()


def words(n=6):
    return torch.randint(7, (n, 4))


def body(activation):
    return lambda: nn.Sequential(nn.Linear(5, 4), activation, nn.Linear(4, 3))


def on_pictures(*layers, channels=3):
    return lambda: nn.Sequential(
        *(make() for make in layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)
    )


class Made(nn.Module):
    """Parts, and how an output is made of them."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, *inputs, **named):
        return self._forward(self, *inputs, **named)


def parameter(*shape):
    return nn.Parameter(0.5 * torch.randn(shape))


def looped(model, x):
    """As many rounds as a buffer says, with a branch on the round."""
    for i in range(int(model.rounds)):
        x = torch.tanh(model.low(x)) if i % 2 == 0 else x + model.low(x).sin()
    return model.top(x)


def branched(model, x):
    """Each example takes one of two ways, by its own first input."""
    return torch.where(x[:, :1] > 0, model.left(x), torch.tanh(model.right(x)))


def unrolled(model, x):
    state = x.new_zeros(len(x), 3)
    for step in x.unbind(1):
        state = model.cell(step[:, None], state)
    return state


def generated(model, x):
    """A layer whose weights another layer makes from the example."""
    return torch.einsum("noi,ni->no", model.maker(x).view(-1, 3, 5), x)


def experts(model, x):
    gates = model.gate(x).softmax(1)
    return sum(gate[:, None] * expert(x) for gate, expert in zip(gates.unbind(1), model.experts, strict=True))


def causal(model, x):
    q, k, v = model.heads(model.table(x)).chunk(3, dim=-1)
    return model.top(F.scaled_dot_product_attention(q, k, v, is_causal=True).mean(1))


def solved(model, x):
    A = torch.eye(5, dtype=x.dtype) + 0.1 * model.A @ model.A.T
    return model.top(torch.linalg.solve(A, x.T).T)


class Symmetric(nn.Module):
    def forward(self, X):
        return X.triu() + X.triu(1).T


def pruned():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    return prune.l1_unstructured(model[0], "weight", amount=0.5) and model


def only_batch_norm():
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    for layer in (model[0], model[3]):
        layer.requires_grad_(False)
    return model


def tied():
    """An autoencoder's tied weights, one the transpose of the other."""
    return Made(
        lambda m, x: m.top(F.linear(torch.tanh(F.linear(x, m.W)), m.W.T)), W=parameter(3, 5), top=nn.Linear(5, 3)
    )


def siamese():
    return Made(
        lambda m, x, y: m.top(torch.tanh(m.low(x)) * torch.tanh(m.low(y))), low=nn.Linear(5, 4), top=nn.Linear(4, 3)
    )


def nested():
    shared = nn.Linear(5, 5)
    return nn.Sequential(nn.Sequential(shared, nn.Tanh()), nn.ModuleDict({"inner": shared})["inner"], nn.Linear(5, 3))


def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double(), vectors())


CASES = {
    # activations
    "ELU": (body(nn.ELU()), vectors),
    "CELU": (body(nn.CELU()), vectors),
    "log sigmoid": (body(nn.LogSigmoid()), vectors),
    "softsign": (body(nn.Softsign()), vectors),
    "softshrink": (body(nn.Softshrink(0.1)), vectors),
    "tanhshrink": (body(nn.Tanhshrink()), vectors),
    "hard tanh": (body(nn.Hardtanh()), vectors),
    "hard swish": (body(nn.Hardswish()), vectors),
    "hard sigmoid": (body(nn.Hardsigmoid()), vectors),
    "ReLU6": (body(nn.ReLU6()), vectors),
    "PReLU a channel": (body(nn.PReLU(4)), vectors),
    "softmax inside": (body(nn.Softmax(1)), vectors),
    "softmin head": (lambda: nn.Sequential(nn.Linear(5, 3), nn.Softmin(1)), vectors),
    "maxout": (
        lambda: nn.Sequential(
            nn.Linear(5, 8), nn.Unflatten(1, (4, 2)), nn.MaxPool2d((1, 2)), nn.Flatten(), nn.Linear(4, 3)
        ),
        vectors,
    ),
    # images
    "instance norm": (
        on_pictures(lambda: nn.Conv2d(2, 3, 3), lambda: nn.InstanceNorm2d(3, affine=True), nn.Tanh),
        pictures,
    ),
    "group norm after convolution": (
        on_pictures(lambda: nn.Conv2d(2, 4, 2), lambda: nn.GroupNorm(2, 4), nn.SiLU, channels=4),
        pictures,
    ),
    "local response norm": (on_pictures(lambda: nn.Conv2d(2, 3, 3), lambda: nn.LocalResponseNorm(2)), pictures),
    "transposed convolution": (on_pictures(lambda: nn.ConvTranspose2d(2, 3, 2, 2), nn.Softplus), pictures),
    "depthwise": (on_pictures(lambda: nn.Conv2d(2, 4, 2, groups=2), nn.Mish, lambda: nn.Conv2d(4, 3, 1)), pictures),
    "pixel shuffle": (
        on_pictures(lambda: nn.Conv2d(2, 4, 1), lambda: nn.PixelShuffle(2), nn.GELU, channels=1),
        pictures,
    ),
    "bilinear upsampling": (
        on_pictures(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), lambda: nn.Conv2d(2, 3, 2, 2), nn.Tanh),
        pictures,
    ),
    "unfold": (
        lambda: nn.Sequential(nn.Unfold(2), nn.Flatten(), nn.Linear(72, 2), nn.Tanh(), nn.Linear(2, 3)),
        pictures,
    ),
    "dropout of channels": (on_pictures(lambda: nn.Conv2d(2, 3, 2), nn.Dropout2d, nn.AlphaDropout, nn.ReLU), pictures),
    "average and largest": (
        on_pictures(lambda: nn.Conv2d(2, 3, 2), lambda: nn.MaxPool2d(2, 1), lambda: nn.AvgPool2d(2)),
        pictures,
    ),
    "three dimensions": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3)),
        pictures,
    ),
    # words and sequences
    "bag of words": (lambda: nn.Sequential(nn.EmbeddingBag(7, 4), nn.Tanh(), nn.Linear(4, 3)), words),
    "bag of words with padding": (
        lambda: nn.Sequential(nn.EmbeddingBag(7, 4, padding_idx=2, mode="sum"), nn.Tanh(), nn.Linear(4, 3)),
        words,
    ),
    "causal attention": (
        lambda: Made(causal, table=nn.Embedding(7, 3), heads=nn.Linear(3, 9), top=nn.Linear(3, 3)),
        words,
    ),
    "an unrolled cell": (lambda: Made(unrolled, cell=nn.GRUCell(1, 3)), vectors),
    "bidirectional": (
        lambda: Made(
            lambda m, x: m.top(m.cells(x[:, :, None])[0].mean(1)),
            cells=nn.LSTM(1, 2, batch_first=True, bidirectional=True),
            top=nn.Linear(4, 3),
        ),
        vectors,
    ),
    # how weights are kept
    "tied and transposed": (tied, vectors),
    "a shared module": (nested, vectors),
    "parameter list": (
        lambda: Made(
            lambda m, x: torch.tanh(x @ m.W[0] + m.W[1]) @ m.W[2],
            W=nn.ParameterList([parameter(5, 4), parameter(1), parameter(4, 3)]),
        ),
        vectors,
    ),
    "parameter dictionary": (
        lambda: Made(
            lambda m, x: (x @ m.W["low"]).sin() @ m.W["top"],
            W=nn.ParameterDict({"low": parameter(5, 4), "top": parameter(4, 3)}),
        ),
        vectors,
    ),
    "a scalar weight": (
        lambda: Made(lambda m, x: m.low(x) * m.scale.exp(), low=nn.Linear(5, 3), scale=parameter()),
        vectors,
    ),
    "a layer of width zero": (
        lambda: Made(lambda m, x: m.top(x) + m.b(m.a(x)), a=nn.Linear(5, 0), b=nn.Linear(0, 3), top=nn.Linear(5, 3)),
        vectors,
    ),
    "pruned": (pruned, vectors),
    "only batch norm": (only_batch_norm, vectors),
    "spectral norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)),
        vectors,
    ),
    "symmetric": (
        lambda: nn.Sequential(
            parametrize.register_parametrization(nn.Linear(5, 5, bias=False), "weight", Symmetric()),
            nn.Tanh(),
            nn.Linear(5, 3),
        ),
        vectors,
    ),
    "buffers and a loop": (
        lambda: Made(looped, low=nn.Linear(5, 5), top=nn.Linear(5, 3), rounds=nn.Buffer(torch.tensor(3))),
        vectors,
    ),
    "a branch for each example": (lambda: Made(branched, left=nn.Linear(5, 3), right=nn.Linear(5, 3)), vectors),
    "weights made by a layer": (lambda: Made(generated, maker=nn.Linear(5, 15)), vectors),
    "a mixture of experts": (
        lambda: Made(experts, gate=nn.Linear(5, 2), experts=nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])),
        vectors,
    ),
    "a linear solve": (lambda: Made(solved, A=parameter(5, 2), top=nn.Linear(5, 3)), vectors),
    "a Fourier transform": (
        lambda: Made(
            lambda m, x: m.top(torch.fft.rfft(m.low(x)).abs().square()), low=nn.Linear(5, 4), top=nn.Linear(3, 3)
        ),
        vectors,
    ),
    "a checkpointed layer": (
        lambda: Made(
            lambda m, x: m.top(checkpoint(lambda z: torch.tanh(m.low(z)), x, use_reentrant=False)),
            low=nn.Linear(5, 4),
            top=nn.Linear(4, 3),
        ),
        vectors,
    ),
    "cosine head": (
        lambda: Made(
            lambda m, x: F.cosine_similarity(m.low(x)[:, None], m.classes, dim=2),
            low=nn.Linear(5, 4),
            classes=parameter(3, 4),
        ),
        vectors,
    ),
    "traced": (traced, vectors),
    # several inputs
    "bilinear of two": (
        lambda: Made(lambda m, x, y: m.pair(x, y), pair=nn.Bilinear(5, 5, 3)),
        lambda: (vectors(), vectors()),
    ),
    "siamese": (siamese, lambda: (vectors(), vectors())),
    "numbers and words": (
        lambda: Made(
            lambda m, x, tokens: m.top(torch.tanh(x + m.table(tokens).mean(1))),
            table=nn.Embedding(7, 5, padding_idx=0),
            top=nn.Linear(5, 3),
        ),
        lambda: {"x": vectors(), "tokens": words()},
    ),
}


WITHOUT_SECOND = {"bag of words", "bag of words with padding"}  # derivatives of PyTorch


def case(name):
    torch.manual_seed(3)
    make, inputs = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an initialisation of nothing
        model = make().double().eval()
    return model, data.Split(inputs(), torch.arange(6) % 3, 3, name)


def differenced(function, w, step):
    """Central differences of a function of the weights, one column a weight."""
    steps = step * torch.eye(len(w), dtype=w.dtype)
    return torch.stack([(function(w + row) - function(w - row)) / (2 * step) for row in steps], dim=-1)


def at(model, function):
    def moved(w):
        with models.at(model, w):
            return function()

    return moved


@pytest.mark.filterwarnings("ignore:PyTorch's second derivative")
@pytest.mark.parametrize("name", CASES)
def test_every_quantity_of_a_strange_model_is_that_of_differences(name):
    model, split = case(name)
    w = models.weights(model)
    mean_loss = at(model, lambda: curvature.values(model, CLIPPED, split).mean())
    g = curvature.gradient(model, CLIPPED, split)
    torch.testing.assert_close(g, differenced(mean_loss, w, 1e-6), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(curvature.per_example_gradients(model, CLIPPED, split).mean(0), g, rtol=1e-9, atol=1e-12)
    H = curvature.hessian(model, CLIPPED, split)
    slopes = at(model, lambda: curvature.gradient(model, CLIPPED, split))
    torch.testing.assert_close(H, differenced(slopes, w, 1e-5), rtol=1e-4, atol=1e-6)
    v = torch.randn(len(w), 2, generator=torch.Generator().manual_seed(4)).double()
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v), H @ v, rtol=1e-5, atol=1e-8)
    layers = curvature.trace_by_layer(model, CLIPPED, split, method="exact")
    assert sum(e.value for e in layers.values()) == pytest.approx(H.trace().item(), rel=1e-9, abs=1e-12)
    sampled = curvature.trace(model, CLIPPED, split, method="hutchinson", rtol=1e-9, most_probes=40)
    assert abs(sampled.value - H.trace().item()) <= 6 * sampled.standard_error + 1e-6 * H.norm().item()
    G = curvature.gauss_newton(model, CLIPPED, split)
    if name in WITHOUT_SECOND:
        with pytest.raises(ValueError, match="cannot be differentiated twice"):
            curvature.gauss_newton_operator(model, CLIPPED, split)
    else:
        rtol = 1e-6 if name == "hard sigmoid" else 1e-8  # PyTorch's own derivative of it holds 1/6 in float32
        operator = curvature.gauss_newton_operator(model, CLIPPED, split)
        torch.testing.assert_close(operator(v), G @ v, rtol=rtol, atol=rtol / 100)
    found = curvature.trace(model, CLIPPED, split, method="gauss-newton", rtol=1e-12)
    assert found.value == pytest.approx(G.trace().item(), rel=1e-9)
    if curvature.is_piecewise_affine(model, split)[0]:
        assert H.trace().item() == pytest.approx(G.trace().item(), rel=1e-6, abs=1e-9)
    assert torch.equal(models.weights(model), w)


TRAINED = [
    "PReLU a channel",
    "instance norm",
    "transposed convolution",
    "bag of words",
    "causal attention",
    "an unrolled cell",
    "tied and transposed",
    "a shared module",
    "parameter list",
    "a scalar weight",
    "spectral norm",
    "symmetric",
    "only batch norm",
    "a branch for each example",
    "a mixture of experts",
    "siamese",
    "numbers and words",
]


@pytest.mark.filterwarnings("ignore:PyTorch's second derivative")
@pytest.mark.parametrize("name", TRAINED)
def test_strange_models_are_trained_and_bounded(name):
    """Two runs on samples of their own; Krylov and dense solves of the surrogate agree."""
    torch.manual_seed(5)
    make, inputs = CASES[name]
    splits = [data.Split(inputs(), torch.arange(6) % 3, 3, name, "made", torch.arange(6) + 6 * i) for i in range(4)]
    if name == "bag of words":  # so few words that samples share some
        splits = [
            data.Split(words() + 0 * i, torch.arange(6) % 3, 3, name, "bags", torch.arange(6) + 6 * i) for i in range(4)
        ]
    if name == "causal attention":
        splits = [data.Split(words(), torch.arange(6) % 3, 3, name, "texts", torch.arange(6) + 6 * i) for i in range(4)]
    run = training.train_ensemble(
        lambda: make().double(), splits[:2], epochs=3, batch_size=3, lr=0.05, momentum=0.9, seed=1
    )
    assert run.steps == 6
    assert run.dispersion > 0
    assert not torch.equal(models.weights(run.models[0]), run.initial)
    rows = [
        omniscient.estimate(
            run.models, splits[:2], *splits[2:], loss=CLIPPED, lambdas=[1.0], method=method, max_iterations=400
        )[0]
        for method in ("auto", "exact")
    ]
    assert rows[0].value == pytest.approx(rows[1].value, rel=1e-4)
    assert rows[0].value == pytest.approx(rows[0].information + rows[0].penalty)


# --- Edges ------------------------------------------------------------------------------------------------------------


def test_a_single_class_has_a_loss_and_a_curvature_of_zero():
    model = nn.Linear(5, 1).double().eval()
    split = data.Split(vectors(), torch.zeros(6, dtype=torch.int64), 1, "one")
    loss = ClippedCrossEntropy(3.0)
    assert curvature.values(model, loss, split).abs().max() == 0
    assert curvature.hessian(model, loss, split).abs().max() == 0
    for method in ("exact", "gauss-newton", "hutchinson"):
        assert curvature.trace(model, loss, split, method=method).value == 0


def test_a_single_weight_and_a_single_example():
    """L(w) = (3 w - 1)^2 / 2: gradient 3 (3 w - 1), curvature 9."""
    model = nn.Linear(1, 1, bias=False).double().eval()
    models.set_weights(model, torch.tensor([2.0]).double())
    split = data.Split(torch.tensor([[3.0]]).double(), torch.tensor([1.0]).double(), 0, "one")
    assert curvature.gradient(model, HalfSquaredError(), split).item() == pytest.approx(15)
    assert curvature.hessian(model, HalfSquaredError(), split).item() == pytest.approx(9)
    found = curvature.extreme_eigenvalues(model, HalfSquaredError(), split)
    assert (found.largest.item(), found.smallest.item()) == (pytest.approx(9), pytest.approx(9))
    for method in ("exact", "gauss-newton", "hutchinson"):
        assert curvature.trace(model, HalfSquaredError(), split, method=method).value == pytest.approx(9)


def test_complex_and_whole_weights_are_refused_in_a_sentence():
    model = Made(lambda m, x: (x.to(m.W.dtype) @ m.W).abs(), W=nn.Parameter(torch.randn(5, 3, dtype=torch.complex128)))
    with pytest.raises(ValueError, match=r"needs real weights, the model has complex ones.*view_as_complex"):
        curvature.gradient(model.eval(), CLIPPED, sample())


def test_a_model_on_the_meta_device_is_not_measured():
    for quantity in (curvature.values, curvature.gradient, curvature.hessian, curvature.trace):
        with pytest.raises(ValueError, match="lies on the meta device, where weights have no values"):
            quantity(nn.Linear(5, 3, device="meta").eval(), CLIPPED, sample())


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129])
def test_sizes_around_every_batch(n):
    """The mean over examples, whatever the last batch."""
    torch.manual_seed(0)
    model, split = nn.Linear(3, 2).double().eval(), sample(n, inputs=3, classes=2)
    w = models.weights(model).requires_grad_()
    z = split.inputs @ w[:6].view(2, 3).T + w[6:]
    mean = F.cross_entropy(z, split.targets)
    torch.testing.assert_close(curvature.gradient(model, CLIPPED, split), torch.autograd.grad(mean, w)[0])
    H = torch.autograd.functional.hessian(
        lambda w: F.cross_entropy(split.inputs @ w[:6].view(2, 3).T + w[6:], split.targets), w.detach()
    )
    torch.testing.assert_close(curvature.hessian(model, CLIPPED, split), H)
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, w.detach()), H @ w.detach())
    assert curvature.trace(model, CLIPPED, split, method="gauss-newton").value == pytest.approx(H.trace().item())
