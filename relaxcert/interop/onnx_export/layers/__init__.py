"""The layers that are written, one family a file; importing this registers them all."""

from relaxcert.interop.onnx_export.layers import dense, elementwise, movements

__all__ = ["dense", "elementwise", "movements"]
