"""From the nodes of torch.fx to a graph of layers with rules, sums and concatenations.

Whatever is none of these, nor a call that stands for a layer, is refused by name. What nothing
depends on is left out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.adopt import NotUnderstood, layer_for_call
from relaxcert.lipschitz.graph import Graph, Node
from relaxcert.lipschitz.registry import kind_of, rule_for
from relaxcert.lipschitz.structure import walk
from relaxcert.nn.shapes import Part

_SUMS: dict[object, int] = {
    operator.add: 1,
    torch.add: 1,
    "add": 1,
    operator.sub: -1,
    torch.sub: -1,
    "sub": -1,
}
_BATCH = object()  # stands for x.shape[0]
_SHAPE = object()  # stands for x.shape


class GraphBuilder:
    """Turns fx's nodes into ours, one method a kind of fx node."""

    def __init__(self, backbone: nn.Module) -> None:
        self.modules = dict(walk(backbone))
        self.nodes: list[Node] = []
        self.known: dict[fx.Node, Any] = {}

    def build(self, traced: fx.Graph) -> Graph:
        """The graph of a traced module whose backbone is called ``backbone``.

        Raises:
            UnsupportedLayer: a layer or call that is not understood; names the place.
        """
        visit: dict[str, Callable[[fx.Node], Any]] = {
            "placeholder": self._placeholder,
            "call_module": self._module,
            "call_function": self._call,
            "call_method": self._call,
            "get_attr": self._attribute,
        }
        result: Any = None
        for node in traced.nodes:
            if node.op == "output":
                result = node.args[0]
            else:
                self.known[node] = visit[node.op](node)
        place = self.known.get(result) if isinstance(result, fx.Node) else None
        if not isinstance(place, int):
            raise UnsupportedLayer(
                "the forward method of the backbone must return one tensor of logits, computed "
                "from its one argument."
            )
        return _finished(self.nodes, place)

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _placeholder(self, node: fx.Node) -> int:
        if self.nodes:
            raise UnsupportedLayer("the forward method of the backbone must take one argument.")
        return self._add(Node(node.name, "input"))

    def _attribute(self, node: fx.Node) -> Any:
        name = str(node.target).removeprefix("backbone.")
        raise UnsupportedLayer(
            f"the forward method of the backbone uses backbone.{name} directly: put it into a "
            "layer (nn.Linear, nn.Conv2d, ...), whose rule then bounds it."
        )

    def _module(self, node: fx.Node) -> int:
        path = str(node.target).removeprefix("backbone").removeprefix(".")
        layer = self.modules[path]
        operands = self._tensors(node.args, path or type(layer).__name__)
        if node.kwargs or len(operands) != 1:
            raise UnsupportedLayer(f"backbone.{path} must be called with one tensor.")
        return self._add(Node(path, "layer", operands, layer, rule_for(layer, path)))

    def _call(self, node: fx.Node) -> Any:
        name = getattr(node.target, "__name__", str(node.target))
        shape = self._shape_value(node)
        if shape is not None:
            return shape
        two_tensors = len(node.args) == 2 and all(isinstance(a, fx.Node) for a in node.args)
        if node.target in _SUMS and two_tensors and not node.kwargs:
            operands = self._tensors(node.args, name)
            return self._add(Node(node.name, "sum", operands, sign=_SUMS[node.target]))
        if node.target in (torch.cat, torch.concat, torch.concatenate):
            return self._concatenation(node)
        if node.target in (torch.chunk, "chunk"):
            return self._chunks(node, name)
        if node.target is operator.getitem:
            return self._item(node)
        return self._adopted(node, name)

    def _shape_value(self, node: fx.Node) -> object | None:
        """x.shape, x.shape[0], x.size(), x.size(0): only the batch size is ever known."""
        if node.target is getattr and len(node.args) == 2 and node.args[1] == "shape":
            return _SHAPE
        if node.target == "size":
            return _SHAPE if len(node.args) == 1 else _batch_if_zero(node, node.args[1])
        if node.target is operator.getitem and self.known.get(_first(node)) is _SHAPE:
            return _batch_if_zero(node, node.args[1])
        return None

    def _concatenation(self, node: fx.Node) -> int:
        listed = node.args[0] if node.args else node.kwargs.get("tensors", ())
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if not isinstance(listed, Sequence) or not isinstance(dim, int) or dim == 0:
            raise UnsupportedLayer(
                f"{_place(node)}: torch.cat along dim={dim!r} is not understood: give a list of "
                "tensors and a dimension other than the batch."
            )
        return self._add(
            Node(node.name, "concatenation", self._tensors(tuple(listed), "cat"), dim=dim)
        )

    def _chunks(self, node: fx.Node, name: str) -> list[int]:
        source = self._tensors(node.args[:1], name)
        count = node.args[1] if len(node.args) > 1 else node.kwargs.get("chunks")
        dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        if not isinstance(count, int) or not isinstance(dim, int) or dim == 0:
            raise UnsupportedLayer(
                f"{_place(node)}: chunk needs a fixed count and dim other than 0."
            )
        parts = [Part(index, count, dim) for index in range(count)]
        return [
            self._add(Node(f"{node.name}_{i}", "layer", source, part, rule_for(part, node.name)))
            for i, part in enumerate(parts)
        ]

    def _item(self, node: fx.Node) -> int:
        parts, index = self.known.get(_first(node)), node.args[1]
        if isinstance(parts, list) and isinstance(index, int) and -len(parts) <= index < len(parts):
            return parts[index]
        raise UnsupportedLayer(
            f"{_place(node)}: indexing a tensor with {index!r} is not understood: use torch.chunk."
        )

    def _adopted(self, node: fx.Node, name: str) -> int:
        arguments, keywords = node.args, dict(node.kwargs)
        if node.target in (operator.mul, torch.mul) and not isinstance(arguments[0], fx.Node):
            arguments = (arguments[1], arguments[0])
        source = self._tensors(arguments[:1], name)
        rest = tuple(self._fixed(node, argument) for argument in arguments[1:])
        keywords = {key: self._fixed(node, value) for key, value in keywords.items()}
        try:
            layer = layer_for_call(node.target, rest, keywords)
        except NotUnderstood as error:
            raise UnsupportedLayer(
                f"{_place(node)}: the call {name} {error}, is not understood."
            ) from error
        if layer is None:
            raise UnsupportedLayer(
                f"{_place(node)}: the call {name} in the forward method of the backbone is not "
                "understood, so nothing can be certified through it: use a layer that has a rule "
                "(in-place calls are never understood, because they may change other values)."
            )
        layer.eval()
        return self._add(Node(node.name, "layer", source, layer, rule_for(layer, node.name)))

    def _fixed(self, call: fx.Node, argument: Any) -> Any:
        """An argument that is no tensor; places of nodes are numbers and must not pass for one."""
        if not isinstance(argument, fx.Node):
            return argument
        if self.known[argument] is not _BATCH and self.known[argument] is not _SHAPE:
            raise UnsupportedLayer(
                f"{_place(call)}: a second tensor enters a call that is neither a sum nor a "
                "concatenation, so nothing can be certified through it."
            )
        return self.known[argument]

    def _tensors(self, arguments: Sequence[Any], name: str) -> tuple[int, ...]:
        places = [self.known.get(a) if isinstance(a, fx.Node) else None for a in arguments]
        if not places or not all(isinstance(place, int) for place in places):
            raise UnsupportedLayer(
                f"{name} is called with something else than tensors that come from the input."
            )
        return tuple(place for place in places if place is not None)


