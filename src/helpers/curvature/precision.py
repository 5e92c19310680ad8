"""The arithmetic that curvature is computed in: full precision, kernels that have second derivatives, plain layers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from helpers._precision import full_precision

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def precisely(model: nn.Module) -> Iterator[None]:
    """Gradients on, whatever surrounds the block; no autocast, no TF32, attention by its mathematical kernel.

    TF32 rounds to 10 bits: harmless for training, an error of a hundredth in a Hessian product. Fused attention has no
    second derivative, its mathematical kernel has. Embeddings and hooked weights have their derivative
    (``_plain_embeddings``, ``_without_hooks``), and buffers that ``forward`` changes are put back (``_kept_buffers``).

    Raises:
        ValueError: if the model is no module; inside a transform of ``torch.func``.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise ValueError("curvature cannot be computed inside torch.func's grad, vmap or jvp; call it outside of them")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got a {type(model).__name__}; wrap it in one")
    with ExitStack() as stack:
        stack.enter_context(_plain_embeddings(model))
        stack.enter_context(_without_hooks(model))
        stack.enter_context(_kept_buffers(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(full_precision())
        if any(isinstance(layer, nn.RNNBase) for layer in model.modules()):
            # cuDNN has no backward pass of recurrent layers in evaluation mode, and no second one.
            stack.callback(setattr, torch.backends.cudnn, "enabled", torch.backends.cudnn.enabled)
            torch.backends.cudnn.enabled = False
        fast_path = torch.backends.mha.get_fastpath_enabled()
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


def precise(function: Callable[P, T]) -> Callable[P, T]:
    """The function of a model, which is its first argument, computed ``precisely``."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        model: Any = args[0] if args else kwargs["model"]
        with precisely(model):
            return function(*args, **kwargs)

    return wrapped


@contextmanager
def _plain_embeddings(model: nn.Module) -> Iterator[None]:
    """Embedding layers without the options that replace their derivative by something else.

    ``padding_idx`` drops the derivative in one row, which training shall not move; the outputs depend on that row all
    the same, and it is a part of W. ``scale_grad_by_freq`` divides by counts within a batch.
    """
    with ExitStack() as stack:
        for layer in model.modules():
            plain: dict[str, Any] = {}
            if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
                plain = {"scale_grad_by_freq": False, "sparse": False}
            if isinstance(layer, nn.Embedding):  # a bag leaves its padding out of the outputs, too
                plain["padding_idx"] = None
            before = {name: getattr(layer, name) for name in plain}
            if before != plain:
                stack.callback(vars(layer).update, before)
                vars(layer).update(plain)
        yield


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Weights without the hooks that replace their gradient in training by another (a mask, a scale, a clip)."""
    with ExitStack() as stack:
        for p in model.parameters():
            if hooks := p._backward_hooks:
                stack.callback(hooks.update, dict(hooks))
                hooks.clear()
        yield


@contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    """Buffers that a forward pass changes, in place or for new ones, are afterwards those of before."""
    modules = [(module, dict(module._buffers.items())) for module in model.modules()]
    values = [
        (buffer, buffer.clone(), buffer._version)
        for _, buffers in modules
        for buffer in buffers.values()
        if buffer is not None and not is_lazy(buffer) and not buffer.is_inference()
    ]
    try:
        yield
    finally:
        for module, buffers in modules:
            if not isinstance(module, torch.jit.ScriptModule):  # whose buffers can only be changed in place
                module._buffers.clear()
                module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, before, version in values:
                if buffer._version != version:
                    buffer.copy_(before)
