"""Small networks and samples that several tests share; float64, deterministic, in evaluation mode."""

import torch
from torch import nn

from helpers import data, losses, models
from helpers.curvature import Estimate
from helpers.measurement import Traces

CLIPPED = losses.ClippedCrossEntropy.per_class(3)


def sample(n=23, inputs=5, classes=3, seed=0) -> data.Split:
    """Gaussian inputs, random labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, inputs, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (n,), generator=generator)
    return data.Split(x, y, classes, "random", f"random-{seed}", torch.arange(n))


def images(n=9, channels=1, size=8, classes=3, seed=0) -> data.Split:
    flat = sample(n, channels * size * size, classes, seed)
    return data.Split(flat.inputs.view(n, channels, size, size), flat.targets, classes, "random")


def network(activation=nn.ReLU, inputs=5, width=4, classes=3, seed=0, scale=1.0) -> nn.Module:
    torch.manual_seed(seed)
    model = models.mlp(inputs, width, classes, activation=activation).double().eval()
    models.set_weights(model, scale * models.weights(model))
    return model


def traces(training: float, held_out: float) -> Traces:
    """Two runs of one curvature, exactly known."""
    training, held_out = (Estimate(value, 0.0, 1, "exact") for value in (training, held_out))
    return Traces((training,) * 2, (held_out,) * 2)


def residual_network(seed=0, classes=3) -> nn.Module:
    """A narrow ResNet-18 whose BatchNorm statistics and scales are not trivial."""
    torch.manual_seed(seed)
    model = models.resnet18(2, classes, channels=1).double()
    with torch.no_grad():
        model(torch.randn(16, 1, 8, 8, dtype=torch.float64))
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def total_loss(model, loss, split):
    """The mean loss as a function of the weight vector: the obvious definition, for slow twins."""
    shapes = [p.shape for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    buffers = dict(model.named_buffers())

    def mean_loss(w):
        pieces = w.split([shape.numel() for shape in shapes])
        parameters = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        outputs = torch.func.functional_call(model, {**parameters, **buffers}, (split.inputs,))
        return loss(outputs, split.targets).mean()

    return mean_loss
