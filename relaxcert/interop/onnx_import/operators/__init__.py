"""The operators that are read, one family a file; importing this registers them all."""

from relaxcert.interop.onnx_import.operators import (
    activations,
    arithmetic,
    constants,
    convolution,
    joins,
    linear,
    normalisation,
    pairs,
    pooling,
    shapes,
)

__all__ = [
    "activations",
    "arithmetic",
    "constants",
    "convolution",
    "joins",
    "linear",
    "normalisation",
    "pairs",
    "pooling",
    "shapes",
]
