"""The network in ball arithmetic: logits that contain the exact ones, and bounds re-proved.

The network is the real-arithmetic function of the stored numbers. Every quantity is a ball of
python-flint (arb), which contains the exact value; a comparison is true only if it is certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flint import arb, arb_mat

from relaxcert.checker.bounds import (
    Map,
    added,
    after,
    check_bound,
    distances_of,
    matrix_of,
    stacked,
    vector_norm,
)
from relaxcert.checker.certificate import Fields
from relaxcert.checker.layers import KINDS, Affine, Bent, Layer, Shape, Vector
from relaxcert.checker.model import Array
from relaxcert.checker.outcome import Rejected, Unreadable

_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Step:
    """One operation; the value of step n has number n + 1, the network's input number 0."""

    path: str
    action: Affine | Bent | Literal["sum", "concatenation"]
    operands: tuple[int, ...]
    size: int


def steps_of(architecture: Any, tensors: dict[str, Array], shape: Shape) -> tuple[list[Step], int]:
    """The network's steps for points of this shape, and the number of classes.

    Raises:
        Unreadable: layers that are not known, that do not fit each other or the points, or too
            large matrices; tensors that are missing or left over.
    """
    if not shape:
        raise Unreadable("the data hold one number a point, expected (points, ...).")
    unused, steps = dict(tensors), list[Step]()
    _, shape = _add(architecture, "", (0, shape), unused, steps, 0)
    if unused:
        raise Unreadable(f"tensors that no layer uses: {', '.join(sorted(unused))[:200]}.")
    if len(shape) != 1 or shape[0] < 2:
        raise Unreadable(f"the network gives {shape} for a point, expected one logit a class.")
    return steps, shape[0]


def _add(fields: Any, path: str, value: tuple[int, Shape], tensors: dict[str, Array],
         steps: list[Step], depth: int) -> tuple[int, Shape]:  # fmt: skip
    """Add what ``fields`` describe, applied to a value (its number and shape); the result."""
    kind = fields.get("kind") if isinstance(fields, dict) and depth < _DEPTH else None

    def inner(child: Any, name: str, source: tuple[int, Shape]) -> tuple[int, Shape]:
        below = f"{path}.{name}" if path else name
        return _add(child, below, source, tensors, steps, depth + 1)

    if kind == "Sequential" and isinstance(fields.get("children"), dict):
        for name, child in fields["children"].items():
            value = inner(child, name, value)
        return value
    if kind == "Residual":
        results = [value, inner(fields.get("block"), "block", value)]
        action: Any = "sum"
        fits, shape = results[0][1] == results[1][1], value[1]
    elif kind == "Concatenation" and isinstance(fields.get("branches"), list):
        branches = enumerate(fields["branches"])
        results = [inner(branch, f"branches.{i}", value) for i, branch in branches]
        action, shapes = "concatenation", [shape for _, shape in results]
        fits = bool(shapes) and all(shape[1:] == shapes[0][1:] for shape in shapes)
        shape = (sum(shape[0] for shape in shapes), *shapes[0][1:]) if fits else ()
    elif isinstance(kind, str) and kind in KINDS:
        action, shape = KINDS[kind](Layer(path, fields, tensors, value[1]))
        results, fits = [value], True
    else:
        raise Unreadable(
            f"layer {path} is a {str(kind)[:80]}, which this checker does not know (it knows "
            f"{', '.join(('Sequential', 'Residual', 'Concatenation', *KINDS))}): nothing is said "
            "about certificates of such networks."
        )
    if not fits:
        raise Unreadable(f"layer {path}: its parts do not fit each other.")
    if action is None:
        return value[0], shape
    steps.append(Step(path, action, tuple(place for place, _ in results), math.prod(shape)))
    return len(steps), shape


