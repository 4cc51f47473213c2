"""The symbol of a convolution on a torus, and its verified largest norm over all frequencies.

Polyphase form: input positions are split by their remainder r modulo the stride; then every output
q meets x_r[q + a] for whole shifts a, and a torus of M positions per phase diagonalises the map:

    F(w)[o, (i, r)] = sum over taps j of phase r of weight[o, i, j] exp(2 pi i w . a_j / M)

The zero-padded map is a part (some rows, some columns) of the map on a torus of stride * M
positions that is long enough for no tap to reach an input round the back, see :func:`torus_size`.
So ||T||_2 <= max over w of ||F(w)||_2; a shorter torus gives numbers below the truth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from relaxcert.lipschitz.batched import batch_squared_norm
from relaxcert.lipschitz.convolution_map import Convolution, Ints
from relaxcert.lipschitz.directed import UNIT, add_up, gamma, multiply_up, up

_U = UNIT[torch.float64]
_CHUNK = 2**22  # numbers of one tensor held at once: 32 MiB
_BITS = 200  # of the fixed-point numbers from which the roots of unity are rounded
# A torus norm below this share of the largest weight is not resolved further.
_FLOOR = 2.0**-40


@dataclass(frozen=True, slots=True)
class Phase:
    """The taps that meet inputs of one remainder: their indices and their shifts a."""

    taps: list[int]
    shifts: list[Ints]


def torus_size(conv: Convolution, dim: int) -> int:
    """M, the positions per phase of a torus that contains the map in this dimension.

    Zero padding: output q and tap t = d j - left read position s q + t. On Z_L, L = s M, inputs sit
    at 0 .. n - 1; the lowest read is -left and must fall at or above n, the highest is
    s (outputs - 1) + extent - 1 - left and must not pass L - 1; outputs must be distinct:

        s M >= max(n, n + left, s (outputs - 1) + extent - left, s outputs)

    (The right padding enters through the number of outputs only; the last term is implied by the
    others wherever two outputs that are not always 0 could meet.) Circular: s M = n, exactly.
    """
    n, s = conv.input_size[dim], conv.stride[dim]
    if conv.wraps(dim):
        return n // s
    left, outputs = conv.padding[dim][0], conv.output_size[dim]
    length = max(n, n + left, s * (outputs - 1) + conv.extent[dim] - left, s * outputs)
    return -(-length // s)


def phases(conv: Convolution) -> list[Phase]:
    """The taps grouped by remainder modulo the stride; shifts start at 0 in each phase.

    Moving all shifts of a phase alike multiplies its columns by numbers of modulus 1.
    """
    groups: dict[Ints, Phase] = {}
    for tap, offset in enumerate(conv.offsets()):
        split = [divmod(t, s) for t, s in zip(offset, conv.stride, strict=True)]
        phase = groups.setdefault(tuple(r for _, r in split), Phase([], []))
        phase.taps.append(tap)
        phase.shifts.append(tuple(a for a, _ in split))
    for phase in groups.values():
        first = [min(column) for column in zip(*phase.shifts, strict=True)]
        phase.shifts[:] = [
            tuple(a - f for a, f in zip(shift, first, strict=True)) for shift in phase.shifts
        ]
    return list(groups.values())


def absolute_taps(conv: Convolution, weight: Tensor) -> Tensor:
    """S = sum of |taps| of each phase: (groups, outputs, inputs * phases), entries rounded up.

    |F(w)| <= S entrywise for every w, and F of |weight| at w = 0 is S. Every row of the true map
    has entries of |weight| that sum to at most a row sum of S, every column likewise: an input
    meets the taps of its own phase only.
    """
    taps = weight.abs().flatten(2)
    count = taps.shape[2]
    parts = [taps[:, :, phase.taps].sum(2) for phase in phases(conv)]
    total = torch.cat(parts, 1) * (1.0 + gamma(count + 1, _U))
    return total.reshape(conv.groups, -1, total.shape[1])


def torus_norm(conv: Convolution, weight: Tensor, absolute: float) -> float:
    """Upper bound of ||T||_2 by all frequencies of a sufficient torus; ``weight`` about 1.

    ``absolute`` >= ||S||_2 of :func:`absolute_taps`. With t taps, twiddles within u and sums in any
    order, the computed symbol is off by at most sqrt(2) gamma_(t+2) S in every entry, so

        ||F|| <= ||computed F|| + delta_DFT,   delta_DFT = sqrt(2) gamma_(t+2) ||S||_2
    """
    squared = _FLOOR**2
    for real, imag in symbols(conv, weight):
        squared = batch_squared_norm(real, imag, squared)
    delta = multiply_up(up(math.sqrt(2.0)), gamma(len(conv.offsets()) + 2, _U), absolute)
    return add_up(up(math.sqrt(squared)), delta)


def symbols(conv: Convolution, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Real and imaginary parts of F, in chunks of frequencies: (batch, outputs, inputs * phases).

    The batch runs over frequencies and groups. F(-w) is the conjugate of F(w): half are enough.
    """
    parts = phases(conv)
    outputs, inputs = weight.shape[0] // conv.groups, weight.shape[1]
    # (taps, groups, outputs, inputs)
    taps = weight.flatten(2).movedim(2, 0).reshape(-1, conv.groups, outputs, inputs)
    tables = [taps[phase.taps].flatten(1) for phase in parts]
    frequencies, periods, steps = _grid(conv, parts)
    order = math.lcm(*periods)
    roots = unit_roots(order)
    per_dim = torch.tensor([order // period for period in periods])
    width = conv.groups * (outputs * inputs * len(parts) + min(outputs, inputs * len(parts)) ** 2)
    for block in frequencies.split(max(1, _CHUNK // width)):
        real: list[Tensor] = []
        imag: list[Tensor] = []
        for table, step in zip(tables, steps, strict=True):
            twiddles = roots[((block * per_dim) @ step.mT) % order]
            shape = (len(block) * conv.groups, outputs, inputs)
            real.append((twiddles[:, :, 0] @ table).reshape(shape))
            imag.append((twiddles[:, :, 1] @ table).reshape(shape))
        yield torch.cat(real, 2), torch.cat(imag, 2)


def _grid(conv: Convolution, parts: list[Phase]) -> tuple[Tensor, Ints, list[Tensor]]:
    """Frequencies (count, dims), their period per dimension, and the shifts in units of it.

    Where all shifts a are multiples of g, exp(2 pi i w a / M) repeats after M / gcd(M, g)
    frequencies: dilation needs fewer, and a kernel no longer than its stride a single one.
    """
    dims = range(len(conv.stride))
    sizes = [torus_size(conv, dim) for dim in dims]
    units = [
        math.gcd(sizes[dim], *(shift[dim] for phase in parts for shift in phase.shifts))
        for dim in dims
    ]
    periods = tuple(size // unit for size, unit in zip(sizes, units, strict=True))
    longest = max(dims, key=lambda dim: periods[dim])
    ranges = [range(p // 2 + 1) if dim == longest else range(p) for dim, p in enumerate(periods)]
    steps = [torch.tensor(phase.shifts) // torch.tensor(units) for phase in parts]
    return torch.tensor(list(itertools.product(*ranges))), periods, steps


@lru_cache(maxsize=32)
def unit_roots(order: int) -> Tensor:
    """(cos, sin) of 2 pi r / order for r < order, each within u = 2^-53; not to be written to.

    In whole numbers scaled by 2^200, so that no library's cos and sin need be believed: pi by
    Machin's formula, the first root by its power series, the others by multiplication. Errors stay
    below order * 2^-190, those of the final (correctly rounded) division below 2^-54.
    """
    one = 1 << _BITS
    pi = 4 * (4 * _arctan_of_inverse(5) - _arctan_of_inverse(239))
    angle = 2 * pi // order
    first = [0, 0]
    term, index = one, 0
    while term:
        # i^index angle^index / index!: even terms are real, and signs change every second one.
        first[index % 2] += term if index % 4 < 2 else -term
        index += 1
        term = (term * angle >> _BITS) // index
    cos, sin = one, 0
    rows: list[tuple[float, float]] = []
    for _ in range(order):
        rows.append((cos / one, sin / one))
        cos, sin = (
            (cos * first[0] - sin * first[1]) >> _BITS,
            (cos * first[1] + sin * first[0]) >> _BITS,
        )
    return torch.tensor(rows, dtype=torch.float64)


def _arctan_of_inverse(x: int) -> int:
    """arctan(1 / x) * 2^200, within 200."""
    power = (1 << _BITS) // x
    total, index = power, 1
    while power:
        power //= x * x
        index += 2
        total += -(power // index) if index % 4 == 3 else power // index
    return total
