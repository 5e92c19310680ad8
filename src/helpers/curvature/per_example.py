"""Squared gradient norms example by example, from one backward pass for a whole batch.

The gradient of example i in the weights of a linear or convolutional layer is a sum over positions p of outer
products, sum_p g_ip a_ip^T, with a_ip what enters the layer there and g_ip the derivative in what leaves it. One
backward pass to the layers' outputs therefore gives every example's gradient norm, and no gradient in the weights is
formed by PyTorch. Affine normalisation in evaluation mode is a product of positions, too.

``SquaredNorms`` uses the layers' rules where the network consists of such layers, and proves it: on one example, and
on some that every layer sees each at its own row, for a network may sort its batch inside. Else it takes one backward
pass an example, the slow twin.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm

from helpers.curvature.keys import Verdicts
from helpers.curvature.trials import EXAMPLES
from helpers.data import Split
from helpers.data.inputs import each, tensors
from helpers.models import layers, outputs, trainable

Scalars = Callable[[Tensor], list[Tensor]]  # outputs (n, ...) to sketches (n,), each one value an example
_ordered = Verdicts[bool]()


class Layers:
    """What entered every layer that has trainable weights, and where it left, on one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
        self.entered: dict[nn.Module, tuple[Tensor, int]] = {}  # with the version that the layer saw
        self.left: dict[nn.Module, GradientEdge] = {}
        self.usable = all(type(module) in _RULES and _applies(module) for module in self.modules)
        self.examples = 0

    def forward(self, inputs: Any) -> Tensor:
        """The model's outputs; afterwards ``entered`` and ``left`` are filled."""
        self.inputs = inputs
        with ExitStack() as stack:
            for module in self.modules:
                stack.callback(module.register_forward_hook(self._record).remove)
            z = outputs(self.model, inputs)
        self.examples = len(z)
        return z

    def _record(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module in self.left or not (isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor)):
            self.usable = False  # used twice, or no map from one tensor to another
            return
        self.entered[module] = (inputs[0].detach(), inputs[0]._version)
        # The edge, not the tensor: an activation that works in place would put itself between the two.
        self.left[module] = get_gradient_edge(output)

    @property
    def complete(self) -> bool:
        """Whether every trainable weight belongs to one layer with a rule.

        And whether each layer ran once, on one row an example, which is still there.
        """
        parameters = [p for m in self.modules for p in m.parameters(recurse=False)]
        return (
            self.usable
            and len(self.left) == len(self.modules)
            and len({id(p) for p in parameters}) == len(parameters)
            and all(tensor._version == version for tensor, version in self.entered.values())
            and all(tensor.ndim > 0 and len(tensor) == self.examples for tensor, _ in self.entered.values())
        )

    def in_order(self) -> bool:
        """Whether each layer sees an example at its row of the batch: some, in either order, against each alone."""
        if _ordered.of(self.model, self.inputs):
            return True
        rows = torch.linspace(0, self.examples - 1, min(EXAMPLES, self.examples)).round().long()
        alone = [self._entering(row[None]) for row in rows]
        for order in (range(len(rows)), range(len(rows))[::-1]):
            together = self._entering(rows[list(order)])
            for place, example in enumerate(order):
                seen = [entered[place : place + 1] for entered in together]
                if len(seen) != len(alone[example]) or any(map(_apart, seen, alone[example])):
                    return False
        if any(bool((part != part[:1]).any()) for part in tensors(self.inputs)):
            _ordered.note(self.model, self.inputs, True)
        return True

    def _entering(self, rows: Tensor) -> list[Tensor]:
        """What enters each layer on these rows of the batch alone."""
        again = Layers(self.model)
        again.forward(each(lambda tensor: tensor[rows.to(tensor.device)], self.inputs))
        return [again.entered[module][0] for module in self.modules if module in again.entered]

    def squared_norms(self, sketches: Sequence[Tensor]) -> Tensor:
        """|gradient of s_i in a layer's weights|^2 for every sketch s and example i: (sketches, n, layers).

        Layer by layer, so that what a layer's rule takes is made once for all sketches and not kept. The graph is kept.
        """
        edges = [self.left[module] for module in self.modules]
        slopes = [torch.autograd.grad(s.sum(), edges, retain_graph=True, materialize_grads=True) for s in sketches]
        norms = [
            _RULES[type(module)](module, self.entered[module][0], torch.stack(columns, dim=1)).T
            for module, columns in zip(self.modules, zip(*slopes, strict=True), strict=True)
        ]
        return torch.stack(norms, dim=2)


