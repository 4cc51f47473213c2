"""The network in ball arithmetic: logits that contain the exact ones, and bounds re-proved.

The network is the real-arithmetic function of the stored numbers. Every quantity is a ball of
python-flint (arb), which contains the exact value; a comparison is true only if it is certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb, arb_mat

from relaxcert.checker.certificate import Bound
from relaxcert.checker.model import Layer
from relaxcert.checker.outcome import Rejected, Unreadable

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far logit differences move per unit of the norm: product * distances[j][i]."""

    product: arb
    distances: list[list[arb]]


def logits_of(layers: Sequence[Layer], inputs: Array) -> list[list[arb]]:
    """The logits of each point, (points, classes); lowered layers, inputs (points, ...)."""
    points = len(inputs)
    values = [arb(number) for number in inputs.reshape(points, -1).T.astype("f8").ravel().tolist()]
    for layer in layers:
        match layer.kind:
            case "Linear":
                values = _affine(layer, values, points)
            case "MinMax":
                values = _sorted_pairs(layer, values, points)
            case "InputNormalisation":
                values = _normalised(layer, values, points)
            case "ReLU":
                values = [value.max(arb(0)) for value in values]
            case "Abs":
                values = [abs(value) for value in values]
            case "LeakyReLU":
                slope = arb(layer.fields["negative_slope"])
                values = [value.max(slope * value) for value in values]
            case _:
                raise Unreadable(f"layer {layer.path} ({layer.kind}) cannot be computed here.")
    return [values[point::points] for point in range(points)]


def matrix_of(numbers: Array) -> arb_mat:
    """A float64 matrix, exactly."""
    rows, columns = numbers.shape
    return arb_mat(rows, columns, numbers.ravel().tolist())


def _affine(layer: Layer, values: list[arb], points: int) -> list[arb]:
    weight = layer.numbers["weight"]
    products = (matrix_of(weight) * arb_mat(weight.shape[1], points, values)).entries()
    offsets = [arb(number) for number in layer.numbers["bias"].tolist()]
    return [value + offsets[i // points] for i, value in enumerate(products)]


def _sorted_pairs(layer: Layer, values: list[arb], points: int) -> list[arb]:
    result = list(values)
    lefts, rights = layer.numbers["left"].tolist(), layer.numbers["right"].tolist()
    for left, right in zip(lefts, rights, strict=True):
        for point in range(points):
            a, b = values[left * points + point], values[right * points + point]
            result[left * points + point] = a.min(b)
            result[right * points + point] = a.max(b)
    return result


def _normalised(layer: Layer, values: list[arb], points: int) -> list[arb]:
    means, stds = layer.numbers["mean"].tolist(), layer.numbers["std"].tolist()
    pairs = [(arb(m), arb(s)) for m, s in zip(means, stds, strict=True)]
    return [
        (value - pairs[i // points][0]) / pairs[i // points][1] for i, value in enumerate(values)
    ]


def check_bound(layer: Layer, bound: Bound | None, norm: str) -> arb:
    """Re-prove a layer's constant from its numbers and its witness; raises Rejected."""
    if layer.kind not in ("Linear", "InputNormalisation"):
        if bound is not None:
            raise Rejected(_step(layer, norm), "its constant is 1 by definition.")
        return arb(1)
    if bound is None:
        raise Rejected(_step(layer, norm), "there is none.")
    if bound.factor is not None and (layer.kind != "Linear" or norm != "l2"):
        raise Rejected(_step(layer, norm), "it has a witness, which nothing here needs.")
    value = arb(bound.value)
    if layer.kind == "InputNormalisation":
        proved = bool(value * arb(float(layer.numbers["std"].min())) >= 1)
    elif norm == "l2":
        proved = _spectral(layer, bound)
    else:
        proved = value >= _largest_sum(layer.numbers["weight"], 1 if norm == "linf" else 0)
    if not proved or bound.value < 0.0:
        raise Rejected(_step(layer, norm), f"{bound.value!r} is not proved by its witness.")
    return value


def _step(layer: Layer, norm: str) -> str:
    return f"bound of layer {layer.path} ({norm})"


def _largest_sum(weight: Array, axis: int) -> arb:
    rows = weight if axis == 1 else weight.T
    sums = [sum((arb(number) for number in row), arb(0)) for row in np.abs(rows).tolist()]
    largest = arb(0)
    for total in sums:
        largest = largest.max(total)
    return largest


def _spectral(layer: Layer, bound: Bound) -> bool:
    """Whether b >= ||W||_2 is proved: by L, or without one by ||W||_F or sqrt(||W||_1 ||W||_inf).

    R = b^2 I - W^T W - L L^T, with each r_ii >= sum of |r_ij| over j != i: R is positive
    semi-definite (Gershgorin), and L L^T is for any L, so b^2 I - W^T W is.
    """
    weight, square = layer.numbers["weight"], arb(bound.value) ** 2
    if bound.factor is None:
        frobenius = sum((arb(number) ** 2 for number in weight.ravel().tolist()), arb(0))
        sums = _largest_sum(weight, 0) * _largest_sum(weight, 1)
        return bool(square >= frobenius) or bool(square >= sums)
    matrix = matrix_of(weight if weight.shape[0] >= weight.shape[1] else weight.T)
    lower = matrix_of(_unpacked(layer, bound, matrix.ncols()))
    rest = matrix.transpose() * matrix
    scale = arb(2) ** (2 * bound.exponent)
    rest = (rest + lower * lower.transpose() * scale).tolist()
    return all(
        square - row[i] >= sum((abs(entry) for j, entry in enumerate(row) if j != i), arb(0))
        for i, row in enumerate(rest)
    )


def _unpacked(layer: Layer, bound: Bound, side: int) -> Array:
    """The rows of a lower triangle, one after the other, float64 little-endian."""
    packed = np.frombuffer(bound.factor or b"", "<f8") if len(bound.factor or b"") % 8 == 0 else ()
    if len(packed) != side * (side + 1) // 2 or not np.isfinite(packed).all():
        raise Rejected(_step(layer, bound.norm), f"its witness is no {side} x {side} triangle.")
    lower = np.zeros((side, side))
    lower[np.tril_indices(side)] = packed
    return lower


def distances_of(last: Layer | None, classes: int, norm: str) -> list[list[arb]]:
    """D[j][i]: the dual norm of w_j - w_i; without a last Linear layer that of e_j - e_i."""
    if last is None:
        other = {"l2": arb(2).sqrt(), "linf": arb(2), "l1": arb(1)}[norm]
        return [[arb(0) if i == j else other for i in range(classes)] for j in range(classes)]
    rows = [[arb(number) for number in row] for row in last.numbers["weight"].tolist()]
    result = [[arb(0)] * classes for _ in range(classes)]
    for j in range(classes):
        for i in range(j):
            gaps = [a - b for a, b in zip(rows[j], rows[i], strict=True)]
            result[j][i] = result[i][j] = _dual_norm(gaps, norm)
    return result


def _dual_norm(gaps: list[arb], norm: str) -> arb:
    if norm == "l2":
        return sum((gap * gap for gap in gaps), arb(0)).sqrt()
    if norm == "linf":
        return sum((abs(gap) for gap in gaps), arb(0))
    largest = arb(0)
    for gap in gaps:
        largest = largest.max(abs(gap))
    return largest
