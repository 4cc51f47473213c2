"""The backbone as ONNX, and beside it a bound of its own rounding, point by point.

Let T be the distance between what the engine computes and the exact value at a node, and e the
bound that ``certify`` (float64) uses there. The graph computes E with E >= T + 3 e, in float64:

    layer            E = (sigma E_a + gamma (g_in (||h|| + E_a) + g_out (||z|| + sigma E_a) + b)
                          + [no matrix product, so rounded once: u ||z||]
                          + 4 (n + 1) eta ||1|| + 4 [absolute] ||1||) (1 + 2^-30)
    sum              E = E_a + E_b + u ||z||
    concatenation    E = norm of (E_a, E_b, ...)

with gamma for the unit u = u_network + 3 u_float64: gamma is superadditive, so that this covers the
engine's own rounding and three times that of float64, whose sizes ||h64|| are at most ||h|| + E_a.
The last factor covers the float64 operations that compute E itself, each off by 2^-53, and what the
||z64|| of float64 adds. Hence whatever the engine certifies is certified by ``certify`` too.

Assumed of the engine: IEEE-754 with gradual underflow, and matrix products of float32 (float64)
numbers by conventional products and sums, in any order, fused or not. That is onnxruntime on the
CPU, at every level of graph optimisation. No TF32, no bfloat16, no flushing of denormals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput
from relaxcert.interop.onnx_export import layers  # noqa: F401 # pyright: ignore[reportUnusedImport]
from relaxcert.interop.onnx_export.registry import Site, emit
from relaxcert.interop.onnx_export.writer import Writer
from relaxcert.lipschitz.directed import ETA, UNDERFLOW, UNIT, gamma, up
from relaxcert.lipschitz.graph import Graph, Node
from relaxcert.lipschitz.verified import NodeBound, VerifiedBounds
from relaxcert.spec.ball import Norm

_INFLATE = 1.0 + 2.0**-30
_ONCE = 1.0 + 2.0**-20
# Beyond, 2^-30 would not cover what the error adds to the size of a result.
_LARGEST_GAIN = 2.0**18
# Layers whose result is that of a matrix product in the network's own precision.
_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_REDUCTIONS = {"l2": "ReduceL2", "l1": "ReduceL1", "linf": "ReduceMax"}


@dataclass
class Known:
    """A value in the graph: its name, and per norm the name of E (absent: exactly 0)."""

    name: str
    error: dict[Norm, str]


@dataclass(frozen=True)
class Written:
    """The result of a guarded backbone.

    Attributes:
        logits: (batch, classes), in the network's type.
        slack: (batch, classes) float64, bound of the last layer's rounding; None: 0.
        error: per norm, E before the last layer, (batch, 1) float64; absent: 0.
        usable: (batch, 1) bool, whether every number on the way is finite.
    """

    logits: str
    slack: str | None
    error: dict[Norm, str]
    usable: str


def write_plain(write: Writer, graph: Graph, name: str, dtype: torch.dtype) -> str:
    """The backbone alone, in operators that every tool reads; (batch, classes)."""
    values = [name]
    for node in graph.nodes[1:]:
        values.append(_emit(write, graph, node, [values[o] for o in node.operands], dtype, False))
    return values[-1]


def write_guarded(
    write: Writer, graph: Graph, bounds: VerifiedBounds, name: str, dtype: torch.dtype
) -> Written:
    """The backbone with bounds of its rounding; ``graph`` has shapes."""
    guard = _Guard(write, graph, bounds, dtype)
    known = [Known(name, {})]
    guard.watch(name, graph.nodes[0])
    for index, node in enumerate(graph.body):
        if index > 0:
            proved: dict[Norm, NodeBound] = {n: b.body[index] for n, b in bounds.norms.items()}
            known.append(guard.step(node, [known[o] for o in node.operands], proved))
    features = known[graph.features]
    if graph.last is None or bounds.last is None:
        return Written(features.name, None, features.error, guard.usable())
    logits = _emit(write, graph, graph.last, [features.name], dtype, True)
    guard.watch(logits, graph.last)
    return Written(logits, guard.slack(features), features.error, guard.usable())


def _emit(
    write: Writer, graph: Graph, node: Node, operands: list[str], dtype: torch.dtype, guarded: bool
) -> str:
    before = _shape(graph.nodes[node.operands[0]])
    site = Site(write, operands[0], before, _shape(node), dtype, guarded)
    if node.kind == "layer" and node.layer is not None:
        return emit(node.layer, node.name, site)
    if node.kind == "concatenation":
        return write.op("Concat", *operands, axis=node.dim)
    other = operands[1]
    if site.working != dtype:
        other = write.cast(other, site.working)
    return site.narrow(write.op("Add" if node.sign > 0 else "Sub", site.wide(), other))


def _shape(node: Node) -> tuple[int, ...]:
    if node.shape is None:
        raise InvalidInput("the graph to export has no shapes: give input_shape.")
    return node.shape


class _Guard:
    """Writes the error bounds."""

    def __init__(
        self, write: Writer, graph: Graph, bounds: VerifiedBounds, dtype: torch.dtype
    ) -> None:
        self.write, self.graph, self.bounds, self.dtype = write, graph, bounds, dtype
        self.unit = (UNIT[dtype] + 3.0 * UNIT[torch.float64]) * _ONCE
        self._finite: list[str] = []
        self._norms: dict[tuple[str, str], str] = {}

    def step(self, node: Node, operands: list[Known], proved: Mapping[Norm, NodeBound]) -> Known:
        """Write one node and its errors."""
        names = [operand.name for operand in operands]
        name = _emit(self.write, self.graph, node, names, self.dtype, True)
        if any(known.rounding.operations for known in proved.values()):
            self.watch(name, node)
        error: dict[Norm, str] = {}
        for norm, known in proved.items():
            found = self._error(node, known, operands, name, norm)
            if found is not None:
                error[norm] = found
        return Known(name, error)

    def watch(self, name: str, node: Node) -> None:
        """Remember to check that all numbers of a value are finite."""
        # A sum is NaN or infinite if one of its terms is; a maximum may pass over NaN.
        self._finite.append(self._norm(name, node, "l1"))

    def usable(self) -> str:
        """Whether everything that was watched is finite; (batch, 1) bool."""
        limit = self.write.double(1e300)
        flags = [self.write.op("LessOrEqual", name, limit) for name in dict.fromkeys(self._finite)]
        return self.write.fold("And", flags)

    def slack(self, features: Known) -> str:
        """gamma_(n+1) ((||h|| + E) ||w_j|| + |b_j|) + 4 (n+1) eta, (batch, classes)."""
        last = self.bounds.last
        if last is None:
            raise InvalidInput("the backbone does not end in nn.Linear.")
        node = self.graph.body[self.graph.features]
        size = self._norm(features.name, node, "l2")
        error = self._in_l2(features.error, math.prod(_shape(node)))
        if error is not None:
            size = self.write.op("Add", size, error)
        factor = gamma(last.operations, self.unit) * _INFLATE
        scaled = self._times(size, last.row_norms.cpu() * factor)
        offset = last.bias.cpu() * factor + 4.0 * last.operations * ETA[self.dtype]
        return self._times(self.write.op("Add", scaled, self.write.constant(offset)), _INFLATE)

    def _in_l2(self, errors: dict[Norm, str], count: int) -> str | None:
        """An l2 bound from whichever norm is there; None: exactly 0."""
        if not errors:
            return None
        if "l2" in errors:
            return errors["l2"]
        if "l1" in errors:
            return errors["l1"]
        return self._times(errors["linf"], up(math.sqrt(count)) * _INFLATE)

    def _error(
        self, node: Node, known: NodeBound, operands: list[Known], name: str, norm: Norm
    ) -> str | None:
        errors = [operand.error.get(norm) for operand in operands]
        carried = self._carried(node, known, errors, norm)
        before = operands[0].error.get(norm)
        terms = [] if carried is None else [carried]
        rounding = known.rounding
        if rounding.operations:
            if max(rounding.output_gain, 1.0) * rounding.operations > _LARGEST_GAIN:
                raise InvalidInput(
                    f"backbone.{node.name} ({node.title}) is too large for an error bound in an "
                    "exported network."
                )
            relative = gamma(rounding.operations, self.unit)
            if rounding.input_gain > 0.0:
                operand = self.graph.nodes[node.operands[0]]
                size = self._norm(operands[0].name, operand, norm)
                size = size if before is None else self.write.op("Add", size, before)
                terms.append(self._times(size, relative * rounding.input_gain * _INFLATE))
            # Not a matrix product: computed in float64 and rounded once.
            once = 0.0 if type(node.layer) in _PRODUCTS else self.unit
            gain = (relative * rounding.output_gain + once) * _INFLATE
            if gain > 0.0:
                size = self._norm(name, node, norm)
                size = size if carried is None else self.write.op("Add", size, carried)
                terms.append(self._times(size, gain))
            terms.append(self.write.double(self._offset(node, known, relative, norm)))
        if not terms:
            return None
        return self._times(self.write.fold("Add", terms), _INFLATE)

    def _offset(self, node: Node, known: NodeBound, relative: float, norm: Norm) -> float:
        shape = _shape(node)
        places = 1 if known.rounding.offset_is_total else math.prod(shape[:-1])
        count = math.prod(shape)
        ones = {"l2": count**0.5, "l1": float(count), "linf": 1.0}[norm]
        lost = (known.rounding.operations + 1) * ETA[self.dtype] + known.rounding.absolute
        underflow = 4.0 * lost * ones
        return (relative * known.rounding.offset * places + underflow) * _INFLATE

    def _carried(
        self, node: Node, known: NodeBound, errors: list[str | None], norm: Norm
    ) -> str | None:
        present = [error for error in errors if error is not None]
        if not present:
            return None
        if node.kind == "layer":
            return self._times(present[0], known.bound.value)
        if node.kind == "sum" or norm == "l1":
            return self.write.fold("Add", present)
        if norm == "linf":
            return self.write.fold("Max", present)
        squares = [self.write.op("Mul", error, error) for error in present]
        # Squares that vanish are covered as in ``norm_up``.
        root = self.write.op("Sqrt", self.write.fold("Add", squares))
        return self.write.op("Add", self._times(root, _INFLATE), self.write.double(UNDERFLOW))

    def _norm(self, name: str, node: Node, norm: Norm) -> str:
        """Upper bound of the norm of each point, (batch, 1) float64."""
        if (name, norm) not in self._norms:
            count = math.prod(_shape(node))
            flat = self.write.reshape(name, count)
            wide = flat if self.dtype == torch.float64 else self.write.cast(flat, torch.float64)
            if norm == "linf":
                wide = self.write.op("Abs", wide)
            found = self.write.reduce(_REDUCTIONS[norm], wide, 1, keep=True)
            factor = _INFLATE + gamma(count + 4, UNIT[torch.float64])
            inflated = self._times(found, factor)
            if norm == "l2":
                inflated = self.write.op("Add", inflated, self.write.double(UNDERFLOW))
            self._norms[name, norm] = inflated
        return self._norms[name, norm]

    def _times(self, name: str, factor: float | Tensor) -> str:
        if isinstance(factor, Tensor):
            return self.write.op("Mul", name, self.write.constant(factor))
        return name if factor == 1.0 else self.write.op("Mul", name, self.write.double(factor))
