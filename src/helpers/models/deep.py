"""Deep residual networks for small images, with their shortcuts and without: He et al. (2016a), section 4.2."""

from torch import Tensor, nn

from helpers.models.layout import spaced


class _Block(nn.Module):
    """relu(shortcut(x) + residual(x)) with ``skips``, else relu(residual(x)); two normalised 3x3 convolutions."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, *, skips: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU(),
            nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False), nn.BatchNorm2d(fan_out),
        )  # fmt: skip
        self.shortcut: nn.Module | None = None
        self.stride = stride
        if skips:
            same = stride == 1 and fan_in == fan_out
            projection = (nn.Conv2d(fan_in, fan_out, 1, bias=False), nn.BatchNorm2d(fan_out))
            self.shortcut = nn.Identity() if same else nn.Sequential(*projection)
        self.active = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.residual(x)
        if self.shortcut is not None:  # its pixels are chosen first, as in ``zoo``
            residual = residual + self.shortcut(spaced(x, self.stride))
        answer: Tensor = self.active(residual)
        return answer


def deep_resnet(depth: int, width: int = 16, classes: int = 10, *, channels: int = 3, skips: bool = True) -> nn.Module:
    """ResNet-20, -32, -44, -56, ...: three stages of (depth - 2) / 6 blocks; width doubles as the image halves.

    Args:
        depth: layers with weights on the longest way, shortcuts not counted.
        width: filters of the first stage; 16 in the source.
        skips: whether blocks have shortcuts; without, the network is a plain chain of the same convolutions.

    Raises:
        ValueError: if depth is not 6 k + 2 for a whole k of at least 1.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth must be 8, 14, 20, 26, ..., six for each further block of a stage; got {depth}")
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    fan_in = width
    for stage in range(3):
        fan_out = width * 2**stage
        for block in range((depth - 2) // 6):
            stride = 2 if stage and not block else 1
            layers.append(_Block(fan_in, fan_out, stride, skips=skips))
            fan_in = fan_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, classes))