def _apart(one: Tensor, other: Tensor) -> bool:
    """Whether two computations of the same values differ by more than rounding, or in shape."""
    if one.shape != other.shape:
        return True
    if not one.is_floating_point():
        return not torch.equal(one, other)
    return bool(((one - other).abs() > one.abs().max() * torch.finfo(one.dtype).eps ** 0.5).any())


class SquaredNorms:
    """|gradient of s_i in a layer's weights|^2 for every sketch s of the outputs, example i and layer of a model.

    Whether the layers' rules hold is a matter of the architecture, so it is proved once: on the first batch in which an
    example has a gradient, on the one with the largest.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.rules_hold: bool | None = None

    def __call__(self, batch: Split, scalars: Scalars) -> Tensor:
        """Shape (sketches, n, layers); the layers are those of ``models.layers``.

        Args:
            batch: on the model's device, in its type.
            scalars: maps the outputs, as rows (n, outputs of an example), to tensors (n,) whose i-th entry depends on
                row i alone.
        """
        hooked = Layers(self.model)
        z = hooked.forward(batch.inputs)
        return self.of(hooked, scalars(z.reshape(len(z), -1)))

    def of(self, hooked: Layers, sketches: Sequence[Tensor]) -> Tensor:
        """The same of sketches that were made from a forward pass of these layers. The graph is kept."""
        if hooked.complete and self.rules_hold is not False:
            norms = hooked.squared_norms(sketches)
            if self.rules_hold is None:
                self.rules_hold = hooked.in_order() and self._agree(norms[0], sketches[0])
            if self.rules_hold is not False:
                return norms
        return torch.stack([one_by_one(self.model, sketch) for sketch in sketches])

    def _agree(self, norms: Tensor, sketch: Tensor) -> bool | None:
        """Whether rules and slow twin agree on the example of largest norm; None where all are zero, as both say."""
        fast = norms.sum(1)
        largest = fast.argmax()
        slow = one_by_one(self.model, sketch[largest : largest + 1]).sum()
        if not torch.allclose(fast[largest], slow, rtol=1e-3, atol=1e-30):
            return False
        return True if slow > 0 else None


def one_by_one(model: nn.Module, sketch: Tensor) -> Tensor:
    """The slow twin: one backward pass an example; shape (n, layers)."""
    rows = []
    for value in sketch:
        slopes = torch.autograd.grad(value, trainable(model), retain_graph=True, materialize_grads=True)
        rows.append(torch.stack([slope.square().sum() for slope in slopes]))
    return by_layer(model, torch.stack(rows))


def by_layer(model: nn.Module, columns: Tensor) -> Tensor:
    """Columns of ``trainable`` tensors, (m, tensors), added up in columns of layers: (m, layers)."""
    counts = [len(parameters) for parameters in layers(model).values()]
    return torch.stack([part.sum(1) for part in columns.split(counts, dim=1)], dim=1)


# --- The rules: (layer, what entered (n, ...), derivatives in what left (n, sketches, ...)) -> (n, sketches) ---------

Rule = Callable[[Any, Tensor, Tensor], Tensor]


def _applies(layer: nn.Module) -> bool:
    """Whether a layer with a rule is set as the rule assumes."""
    if isinstance(layer, _BatchNorm):
        return not layer.training and layer.running_mean is not None
    if any(p.numel() == 0 for p in layer.parameters(recurse=False)):
        return False
    return not isinstance(getattr(layer, "padding", 0), str)


def _linear(layer: Any, entered: Tensor, slopes: Tensor) -> Tensor:
    n, sketches, fan_out = len(entered), slopes.shape[1], slopes.shape[-1]
    return _outer(layer, entered.reshape(n, -1, entered.shape[-1]), slopes.reshape(n, sketches, -1, fan_out).mT)


def _convolution(layer: Any, entered: Tensor, slopes: Tensor) -> Tensor:
    n, sketches = slopes.shape[:2]
    patches = _patches(layer, entered)
    rows = slopes.reshape(n, sketches, layer.groups, -1, patches.shape[1])
    rows = rows.transpose(1, 2).reshape(n * layer.groups, sketches, -1, patches.shape[1])
    return _outer(layer, patches, rows).view(n, layer.groups, sketches).sum(1)


def _patches(layer: Any, entered: Tensor) -> Tensor:
    """What each position of a convolution sees, shape (n groups, positions, features)."""
    sides = [pad for pad in reversed(layer.padding) for _ in range(2)]
    padded = F.pad(entered, sides, "constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    if layer.groups > 1 or max(layer.dilation) > 1:
        patches = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        return patches.reshape(len(entered) * layer.groups, -1, patches.shape[2]).mT
    # Channels last: the inner loop of the copy then runs over a row of the window and all its channels.
    last = padded.permute(0, 2, 3, 1).contiguous()
    (height, width), (down, right) = layer.kernel_size, layer.stride
    rows, columns = (last.shape[1] - height) // down + 1, (last.shape[2] - width) // right + 1
    example, row, column, _ = last.stride()
    shape = (len(last), rows, columns, height, width * last.shape[3])
    windows = last.as_strided(shape, (example, down * row, right * column, row, 1))
    return windows.reshape(len(last), rows * columns, -1)


def _embedding(layer: Any, entered: Tensor, slopes: Tensor) -> Tensor:
    tokens = entered.reshape(len(entered), -1)
    same = tokens[:, :, None] == tokens[:, None, :]
    rows = slopes.reshape(*slopes.shape[:2], -1, slopes.shape[-1])
    return (same[:, None] * (rows @ rows.mT)).sum((2, 3))


def _batch_norm(layer: Any, entered: Tensor, slopes: Tensor) -> Tensor:
    values = entered.reshape(*entered.shape[:2], -1)
    normalised = (values - layer.running_mean[:, None]) / (layer.running_var + layer.eps).sqrt()[:, None]
    rows = slopes.reshape(*slopes.shape[:3], -1)
    result = slopes.new_zeros(slopes.shape[:2])
    if layer.weight is not None and layer.weight.requires_grad:
        result = result + (rows * normalised[:, None]).sum(3).square().sum(2)
    if layer.bias is not None and layer.bias.requires_grad:
        result = result + rows.sum(3).square().sum(2)
    return result


def _outer(layer: Any, entered: Tensor, slopes: Tensor) -> Tensor:
    """|sum_p slope_p entered_p^T|^2 and the bias' |sum_p slope_p|^2: (m, sketches).

    entered (m, p, in), slopes (m, sketches, out, p). Over p x p inner products where that is less work than over
    in x out entries.
    """
    m, positions, fan_in = entered.shape
    _, sketches, fan_out, _ = slopes.shape
    result = slopes.new_zeros(m, sketches)
    if layer.weight.requires_grad:
        if positions * (fan_in + fan_out) < fan_in * fan_out:
            result = ((entered @ entered.mT)[:, None] * (slopes.mT @ slopes)).sum((2, 3))
        else:
            products = slopes.reshape(m, sketches * fan_out, positions) @ entered
            result = products.view(m, sketches, -1).square().sum(2)
    if getattr(layer, "bias", None) is not None and layer.bias.requires_grad:
        result = result + slopes.sum(3).square().sum(2)
    return result


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.Embedding: _embedding,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
}
