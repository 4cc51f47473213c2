"""Floor 5: networks and properties of other tools' formats, in and out."""

from __future__ import annotations

from relaxcert.interop.network_files import load_network
from relaxcert.interop.nnet import NNet, read_nnet
from relaxcert.interop.onnx_export import export_backbone, export_onnx
from relaxcert.interop.onnx_import import OnnxNetwork, load_onnx, read_onnx

__all__ = [
    "NNet",
    "OnnxNetwork",
    "export_backbone",
    "export_onnx",
    "load_network",
    "load_onnx",
    "read_nnet",
    "read_onnx",
]
