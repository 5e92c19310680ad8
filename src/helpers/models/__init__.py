"""Networks of the book, and the weights of any network as one vector.

============  ==========================================================
``vector``    the weight vector W of a model; a model moved to another W
``outputs``   a model called on one tensor, or on several
``layout``    how images lie in memory for a model
``zoo``       the networks of the experiments
``deep``      residual networks of any depth, with shortcuts and without
============  ==========================================================
"""

from helpers.models.deep import deep_resnet
from helpers.models.layout import channels_last
from helpers.models.outputs import outputs, refuse_backward
from helpers.models.vector import (
    at,
    check_initialised,
    copied,
    flat,
    layers,
    set_weights,
    split_like,
    trainable,
    weights,
)
from helpers.models.zoo import TwoLayerReLU, cnn, linear, mlp, preact_resnet18, resnet18, vgg16

__all__ = [
    "TwoLayerReLU",
    "at",
    "channels_last",
    "check_initialised",
    "cnn",
    "copied",
    "deep_resnet",
    "flat",
    "layers",
    "linear",
    "mlp",
    "outputs",
    "preact_resnet18",
    "refuse_backward",
    "resnet18",
    "set_weights",
    "split_like",
    "trainable",
    "vgg16",
    "weights",
]