def logits_of(steps: Sequence[Step], inputs: Array) -> list[Vector]:
    """The logits of each point, (points, classes); inputs (points, ...)."""
    points = inputs.reshape(len(inputs), -1).astype("f8").tolist()
    values = [[[arb(number) for number in point] for point in points]]
    last_use = {place: number for number, step in enumerate(steps) for place in step.operands}
    for number, step in enumerate(steps):
        operands = [values[place] for place in step.operands]
        if isinstance(step.action, Affine):
            values.append(_affine(step.action, operands[0]))
        elif isinstance(step.action, Bent):
            values.append([step.action.run(point) for point in operands[0]])
        elif step.action == "sum":
            pairs = zip(*operands, strict=True)
            values.append([[a + b for a, b in zip(*pair, strict=True)] for pair in pairs])
        else:
            values.append([sum(parts, Vector()) for parts in zip(*operands, strict=True)])
        for place in step.operands:
            values[place] = [] if last_use[place] == number else values[place]
    return values[-1]


def _affine(action: Affine, points: list[Vector]) -> list[Vector]:
    if action.matrix is not None:
        points = (arb_mat(points) * matrix_of(action.matrix.T)).tolist()
    if action.scale is not None:
        points = [[s * x for s, x in zip(action.scale, point, strict=True)] for point in points]
    if action.shift is not None:
        points = [[x + b for x, b in zip(point, action.shift, strict=True)] for point in points]
    return points


@dataclass(frozen=True, slots=True)
class Reach:
    """How far logit differences move per unit of the norm: product * distances[j][i]."""

    product: arb
    distances: list[list[arb]]


@dataclass(frozen=True, slots=True)
class _Part:
    """A value as a linear map of the value of an earlier step, the anchor (and a constant).

    ``speed``: per norm, how fast the anchor moves.
    """

    place: int
    path: str
    map: Map
    anchor: int
    speed: Mapping[str, arb]


def reaches_of(
    steps: Sequence[Step], bounds: Mapping[tuple[str, str], Fields], norms: Iterable[str], size: int
) -> dict[str, Reach]:
    """Re-prove how far the logits move, in every norm, from the bounds and their witnesses.

    All that is linear between two other functions is one map; ``bounds`` holds one number a map,
    by the layer that ends it. A diagonal map needs none. The last map is compared row by row.

    Args:
        steps: the network.
        bounds: claims, by norm and layer.
        norms: that the property uses.
        size: of the input.
    """
    known = {norm: dict[int, arb]() for norm in norms}
    parts = [_Part(0, "", [arb(1)] * size, 0, dict.fromkeys(known, arb(1)))]
    for number, step in enumerate(steps, 1):
        operands = [parts[place] for place in step.operands]
        first = operands[0]
        linear = _linear(step, operands)
        if linear is not None:
            parts.append(_Part(number, step.path, linear, first.anchor, first.speed))
        else:
            speeds = {n: _speed_after(step, operands, n, bounds, known[n]) for n in known}
            parts.append(_Part(number, step.path, [arb(1)] * step.size, number, speeds))
    used = {(norm, parts[place].path) for norm, found in known.items() for place in found}
    for norm, path in bounds:
        if (norm, path) not in used:
            raise Rejected(f"bound of layer {path} ({norm})", "no such map or norm has a bound.")
    last = parts[-1]
    return {norm: Reach(last.speed[norm], distances_of(last.map, norm)) for norm in known}


def _linear(step: Step, operands: Sequence[_Part]) -> Map | None:
    """The step's value as a map of the anchor that its operands share; None if it is no such."""
    maps = [part.map for part in operands]
    if isinstance(step.action, Affine):
        return after(step.action, maps[0])
    if isinstance(step.action, Bent) or len({part.anchor for part in operands}) > 1:
        return None
    return added(*maps) if step.action == "sum" else stacked(maps)


def _speed_after(
    step: Step,
    operands: Sequence[_Part],
    norm: str,
    bounds: Mapping[tuple[str, str], Fields],
    known: dict[int, arb],
) -> arb:
    """How fast a step's value moves, from how fast its operands do."""
    speeds = Vector()
    for part in operands:
        if isinstance(part.map, list):
            speeds.append(part.speed[norm] * vector_norm(part.map, "linf"))
            continue
        # By place, for nothing forbids two layers of one path.
        if part.place not in known:
            bound = bounds.get((norm, part.path))
            known[part.place] = check_bound(part.map, bound, norm, part.path)
        speeds.append(part.speed[norm] * known[part.place])
    if isinstance(step.action, Bent):
        return speeds[0] * getattr(step.action, norm)
    return sum(speeds, arb(0)) if step.action == "sum" else vector_norm(speeds, norm)
