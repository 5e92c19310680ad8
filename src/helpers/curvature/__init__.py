"""Curvature of the mean loss: how does one get a network's gradients, Hessian products, traces and spectra right?

===============  ==================================================================================
``contracts``    what is asked of a model, a loss and a sample, checked where they enter
``derivatives``  is PyTorch's gradient the derivative?
``estimates``    a number with its uncertainty
``batches``      a sample in batches that fit the device
``routes``       three routes to a Hessian product, and which of them a network may be trusted to
``products``     gradient, Hessian products, dense Hessian and Gauss-Newton matrix
``per_example``  squared gradient norms example by example, from one backward pass
``affine``       where Tr H is the Gauss-Newton trace
``traces``       traces and their differences with standard errors
``krylov``       one Krylov space: extreme eigenvalues, spectral density
``shifted``      many shifted systems in it
``subspace``     k eigenvectors, those of repeated eigenvalues included
===============  ==================================================================================
"""

from helpers.curvature.affine import is_piecewise_affine
from helpers.curvature.contracts import admitted, check_model, finite_split, finite_splits
from helpers.curvature.estimates import Estimate, pooled_freedom
from helpers.curvature.krylov import (
    Edge,
    Lanczos,
    SpectralDensity,
    extreme_eigenvalues,
    spectral_density,
)
from helpers.curvature.products import (
    NotFiniteError,
    check_deterministic,
    gauss_newton,
    gauss_newton_operator,
    gradient,
    hessian,
    hessian_operator,
    hvp,
    per_example_gradients,
    values,
)
from helpers.curvature.shifted import Shifted, finite_shifts, solve_shifted
from helpers.curvature.subspace import Eigenpairs, eigenvectors
from helpers.curvature.traces import choose_method, trace, trace_by_layer, trace_difference

__all__ = [
    "Edge",
    "Eigenpairs",
    "Estimate",
    "Lanczos",
    "NotFiniteError",
    "Shifted",
    "SpectralDensity",
    "admitted",
    "check_deterministic",
    "check_model",
    "choose_method",
    "eigenvectors",
    "extreme_eigenvalues",
    "finite_shifts",
    "finite_split",
    "finite_splits",
    "gauss_newton",
    "gauss_newton_operator",
    "gradient",
    "hessian",
    "hessian_operator",
    "hvp",
    "is_piecewise_affine",
    "per_example_gradients",
    "pooled_freedom",
    "solve_shifted",
    "spectral_density",
    "trace",
    "trace_by_layer",
    "trace_difference",
    "values",
]
