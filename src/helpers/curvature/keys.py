"""What a remembered verdict may rely on: all that decides what a model or a loss computes, as far as Python can tell.

A key is a nested tuple that is compared with the one of the last trial. Values of weights and of PyTorch's own running
statistics are no part of it, for the trials look where those hide nothing; everything else is: the modules' types,
settings, hooks, buffers, and what they keep in lists, dictionaries, slots, private attributes and those of their class,
functions with what they enclose. What a function reads from its file is not seen. A model that keeps more than ``MOST``
values is never equal to anything, so that it is tried every time.
"""

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from helpers.data.inputs import tensors

MOST = 5_000
SMALL = 64  # entries of a tensor that are compared one by one; a larger one by its identity and version
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, Enum, PurePath)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
INNER = frozenset(vars(nn.Module())) - {"training", *HOOKS}  # how PyTorch keeps a module

Key = tuple[Hashable, ...]
Verdict = TypeVar("Verdict")


class Same:
    """Equal to another of the very same thing, as long as that lives: an address alone may be given out again."""

    def __init__(self, thing: Any) -> None:
        self.address = id(thing)
        self.thing: Callable[[], Any]
        try:
            self.thing = ref(thing)
        except TypeError:  # of a type without weak references
            self.thing = lambda: True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same) or self.address != other.address:
            return False
        return self.thing() is not None and self.thing() is other.thing()

    def __hash__(self) -> int:
        return self.address


class TooMany(Exception):
    """There are more values than a key may hold."""


def architecture(model: nn.Module) -> Key:
    """The key of a model: modules and weights by name, and all that they keep."""
    known = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    around = [value for name, value in vars(torch_module).items() if name.startswith("_global") and "hooks" in name]
    try:
        walk = _Walk(known)
        return (walk.of(around), *(walk.of_module(name, module) for name, module in model.named_modules()))
    except TooMany:
        return (object(),)  # equal to nothing


def captured(function: Any) -> Key:
    """The key of a loss: what it keeps, not which one it is, for equal losses share a verdict."""
    try:
        walk = _Walk(set())
        return (walk.enclosed(function), walk.of(getattr(function, "__dict__", None)))
    except TooMany:
        return (object(),)


class Verdicts(Generic[Verdict]):
    """Verdicts on models as they are, for inputs of one layout: a recurrent layer is another network on longer ones."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[nn.Module, tuple[Key, dict[Hashable, Verdict]]] = WeakKeyDictionary()

    def of(self, model: nn.Module, inputs: Any) -> Verdict | None:
        """What was found of the model as it is, on inputs of this layout; None if it was not tried."""
        key, found = self._found.get(model, ((), {}))
        return found.get(_layout_of(inputs)) if found and key == architecture(model) else None

    def note(self, model: nn.Module, inputs: Any, verdict: Verdict) -> None:
        key = architecture(model)
        before, found = self._found.get(model, ((), {}))
        self._found[model] = (key, {**(found if before == key else {}), _layout_of(inputs): verdict})


def _layout_of(inputs: Any) -> Hashable:
    """Shapes without the batch, and types; floating inputs all get the model's."""
    names = tuple(inputs) if isinstance(inputs, Mapping) else ()
    parts = tensors(inputs)
    return names, tuple((part.shape[1:], "floating" if part.is_floating_point() else part.dtype) for part in parts)


class Losses:
    """Losses that were tried, with outputs and targets of one layout."""

    def __init__(self) -> None:
        self._tried: WeakKeyDictionary[Any, set[Hashable]] = WeakKeyDictionary()

    def holds(self, loss: Any, z: Tensor, targets: Tensor) -> bool:
        """Whether the loss was tried as it is, on such outputs and targets."""
        with suppress(TypeError):  # a loss that cannot be a key is tried every time
            return self._layout(loss, z, targets) in self._tried.get(loss, set())
        return False

    def note(self, loss: Any, z: Tensor, targets: Tensor) -> None:
        with suppress(TypeError):
            self._tried.setdefault(loss, set()).add(self._layout(loss, z, targets))

    def _layout(self, loss: Any, z: Tensor, targets: Tensor) -> Hashable:
        return captured(loss), z.shape[1:], z.dtype, targets.shape[1:], targets.dtype


