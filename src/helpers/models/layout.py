"""How images lie in memory for a network: with the channels of a pixel side by side where convolutions may read so."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

FEWEST_CHANNELS = 16  # that oneDNN's strided 1 x 1 convolutions handle on every processor


def channels_last(model: nn.Module) -> bool:
    """Whether a processor should be handed images in channels_last: the model convolves them, and safely so.

    That is the order in which fast convolutions read, half as fast again as the usual one. But for a 1 x 1 convolution
    with a stride and fewer than 16 input channels (8 without AVX-512) oneDNN writes past its workspace when it takes
    the gradient of the weights in this order (its issue 6035; so in PyTorch 2.14).
    The gradient may be wrong then, or the process dies. A model that holds one gets the usual order.
    """
    convolutions = [module for module in model.modules() if isinstance(module, _ConvNd)]
    return bool(convolutions) and not any(map(_overruns, convolutions))


def spaced(x: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th pixel of images (n, c, h, w): x[..., ::stride, ::stride], its gradient laid out like x.

    The gradient of a slice lies in the usual order, whatever the images do; what comes before it in the network would
    then read one order and write the other, which costs far more than the choice.
    """
    return x if stride == 1 else F.avg_pool2d(x, 1, stride)


def _overruns(module: _ConvNd) -> bool:
    one_pixel, strided = set(module.kernel_size) == {1}, max(module.stride) > 1
    return one_pixel and strided and module.in_channels // module.groups < FEWEST_CHANNELS
