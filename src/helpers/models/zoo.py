"""Networks of the book."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.models.layout import spaced

# --- Fully connected networks --------------------------------------------------------------------------------------


def linear(inputs: int, outputs: int = 1, *, bias: bool = True) -> nn.Module:
    """Linear (softmax) regression on flattened inputs."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs, bias=bias))


class TwoLayerReLU(nn.Module):
    """f(x) = m^{-1/2} sum_r a_r relu(w_r . x), a_r = +-1 fixed: Wang & Mao (2022), Theorem 4.

    Only the first layer ``hidden.weight`` (m, inputs) is trained. Maps (n, inputs) to (n,).
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, width, bias=False)
        self.signs: Tensor
        self.register_buffer("signs", torch.randint(0, 2, (width,)) * 2.0 - 1.0)

    def forward(self, x: Tensor) -> Tensor:
        active: Tensor = F.relu(self.hidden(x.flatten(1)))
        outputs: Tensor = active @ self.signs / len(self.signs) ** 0.5
        return outputs


def mlp(inputs: int, width: int, outputs: int, *, depth: int = 1, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """``depth`` hidden layers of ``width`` units on flattened inputs."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in in [inputs, *[width] * (depth - 1)]:
        layers += [nn.Linear(fan_in, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width if depth else inputs, outputs))


# --- Convolutional networks: inputs (n, channels, height, width) ----------------------------------------------------


def cnn(filters: int, classes: int = 10, *, channels: int = 3, size: int = 32) -> nn.Module:
    """An AlexNet-style network scaled to small images; ``filters`` is the width of its first layer.

    Two pooled 5x5 convolutions and one 3x3, then two linear layers, ReLU throughout, no normalisation.
    """
    features = nn.Sequential(
        nn.Conv2d(channels, filters, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(filters, 2 * filters, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * filters, 2 * filters, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    flat = 2 * filters * (size // 4) ** 2
    return nn.Sequential(
        features, nn.Flatten(), nn.Linear(flat, 8 * filters), nn.ReLU(), nn.Linear(8 * filters, classes)
    )


class _Residual(nn.Module):
    """relu(shortcut(x) + residual(x)), both normalised: the basic block of He et al. (2016a).

    A shortcut with a stride is a 1 x 1 convolution of every other pixel. The pixels are chosen first, which is the same
    function and spares narrow networks a fault of oneDNN (``channels_last``).
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU(),
            nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False), nn.BatchNorm2d(fan_out),
        )  # fmt: skip
        same = stride == 1 and fan_in == fan_out
        projection = (nn.Conv2d(fan_in, fan_out, 1, bias=False), nn.BatchNorm2d(fan_out))
        self.shortcut = nn.Identity() if same else nn.Sequential(*projection)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(spaced(x, self.stride)))


class _PreActResidual(nn.Module):
    """shortcut(a) + residual(a), a = relu(norm(x)): the pre-activation block of He et al. (2016b).

    A shortcut with a stride chooses its pixels first, as in ``_Residual``.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(fan_in)
        self.residual = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU(),
            nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False),
        )  # fmt: skip
        same = stride == 1 and fan_in == fan_out
        self.projection = None if same else nn.Conv2d(fan_in, fan_out, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm(x))
        residual: Tensor = self.residual(active)
        if self.projection is not None:
            x = self.projection(spaced(active, self.stride))
        return residual + x


def _stages(block: Callable[[int, int, int], nn.Module], width: int) -> list[nn.Module]:
    """The four stages of ResNet-18, two blocks each; width doubles as the image halves."""
    fan_in, blocks = width, []
    for stage in range(4):
        fan_out = width * 2**stage
        blocks += [block(fan_in, fan_out, 1 if stage == 0 else 2), block(fan_out, fan_out, 1)]
        fan_in = fan_out
    return blocks


def resnet18(width: int = 64, classes: int = 10, *, channels: int = 3) -> nn.Module:
    """ResNet-18 for small images: 3x3 stem, no initial pooling, ``width`` filters in the first stage.

    Width 64 is the usual network (11.2 million weights); width 8 keeps its shape with 175 thousand.
    """
    stem = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes)]
    return nn.Sequential(*stem, *_stages(_Residual, width), *head)


def preact_resnet18(width: int = 64, classes: int = 10, *, channels: int = 3) -> nn.Module:
    """PreActResNet-18 for small images: Wang & Mao (2022), Table 2."""
    stem = [nn.Conv2d(channels, width, 3, 1, 1, bias=False)]
    head = [
        nn.BatchNorm2d(8 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    ]
    return nn.Sequential(*stem, *_stages(_PreActResidual, width), *head)


def vgg16(width: int = 64, classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG-16 with BatchNorm for 32x32 images, one linear layer on top: Wang & Mao (2022), Table 1."""
    layers: list[nn.Module] = []
    fan_in = channels
    for convolutions, multiple in [(2, 1), (2, 2), (3, 4), (3, 8), (3, 8)]:
        for _ in range(convolutions):
            fan_out = multiple * width
            layers += [
                nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(fan_out),
                nn.ReLU(),
            ]
            fan_in = fan_out
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, classes))
