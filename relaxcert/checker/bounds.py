"""Linear maps in ball arithmetic, and proofs that a number is at least the norm of one.

A map is a diagonal (a list of balls) or a matrix.
"""

from __future__ import annotations

import base64
from functools import reduce

import numpy as np
from flint import arb, arb_mat

from relaxcert.checker.certificate import Fields
from relaxcert.checker.layers import MOST_ENTRIES, Affine, Vector
from relaxcert.checker.model import Array
from relaxcert.checker.outcome import Rejected, Unreadable

Map = Vector | arb_mat


def matrix_of(numbers: Array) -> arb_mat:
    """A float64 matrix, exactly."""
    rows, columns = numbers.shape
    return arb_mat(rows, columns, numbers.ravel().tolist())


def after(action: Affine, before: Map) -> Map:
    """scale * (matrix @ before)."""
    found = before
    if action.matrix is not None and isinstance(before, list):
        found = matrix_of(action.matrix)
        if not all(factor == 1 for factor in before):
            rows = found.tolist()
            found = arb_mat([[a * f for a, f in zip(row, before, strict=True)] for row in rows])
    elif action.matrix is not None and isinstance(before, arb_mat):
        _check_size(len(action.matrix), before.ncols())
        found = matrix_of(action.matrix) * before
    if action.scale is None:
        return found
    if isinstance(found, list):
        return [factor * entry for factor, entry in zip(action.scale, found, strict=True)]
    rows = zip(action.scale, found.tolist(), strict=True)
    return arb_mat([[factor * entry for entry in row] for factor, row in rows])


def added(left: Map, right: Map) -> Map:
    """left + right."""
    if isinstance(left, list) and isinstance(right, list):
        return [a + b for a, b in zip(left, right, strict=True)]
    return _dense(left) + _dense(right)


def stacked(parts: list[Map]) -> arb_mat:
    """One below the other."""
    rows = [row for part in parts for row in _dense(part).tolist()]
    _check_size(len(rows), len(rows[0]))
    return arb_mat(rows)


def _dense(found: Map) -> arb_mat:
    if isinstance(found, arb_mat):
        return found
    _check_size(len(found), len(found))
    side = range(len(found))
    return arb_mat([[found[i] if i == j else arb(0) for j in side] for i in side])


def _check_size(rows: int, columns: int) -> None:
    if rows * columns > MOST_ENTRIES:
        raise Unreadable(f"a linear map of {rows} x {columns}: more than {MOST_ENTRIES} entries.")


def vector_norm(parts: Vector, norm: str) -> arb:
    """At least the norm of a vector with these entries.

    Of the balls only the upper ends are used: the square of a ball around 0 holds negative numbers,
    of which no root is known (NaN).
    """
    parts = [abs(part).upper() for part in parts]
    if norm == "linf":
        return reduce(arb.max, parts, arb(0))
    if norm == "l1":
        return sum(parts, arb(0))
    return sum((part * part for part in parts), arb(0)).sqrt()


def check_bound(found: arb_mat, bound: Fields | None, norm: str, path: str) -> arb:
    """``bound`` as a number that is at least the map's norm; raises Rejected."""
    step = f"bound of layer {path} ({norm})"
    if bound is None:
        raise Rejected(step, "there is none.")
    if not abs(bound["exponent"]) < (1 if bound["factor"] is None else 2**12):
        raise Rejected(step, f"exponent {bound['exponent']} is out of range.")
    if bound["factor"] is not None and norm != "l2":
        raise Rejected(step, "it has a witness, which nothing here needs.")
    value = arb(bound["bound"])
    if norm == "l2":
        proved = _spectral(found, bound, step)
    else:
        proved = value >= _largest_sum(found if norm == "linf" else found.transpose())
    if not proved or bound["bound"] < 0.0:
        raise Rejected(step, f"{bound['bound']!r} is not proved by its witness.")
    return value


def _largest_sum(matrix: arb_mat) -> arb:
    return vector_norm([vector_norm(row, "l1") for row in matrix.tolist()], "linf")


def _spectral(found: arb_mat, bound: Fields, step: str) -> bool:
    """Whether b >= ||W||_2 is proved: by L, or without one by ||W||_F or sqrt(||W||_1 ||W||_inf).

    R = b^2 I - W^T W - L L^T, with each r_ii >= sum of |r_ij| over j != i: R is positive
    semi-definite (Gershgorin), and L L^T is for any L, so b^2 I - W^T W is.
    """
    square = arb(bound["bound"]) ** 2
    if bound["factor"] is None:
        frobenius = sum((entry * entry for entry in found.entries()), arb(0))
        sums = _largest_sum(found) * _largest_sum(found.transpose())
        return bool(square >= frobenius) or bool(square >= sums)
    tall = found if found.nrows() >= found.ncols() else found.transpose()
    lower = matrix_of(_unpacked(bound["factor"], tall.ncols(), step))
    rest = tall.transpose() * tall
    rest = (rest + lower * lower.transpose() * arb(2) ** (2 * bound["exponent"])).tolist()
    return all(
        square - row[i] >= sum((abs(entry) for j, entry in enumerate(row) if j != i), arb(0))
        for i, row in enumerate(rest)
    )


def _unpacked(factor: str, side: int, step: str) -> Array:
    """The rows of a lower triangle, one after the other, float64 little-endian, base64."""
    try:
        packed = np.frombuffer(base64.b64decode(factor, validate=True), "<f8")
    except ValueError:
        packed = np.empty(0)
    if len(packed) != side * (side + 1) // 2 or not np.isfinite(packed).all():
        raise Rejected(step, f"its witness is no {side} x {side} triangle.")
    lower = np.zeros((side, side))
    lower[np.tril_indices(side)] = packed
    return lower


def distances_of(last: Map, norm: str) -> list[list[arb]]:
    """D[j][i]: the dual norm of the difference of two rows."""
    dual = {"l2": "l2", "linf": "l1", "l1": "linf"}[norm]
    # Two rows of a diagonal meet nowhere: their difference has just two entries.
    rows = [[entry] for entry in last] if isinstance(last, list) else last.tolist()
    result = [[arb(0)] * len(rows) for _ in rows]
    for j, row in enumerate(rows):
        for i, other in enumerate(rows[:j]):
            gaps = [a - b for a, b in zip(row, other, strict=True)]
            gaps = row + other if isinstance(last, list) else gaps
            result[j][i] = result[i][j] = vector_norm(gaps, dual)
    return result