def _first(node: fx.Node) -> Any:
    return node.args[0] if node.args else None


def _place(node: fx.Node) -> str:
    """The module whose ``forward`` makes the call, and the call's name."""
    stack: dict[str, tuple[str, type[nn.Module]]] = node.meta.get("nn_module_stack", {})
    if not stack:
        return node.name
    path, kind = list(stack.values())[-1]
    return f"{path} ({kind.__name__}), {node.name}"


def _batch_if_zero(node: fx.Node, index: Any) -> object:
    if index != 0:
        raise UnsupportedLayer(
            f"{_place(node)}: the forward method asks for size {index!r} of a tensor; only the "
            "batch size, x.shape[0], is understood: write the other sizes as numbers."
        )
    return _BATCH


def _finished(nodes: list[Node], output: int) -> Graph:
    """Keep what the output depends on, in order; find the last Linear layer."""
    _refuse_in_place_beside_other_uses(nodes)
    needed = {0, output}
    for place in range(output, 0, -1):
        if place in needed:
            needed.update(nodes[place].operands)
    kept = [place for place in range(len(nodes)) if place in needed]
    while len(kept) > 2 and isinstance(nodes[kept[-1]].layer, nn.Identity | nn.Dropout):
        if nodes[kept[-1]].operands != (kept[-2],):
            break
        kept.pop()
    moved = {place: index for index, place in enumerate(kept)}
    final = tuple(_moved(nodes[place], moved) for place in kept)
    last = final[-1]
    plain = last.layer is not None and kind_of(last.layer) is nn.Linear
    return Graph(final, last if plain else None)


def _refuse_in_place_beside_other_uses(nodes: list[Node]) -> None:
    """An in-place layer changes its operand (and what that is a view of) for every other reader."""
    read = [place for node in nodes for place in node.operands]
    if len(read) == len(set(read)):
        return
    for node in nodes:
        if getattr(node.layer, "inplace", False):
            raise UnsupportedLayer(
                f"backbone.{node.name} ({node.title}) works in place in a network with branches, "
                "where it may change values that other layers read: set inplace=False."
            )


def _moved(node: Node, places: dict[int, int]) -> Node:
    return replace(node, operands=tuple(places[place] for place in node.operands))
