"""The linear parts of a network: what the bounds of a proof file are bounds of.

Everything between two functions that are not linear is one linear map: consecutive layers are
multiplied out, a sum or concatenation of maps of one value is a map. A part is measured where
something else than a linear layer takes it; the checker does the same by its own means.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.graph import Graph
from relaxcert.nn.blocks import Concatenation, Residual

# Names, so that a kind of layer need not be imported to be known.
_ROOMS = ("1d", "2d", "3d")
_DIAGONAL = ("InputNormalisation", *(f"BatchNorm{room}" for room in _ROOMS))
_SAME = ("Flatten", "Identity", "Dropout", *(f"Dropout{room}" for room in _ROOMS))
_LINEAR = (
    "Linear",
    *(f"Conv{room}" for room in _ROOMS),
    *(f"AvgPool{room}" for room in _ROOMS),
    *(f"AdaptiveAvgPool{room}" for room in _ROOMS),
)
_OTHER = (
    *(f"MaxPool{room}" for room in _ROOMS),
    *("MinMax", "GroupSort", "InvertibleDownsampling", "ReLU", "ReLU6", "Abs", "LeakyReLU"),
    *("Tanh", "Sigmoid"),
)
_KNOWN = (*_LINEAR, *_DIAGONAL, *_SAME, *_OTHER)
_MOST_ENTRIES = 2**22  # of a linear map; as in the checker
_AT_A_TIME = 256  # columns that are passed through a network's layers

Columns = Callable[[Tensor], Tensor]


def check_provable(backbone: nn.Module) -> None:
    """Refuse what the checker would refuse.

    Raises:
        UnsupportedLayer: names the layer that proof files cannot speak of.
    """
    for path, layer in _leaves(backbone, ""):
        known = type(layer).__name__ in _KNOWN
        odd = getattr(layer, "ceil_mode", False) or getattr(layer, "divisor_override", None)
        padding = getattr(layer, "padding_mode", "zeros")
        if not known or odd or padding not in ("zeros", "circular"):
            raise UnsupportedLayer(
                f"backbone.{path} is a {layer!r}, of which no proof file can speak: "
                f"the independent checker knows Sequential, Residual, Concatenation of "
                f"{', '.join(_KNOWN)}. Certify without --proof."
            )


def _leaves(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    inner = list(_children(module))
    if not inner and type(module) not in (nn.Sequential, Concatenation):
        yield path, module
    for name, child in inner:
        yield from _leaves(child, f"{path}.{name}" if path else name)


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if type(module) is nn.Sequential:
        # Not named_children(), which leaves out the second use of a shared layer.
        yield from vars(module)["_modules"].items()
    elif type(module) is Residual:
        yield "block", module.block
    elif type(module) is Concatenation:
        yield from ((f"branches.{i}", branch) for i, branch in enumerate(module.branches))


@dataclass(frozen=True, slots=True)
class Segment:
    """One linear map: the layer that ends it, the nodes where it begins and ends, the numbers."""

    path: str
    anchor: int
    place: int
    matrix: Tensor


@dataclass(frozen=True, slots=True)
class _Part:
    """The value of a node as a linear map, ``run``, of the value of node ``anchor``, but for
    constants; the path of what ends it, and whether it is a diagonal map."""

    path: str
    place: int
    anchor: int
    run: Columns
    diagonal: bool = True


class _Walk:
    """Follows the layers in the order in which the graph lists them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: dict[str, Segment] = {}
        self.following = iter(range(1, len(graph.nodes)))

    def through(self, module: nn.Module, path: str, part: _Part) -> _Part:
        """The value after a module."""
        inner = [(f"{path}.{name}" if path else name, child) for name, child in _children(module)]
        if type(module) is nn.Sequential:
            for name, child in inner:
                part = self.through(child, name, part)
            return part
        if type(module) is Residual:
            return self._joined(path, [part, self.through(inner[0][1], inner[0][0], part)], _sum)
        if type(module) is Concatenation:
            parts = [self.through(child, name, part) for name, child in inner]
            return self._joined(path, parts, _concatenation)
        return self._layer(path, part)

    def _layer(self, path: str, part: _Part) -> _Part:
        place = next(self.following, None)
        if place is None:  # the graph leaves out a last Identity
            return part
        layer = self.graph.nodes[place].layer
        kind = type(layer).__name__
        if layer is None or kind in _OTHER:
            self._measure(part)
            return self._anchored(path, place)
        linear, before = _without_constants(layer), part.run
        diagonal = part.diagonal and kind not in _LINEAR
        name = part.path if kind in _SAME else path
        return _Part(name, place, part.anchor, lambda x: linear(before(x)), diagonal)

    def _joined(
        self, path: str, parts: list[_Part], join: Callable[[list[Tensor]], Tensor]
    ) -> _Part:
        place = next(self.following)
        if len({part.anchor for part in parts}) == 1:
            diagonal = join is _sum and all(part.diagonal for part in parts)
            maps = [part.run for part in parts]
            return _Part(
                path, place, parts[0].anchor, lambda x: join([m(x) for m in maps]), diagonal
            )
        for part in parts:
            self._measure(part)
        return self._anchored(path, place)

    def _anchored(self, path: str, place: int) -> _Part:
        return _Part(path, place, place, lambda x: x)

    def _measure(self, part: _Part) -> None:
        if not part.diagonal and part.path not in self.found:
            matrix = self._matrix(part)
            self.found[part.path] = Segment(part.path, part.anchor, part.place, matrix)

    def _matrix(self, part: _Part) -> Tensor:
        shape, outputs = (self.graph.nodes[n].shape or () for n in (part.anchor, part.place))
        rows, columns = math.prod(outputs), math.prod(shape)
        if rows * columns > _MOST_ENTRIES:
            raise UnsupportedLayer(
                f"the linear map that ends with backbone.{part.path} is a matrix of {rows} x "
                f"{columns}, more than {_MOST_ENTRIES} entries: no proof file is written for it."
            )
        pieces: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, columns, _AT_A_TIME):
                count = min(_AT_A_TIME, columns - start)
                basis = torch.zeros(count, columns, dtype=torch.float64)
                basis[torch.arange(count), torch.arange(start, start + count)] = 1.0
                pieces.append(part.run(basis.reshape(count, *shape)).flatten(1))
        return torch.cat(pieces).mT.contiguous()


def segments(backbone: nn.Module, graph: Graph) -> list[Segment]:
    """The linear parts that need a bound, in order.

    Args:
        backbone: of the modules that :func:`check_provable` accepts.
        graph: its graph with shapes, float64, in eval mode, on the CPU.

    Raises:
        UnsupportedLayer: a map that is too large to be written.
    """
    walk = _Walk(graph)
    walk.through(backbone, "", _Part("", 0, 0, lambda x: x))
    return list(walk.found.values())


def _sum(values: list[Tensor]) -> Tensor:
    return values[0] + values[1]


def _concatenation(values: list[Tensor]) -> Tensor:
    return torch.cat(values, dim=1)


def _without_constants(layer: nn.Module) -> nn.Module:
    """The linear part of an affine layer."""
    linear = copy.deepcopy(layer)
    for name, tensor in (*linear.named_parameters(), *linear.named_buffers()):
        if name in ("bias", "mean", "running_mean"):
            tensor.detach().zero_()
    return linear
