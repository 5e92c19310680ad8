"""Four numbers that are all called gradient dispersion: estimators of sum_t lr_t^2 E[V_t].

Only the first estimates what Wang & Mao's Lemma 5 and Theorem 2 ask for: the variance of the update over
sample, batches and weights together. The others use one run, and drop the part of the variance that comes
from the sample and from the weights; for full-batch gradient descent two of them are exactly zero although
the gap is not.

All return one number a step, shape (T,), with the squared learning rate included; their sum enters the
bounds. ``within_batch_dispersion`` is a second way to the third number. ``training.train_ensemble`` reports
the sum of the first as ``run.dispersion``. The dtype of the input is kept; whole
numbers become float64, and half precision float32.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from helpers._checks import per_step, whole
from helpers._tensors import floats_of


def cross_run_dispersion(trajectories: Tensor) -> Tensor:
    """Variance of the update over k runs, divisor k - 1: **the one that matches Lemma 5**.

    sum_j Var_i(W_t,j^(i) - W_{t-1,j}^(i)) is an unbiased estimate of the trace of the covariance of the
    update. It holds for momentum, weight decay and schedules, because it looks at updates and not at
    gradients.

    Args:
        trajectories: (k, T + 1, d), weights W_0, ..., W_T of k independent runs from one initialisation, on
            disjoint samples.

    Raises:
        ValueError: if there are fewer than two runs or no step, or a weight is not finite.
    """
    trajectories = floats_of("trajectories", trajectories)
    if trajectories.ndim != 3:
        raise ValueError(f"trajectories must have shape (k, T + 1, d), got {tuple(trajectories.shape)}")
    if len(trajectories) < 2:
        raise ValueError(f"the variance over runs needs at least two runs, got {len(trajectories)}")
    if trajectories.shape[1] < 2:
        raise ValueError("trajectories must hold the initial weights and at least one step")
    return trajectories.diff(dim=1).var(dim=0, correction=1).sum(1)


def single_run_dispersion(batch_gradients: Tensor, full_gradients: Tensor, lr: float | Iterable[float]) -> Tensor:
    """lr_t^2 ||g(W_{t-1}, B_t) - grad L_S(W_{t-1})||^2 of one run: the batching noise only.

    What is plotted as dispersion in the "deterministic setting" of Wang & Mao (2022), Remark 1. It estimates
    neither their V_t nor that of Neu et al., whose centre is the *population* gradient.

    Args:
        batch_gradients: (T, d), gradient of the batch loss before each step.
        full_gradients: (T, d), gradient of the whole training loss at the same weights.
        lr: learning rate, or one for each step.

    Raises:
        ValueError: if the shapes differ, an entry is not finite, or a learning rate is not positive.
    """
    batch_gradients = floats_of("batch gradients", batch_gradients)
    full_gradients = floats_of("full gradients", full_gradients)
    if batch_gradients.shape != full_gradients.shape:
        shapes = f"{tuple(batch_gradients.shape)} and {tuple(full_gradients.shape)}"
        raise ValueError(f"batch and full gradients must have the same shape (T, d), got {shapes}")
    return uncentred_dispersion(batch_gradients - full_gradients, lr)


def expected_single_run_dispersion(
    example_gradients: Tensor, lr: float | Iterable[float], *, batch_size: int
) -> Tensor:
    """The expectation of ``single_run_dispersion`` over batches drawn without replacement, weights given.

    lr_t^2 (1/b) (n - b)/(n - 1) (1/n) sum_i ||grad l_i - grad L_S||^2: exactly 0 for b = n.

    Args:
        example_gradients: (T, n, d), gradient of every training example before each step.
        lr: learning rate, or one for each step.
        batch_size: b.

    Raises:
        ValueError: if there are fewer than two examples, b is not in 1..n, or a learning rate is not
            positive.
    """
    example_gradients = _of_examples(example_gradients)
    spread = _spread(example_gradients)
    n, b = example_gradients.shape[1], whole("batch_size", batch_size)
    if b > n:
        raise ValueError(f"the batch size must not exceed the number of examples, got {b} and {n}")
    return _squared(lr, spread) * spread * ((n - b) / (n - 1) / b)


def within_batch_dispersion(example_gradients: Tensor, lr: float | Iterable[float], *, n: int) -> Tensor:
    """The same expectation, estimated from the examples of the batch alone.

    What a library of per-example gradients offers: lr_t^2 (1 - b/n) (1/b) * (sum_i ||grad l_i - g||^2 / (b -
    1)), unbiased for batches drawn without replacement. The division by b is needed, and the sources do not
    mention it: the variance *of an example* is b times too large.

    Args:
        example_gradients: (T, b, d), gradients of the batch's examples before each step.
        lr: learning rate, or one for each step.
        n: size of the training sample that batches are drawn from.

    Raises:
        ValueError: if a batch has fewer than two examples or more than n, or a learning rate is not positive.
    """
    example_gradients = _of_examples(example_gradients)
    spread, b = _spread(example_gradients), example_gradients.shape[1]
    if whole("n", n) < b:
        raise ValueError(f"a batch of {b} examples cannot come from a sample of n = {n}")
    return _squared(lr, spread) * spread * ((1 - b / n) / (b - 1))


def uncentred_dispersion(batch_gradients: Tensor, lr: float | Iterable[float]) -> Tensor:
    """lr_t^2 ||g(W_{t-1}, B_t)||^2 of one run: an upper bound without a centre, Wang & Mao (2022), Lemma 7.

    Its expectation is never below that of ``cross_run_dispersion`` for plain SGD.

    Args:
        batch_gradients: (T, d), gradient of the batch loss before each step.
        lr: learning rate, or one for each step.

    Raises:
        ValueError: if the shape is not (T, d), an entry is not finite, or a learning rate is not positive.
    """
    batch_gradients = floats_of("gradients", batch_gradients)
    if batch_gradients.ndim != 2 or len(batch_gradients) == 0:
        shape = tuple(batch_gradients.shape)
        raise ValueError(f"gradients must have shape (T, d) with at least one step, got {shape}")
    return _squared(lr, batch_gradients) * batch_gradients.square().sum(1)


def _of_examples(gradients: Tensor) -> Tensor:
    gradients = floats_of("example gradients", gradients)
    if gradients.ndim != 3 or gradients.shape[1] < 2:
        shape = tuple(gradients.shape)
        raise ValueError(f"example gradients must have shape (T, examples >= 2, d), got {shape}")
    return gradients


def _spread(example_gradients: Tensor) -> Tensor:
    """(T,): mean over examples of the squared distance to their mean."""
    return example_gradients.var(dim=1, correction=0).sum(1)


def _squared(lr: float | Iterable[float], like: Tensor) -> Tensor:
    """(T,): squared learning rates."""
    return torch.tensor(per_step("lr", lr, len(like)), dtype=like.dtype, device=like.device).square()