class _Walk:
    """One walk through what a model keeps; what it meets a second time is not entered again."""

    def __init__(self, known: set[int]) -> None:
        self.known = known  # parameters and buffers, which have their place
        self.met: dict[int, Any] = {}  # kept alive, so that no address is given out again
        self.count = 0

    def of_module(self, name: str, module: nn.Module) -> Key:
        kept = vars(module)
        self.met[id(module)] = module
        parameters = [
            (name, None if p is None else (p.dtype, p.shape, p.requires_grad)) for name, p in module._parameters.items()
        ]
        of_tensor = _described if type(module).__module__.startswith("torch.nn.") else self.of_tensor
        buffers = [(name, of_tensor(buffer)) for name, buffer in module._buffers.items()]
        others = [
            (name, of_tensor(value) if isinstance(value, Tensor) else self.of(value))
            for name, value in kept.items()
            if name not in INNER
        ]
        return (name, self.of_class(type(module)), tuple(parameters), tuple(buffers), tuple(others))

    def of_class(self, kind: type) -> Hashable:
        """What the class and those that it comes from say, up to PyTorch's own."""
        if id(kind) in self.met:
            return Same(kind)
        self.met[id(kind)] = kind
        own = [base for base in kind.__mro__ if base is not object and not base.__module__.startswith("torch.")]
        said = [
            (name, Same(value) if callable(value) else self.of(value))
            for base in own
            for name, value in vars(base).items()
            if not (name.startswith("__") or isinstance(value, GetSetDescriptorType | MemberDescriptorType))
        ]
        return (Same(kind), tuple(said))

    def of(self, value: Any) -> Hashable:
        """The key of any value."""
        self.count += 1
        if self.count > MOST:
            raise TooMany
        if isinstance(value, PLAIN):
            return (type(value).__name__, value)
        if isinstance(value, Tensor):
            return "known" if id(value) in self.known else self.of_tensor(value)
        if isinstance(value, type):
            return Same(value)
        if id(value) in self.met:
            return "met"
        self.met[id(value)] = value
        if isinstance(value, nn.Module):
            return tuple(self.of_module(name, module) for name, module in value.named_modules())
        if isinstance(value, Mapping):
            return (type(value).__name__, tuple((self.of(name), self.of(one)) for name, one in list(value.items())))
        if isinstance(value, list | tuple | set | frozenset | deque):
            return (type(value).__name__, tuple(self.of(one) for one in value))
        if isinstance(value, np.ndarray) and value.size <= SMALL and value.dtype != object:
            return (value.shape, value.dtype.str, value.tobytes())
        if isinstance(value, MethodType):
            return (Same(value.__func__), self.enclosed(value.__func__), self.of(value.__self__))
        if isinstance(value, partial):
            return (self.of(value.func), self.of(value.args), self.of(value.keywords))
        slots = [name for base in type(value).__mro__ for name in _slots(base) if hasattr(value, name)]
        kept = {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})
        return (Same(value), self.enclosed(value), self.of(kept))

    def of_tensor(self, tensor: Tensor | None) -> Hashable:
        if tensor is None or tensor.grad_fn is not None:
            return _described(tensor)  # computed in a forward pass, as the next one will compute it anew
        plain = tensor.layout == torch.strided and tensor.device.type != "meta"
        if plain and tensor.numel() <= SMALL:
            return (_described(tensor), str(tensor.tolist()))
        return (_described(tensor), Same(tensor), None if tensor.is_inference() else tensor._version)

    def enclosed(self, function: Any) -> Hashable:
        """What a function has taken with it when it was defined."""
        if not isinstance(function, FunctionType):
            return None
        cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
        return (self.of(cells), self.of(function.__defaults__), self.of(function.__kwdefaults__))


def _described(tensor: Tensor | None) -> Hashable:
    return None if tensor is None else (tensor.shape, tensor.dtype)


def _slots(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ()) if not kind.__module__.startswith("torch") else ()
    return (names,) if isinstance(names, str) else tuple(names)


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
