"""What one network says of a sample, and how each example pulls at it: logits, losses, accuracies, gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from helpers.curvature.batches import batches
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy

UNCLIPPED = ClippedCrossEntropy(1e30)  # the training loss: no logits of these experiments reach the clip


@torch.no_grad()
def logits(model: nn.Module, split: Split) -> Tensor:
    """Logits, shape (n, classes), on the CPU."""
    return torch.cat([model(batch.inputs) for batch in batches(model, split)]).float().cpu()


def cross_entropy(scores: Tensor, targets: Tensor) -> float:
    """Mean over examples of logits, (n, classes)."""
    return F.cross_entropy(scores, targets).item()


def accuracy(scores: Tensor, targets: Tensor) -> float:
    """Share of examples whose largest logit is the target's."""
    return (scores.argmax(1) == targets).double().mean().item()


def example_gradients(model: nn.Module, split: Split) -> Tensor:
    """Gradient of each example's cross-entropy, shape (n, d)."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def loss(weights: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, weights, (image[None],)), target[None])

    (batch,) = batches(model, split, len(split))
    slopes = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, batch.inputs, batch.targets)
    return torch.cat([slopes[name].flatten(1) for name in parameters], dim=1)
