"""The layers that are written, one family a file; importing this registers them all."""

from relaxcert.interop.onnx_export.layers import (
    convolution,
    dense,
    elementwise,
    movements,
    normalisation,
    pooling,
)

__all__ = ["convolution", "dense", "elementwise", "movements", "normalisation", "pooling"]
