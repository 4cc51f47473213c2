"""The exact references of relaxcert.testing, under the name that these tests use."""

from relaxcert.testing.exact import (
    Matrix,
    Vector,
    affine,
    at_least_spectral_norm,
    exact,
    exact_vector,
    forward,
    gram,
    norm_within,
    positive_semidefinite,
)

__all__ = [
    "Matrix",
    "Vector",
    "affine",
    "at_least_spectral_norm",
    "exact",
    "exact_vector",
    "forward",
    "gram",
    "norm_within",
    "positive_semidefinite",
]
