"""Verified bounds of a whole backbone, tied to the exact weights they were proved for."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, UnsupportedLayer, UnsupportedPrecision
from relaxcert.lipschitz.arithmetic import check_arithmetic
from relaxcert.lipschitz.directed import UNIT, multiply_up
from relaxcert.lipschitz.folded_pairs import folded_distances
from relaxcert.lipschitz.folding import Folding, is_foldable
from relaxcert.lipschitz.graph import Graph
from relaxcert.lipschitz.materialised import materialised
from relaxcert.lipschitz.matrix import checked_matrix, pair_distances, row_norms
from relaxcert.lipschitz.memory import Memory
from relaxcert.lipschitz.pairs import (
    MOST_TABULATED,
    ConstantPairs,
    Pairs,
    TablePairs,
    VerifiedRows,
)
from relaxcert.lipschitz.propagation import NodeBound, node_bounds
from relaxcert.lipschitz.rules import constant_of_any_map, pairs_of_any_map
from relaxcert.lipschitz.snapshot import same_tensors, tensors_of
from relaxcert.lipschitz.tracing import trace
from relaxcert.spec.ball import Norm


@dataclass(frozen=True, slots=True)
class LayerBound:
    """One row of the table of bounds; ``total`` is that of the map from the input to here."""

    path: str
    kind: str
    norm: Norm
    bound: float
    method: str
    verified: bool
    total: float


@dataclass(frozen=True, slots=True)
class NormBounds:
    """Bounds in one norm.

    Attributes:
        rows: one row a layer; the last layer's row is informative where ``pairs`` replaces it.
        body: one entry a node of ``Graph.body``, the input first.
        product: upper bound P of the constant of the body, x -> h.
        distances: D[j, i], float64: P D_ji is an upper bound of the constant of x -> f_j - f_i,
            K_ji (paper, section 5.1).
        error_scale: error_scale D_ji is one of the constant of h -> f_j - f_i, by which errors of
            h grow; above 1 where linear layers before the last one are folded into D.
    """

    rows: tuple[LayerBound, ...]
    body: tuple[NodeBound, ...]
    product: float
    distances: Pairs
    error_scale: float = 1.0

    @property
    def pairs(self) -> Tensor:
        """D as one tensor, (C, C); made anew where it is not kept, which takes C^2 numbers."""
        if isinstance(self.distances, TablePairs):
            return self.distances.table
        return self.distances.rows(torch.arange(self.distances.classes))


@dataclass(frozen=True, slots=True)
class LastLayer:
    """What bounds the rounding of the logits: l2 norms of the rows, sizes of the biases."""

    operations: int
    row_norms: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class VerifiedBounds:
    """Everything that was proved about one backbone with one set of weights.

    ``exact`` is a float64 copy of the backbone, in eval mode, on the device of the original.
    ``snapshot`` holds the weights as they were; a bound is used only while they are unchanged.
    ``input_shape`` (without the batch) is the only one for which the bounds hold; None: any.
    ``frozen``: where weights are computed (parametrised layers), the network in its own precision
    with the numbers that they were; the bounds speak of these. ``remembered``: what heads derive
    from the bounds once.
    """

    fingerprint: str
    signature: tuple[str, ...]
    snapshot: tuple[Tensor, ...]
    exact: Graph
    norms: dict[Norm, NormBounds]
    last: LastLayer | None
    num_classes: int
    input_shape: tuple[int, ...] | None = None
    frozen: Graph | None = None
    tight: bool = False
    remembered: dict[Any, Any] = field(
        default_factory=dict[Any, Any], init=False, compare=False, repr=False
    )

    def still_hold(
        self, backbone: nn.Module, graph: Graph | None = None, same_graph: bool = False
    ) -> bool:
        """Whether structure and weights are those of the proof, compared number by number.

        ``graph``: the backbone's present graph, if the caller has it; ``same_graph``: the caller
        knows it to be that of the proof, every setting of its layers included.
        """
        return same_tensors(tensors_of(backbone), self.snapshot) and (
            same_graph or (graph or trace(backbone)).signature == self.signature
        )

    def at_node(self, place: int) -> dict[Norm, NodeBound]:
        """What is known of one node of ``Graph.body``, per norm."""
        return {norm: proved.body[place] for norm, proved in self.norms.items()}

    def covers(self, input_shape: tuple[int, ...]) -> bool:
        """Whether the bounds hold for inputs of this shape (without the batch)."""
        return self.input_shape is None or self.input_shape == input_shape


def fingerprint(backbone: nn.Module) -> str:
    """SHA-256 (hex) over structure, shapes, types and values of all (materialised) weights."""
    digest = hashlib.sha256()
    plain = materialised(backbone)
    for line in trace(plain).signature:
        digest.update(line.encode() + b"\n")
    for tensor in tensors_of(plain):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def verify(
    backbone: nn.Module,
    norms: Iterable[Norm],
    num_classes: int,
    input_shape: tuple[int, ...] | None = None,
    *,
    tight: bool = False,
    on_layer: Callable[[str, int], object] | None = None,
    memory: Memory | None = None,
) -> VerifiedBounds:
    """Prove the bounds of every layer, in each of ``norms``, for inputs of ``input_shape``.

    ``tight`` takes seconds a layer for smaller bounds of small convolutions. ``on_layer`` is called
    when a layer is done: with its name, and how many there are in all. ``memory``: what is proved
    of layers already, and where the new proofs are kept.

    Raises:
        UnsupportedLayer: a layer without a rule.
        UnsupportedPrecision: weights that are not float32 or float64, or arithmetic that is not
            IEEE-754.
        InvalidWeights: NaN, infinite or empty weights.
        InvalidInput: a bound depends on the shape of the input, and none or an odd one is given.
    """
    # Bounds are proved on the CPU, wherever the backbone is.
    check_arithmetic(torch.device("cpu"))
    live = trace(backbone)
    refuse_train_mode(live)
    refuse_half_precision(backbone)
    plain = materialised(backbone)
    snapshot = tuple(tensor.clone() for tensor in tensors_of(backbone))
    device = snapshot[0].device if snapshot else torch.device("cpu")
    on_cpu = copy.deepcopy(plain).to("cpu", torch.float64).eval()
    graph = _with_shape(trace(on_cpu), input_shape)
    if tight:
        graph = graph.tightened()
    folding = Folding(graph, tight=tight)
    known = Memory() if memory is None else memory
    known.new_round()
    wanted = tuple(dict.fromkeys(norms))
    told = None if on_layer is None else _with_total(on_layer, len(graph.body) * len(wanted))
    proved: dict[Norm, NormBounds] = {
        norm: _in_norm(graph, norm, num_classes, device, folding, told, known) for norm in wanted
    }
    exact = graph if device.type == "cpu" else trace(copy.deepcopy(on_cpu).to(device))
    return VerifiedBounds(
        fingerprint=fingerprint(backbone),
        signature=live.signature,
        snapshot=snapshot,
        exact=exact,
        norms=proved,
        last=_last_layer(graph, device),
        num_classes=num_classes,
        input_shape=graph.nodes[0].shape,
        frozen=None if plain is backbone else trace(plain.eval()),
        tight=tight,
    )


def _with_shape(graph: Graph, input_shape: tuple[int, ...] | None) -> Graph:
    if not graph.needs_shape and (input_shape is None or not is_foldable(graph)):
        return graph
    if input_shape is None:
        needing = next(n for n in graph.layers if n.rule is not None and n.rule.needs_shape)
        raise InvalidInput(
            f"input_shape is missing: the bound of backbone.{needing.name} ({needing.title}) "
            "depends on the size of the input, so give it: GloRoNet(backbone, prop, "
            "input_shape=(channels, height, width)), or certify points first."
        )
    return graph.with_shapes(input_shape)


def refuse_train_mode(graph: Graph) -> None:
    """Raise UnsupportedLayer for layers that compute something else in train mode (BatchNorm)."""
    for node in graph.layers:
        only_in_eval = node.rule is not None and node.rule.only_in_eval_mode
        if only_in_eval and node.layer is not None and node.layer.training:
            raise UnsupportedLayer(
                f"backbone.{node.name} ({node.title}) is in train mode, where its output depends "
                "on the other points of the batch: call net.eval() before certifying."
            )


def refuse_half_precision(backbone: nn.Module) -> None:
    """Raise UnsupportedPrecision unless all weights are plain, and the floating ones 32 or 64 bit.

    Subclasses of Tensor (quantised, sharded) compute products in a way of their own.
    """
    for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers()):
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
            raise UnsupportedPrecision(
                f"{name} is a {type(tensor).__name__} of layout {tensor.layout}, not a plain dense "
                "tensor, so its products may be computed in a way of its own: certify the network "
                "with dense float32 or float64 weights."
            )
        counts = tensor.is_floating_point() or tensor.is_complex()
        if counts and tensor.dtype not in UNIT:
            raise UnsupportedPrecision(
                f"{name} has dtype {tensor.dtype}: certificates are given for float32 and float64 "
                "weights only; cast the network with .float() first."
            )


def _with_total(on_layer: Callable[[str, int], object], total: int) -> Callable[[str], object]:
    return lambda name: on_layer(name, total)


def _in_norm(
    graph: Graph,
    norm: Norm,
    num_classes: int,
    device: torch.device,
    folding: Folding,
    on_layer: Callable[[str], object] | None,
    memory: Memory,
) -> NormBounds:
    body = node_bounds(graph, norm, folding, on_layer, memory)
    rows = [
        LayerBound(node.name, node.title, norm, b.bound.value, b.bound.method, True, b.total)
        for node, b in zip(graph.body, body, strict=True)
        if node.kind != "input"
    ]
    product = body[graph.features].total
    distances, scale = _distances(graph, norm, num_classes, device), 1.0
    if graph.last is not None and isinstance(distances, TablePairs):
        table, scale = folded_distances(folding, norm, body, distances.table.cpu())
        distances = TablePairs(table.to(device))
    if graph.last is not None and graph.last.rule is not None:
        last, _ = memory.layer(graph.last, norm)
        folded = " through the linear layers before it" if scale > 1.0 else ""
        method = f"{last.method}; certificates use per-pair row distances{folded}"
        total = multiply_up(product, last.value)
        rows.append(LayerBound(graph.last.name, "Linear", norm, last.value, method, True, total))
    return NormBounds(tuple(rows), body, product, distances, scale)


def _distances(graph: Graph, norm: Norm, num_classes: int, device: torch.device) -> Pairs:
    """D: a table for a moderate number of classes, else rows that are proved when needed."""
    many = num_classes > MOST_TABULATED
    if graph.last is None:
        if many:
            return ConstantPairs(constant_of_any_map(norm), num_classes, device)
        return TablePairs(pairs_of_any_map(num_classes, norm).to(device))
    weight = checked_matrix(graph.last_weight, "weight of the last layer")
    if many:
        return VerifiedRows(weight.to(device), norm)
    return TablePairs(pair_distances(weight, norm).to(device))


def _last_layer(graph: Graph, device: torch.device) -> LastLayer | None:
    if graph.last is None:
        return None
    weight = checked_matrix(graph.last_weight, "weight of the last layer")
    bias: Tensor | None = getattr(graph.last.layer, "bias", None)
    size = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.detach().abs()
    return LastLayer(weight.shape[1] + 1, row_norms(weight).to(device), size.to(device))
