"""Curvature of the mean loss: gradients, Hessian products, traces, shifted solves, spectra.

==============  ===================================================================================
``products``    gradient, Hessian-vector products, dense Hessian and Gauss-Newton matrix
``traces``      traces and their differences with standard errors: exact, Gauss-Newton sketch, Hutchinson
``krylov``      one Krylov space: shifted solves, extreme eigenvalues, spectral density
==============  ===================================================================================
"""

from helpers.curvature.krylov import (
    Edge,
    Lanczos,
    Shifted,
    SpectralDensity,
    extreme_eigenvalues,
    solve_shifted,
    spectral_density,
)
from helpers.curvature.products import (
    Estimate,
    gauss_newton,
    gradient,
    hessian,
    hessian_operator,
    hvp,
    per_example_gradients,
    values,
)
from helpers.curvature.traces import choose_method, is_piecewise_affine, trace, trace_difference

__all__ = [
    "Edge",
    "Estimate",
    "Lanczos",
    "Shifted",
    "SpectralDensity",
    "choose_method",
    "extreme_eigenvalues",
    "gauss_newton",
    "gradient",
    "hessian",
    "hessian_operator",
    "hvp",
    "is_piecewise_affine",
    "per_example_gradients",
    "solve_shifted",
    "spectral_density",
    "trace",
    "trace_difference",
    "values",
]
