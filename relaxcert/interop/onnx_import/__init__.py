"""Networks from ONNX files, by a list of known operators and nothing else.

A file is data: it is parsed, checked and turned into torch layers, and nothing in it is executed.
The network that comes out computes for each point what the file computes for a batch of that one
point, as a function of real numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.interop.onnx_import import operators  # registers them all
from relaxcert.interop.onnx_import.reading import read_model
from relaxcert.interop.onnx_import.registry import supported_operators
from relaxcert.interop.onnx_import.translate import Translation
from relaxcert.nn.shapes import Reshape, Scale

__all__ = ["OnnxNetwork", "load_onnx", "operators", "read_onnx", "supported_operators"]

Best = Literal["min", "max"]


@dataclass(frozen=True)
class OnnxNetwork:
    """A network read from an ONNX file.

    Attributes:
        network: (batch, ...) -> (batch, classes), in eval mode; larger outputs are better.
        input_shape: of one point, as in the file. Where all but one size are 1 (ACAS Xu: 1, 1, 5),
            the network takes flat points, (batch, 5), as well.
        best: the convention of the file: ``min`` if the outputs were negated.
    """

    network: nn.Module
    input_shape: tuple[int, ...]
    best: Best


def read_onnx(path: str | Path, *, best: Best = "max") -> OnnxNetwork:
    """Read an ONNX file: opset 9 to 23, float32 or float64, one input, one output.

    A chain of layers becomes an nn.Sequential, anything else a module that torch.fx can trace.
    Weights are taken exactly. File sizes, declared sizes and external data are checked before
    memory is taken.

    Args:
        path: the file; external data must lie in its folder.
        best: ``min`` for networks that advise the class of minimal score, as ACAS Xu does; the
            outputs are then negated (in the last Linear layer, if there is one), which is exact.

    Raises:
        InvalidInput: best is not one of these words.
        UnsupportedOperator: an operator that is not known; names the node.
        ModelFileError: anything else that is wrong with the file.
    """
    if best not in ("min", "max"):
        raise InvalidInput(f"best={best!r} must be 'min' or 'max': which score is the advice?")
    source = Path(path)
    model, version = read_model(source)
    network, shape = Translation(model.graph, version, source).run()
    # Flat points can mean only one thing then.
    if len(shape) > 1 and max(shape) == math.prod(shape):
        network = _chained(Reshape(*shape), network)
    if best == "min":
        network = _negated(network)
    return OnnxNetwork(network.eval(), shape, best)


def load_onnx(path: str | Path, *, best: Best = "max") -> nn.Module:
    """The network of :func:`read_onnx`."""
    return read_onnx(path, best=best).network


def _chained(*parts: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for part in parts:
        layers += list(part) if type(part) is nn.Sequential else [part]
    return nn.Sequential(*layers)


def _negated(network: nn.Module) -> nn.Module:
    last = network[-1] if type(network) is nn.Sequential and len(network) else None
    if type(last) is not nn.Linear:
        return _chained(network, Scale(-1.0))
    bias: torch.Tensor | None = getattr(last, "bias", None)
    last.weight = nn.Parameter(-last.weight.detach())
    if bias is not None:
        last.bias = nn.Parameter(-bias.detach())
    return network
