"""The zero-padded convolution itself, without a torus: verified by a block-banded Cholesky factor.

Pixels that share no input have no entry in T T^T, so with pixels in row order it is banded, and so
is its Cholesky factor. The proof is that of :mod:`relaxcert.lipschitz.spectral`: for G = T T^T or
T^T T (the smaller), any c, any L,

    ||T||_2^2 <= c + ||fl(G) - G||_2 + u max|h_ii| + ||H - L L^T||_F,      H = fl(c I - fl(G))

H - L L^T is formed block by block while L is computed; only products and sums are trusted.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.lipschitz.convolution_map import Convolution
from relaxcert.lipschitz.directed import UNDERFLOW, UNIT, add_up, gamma, multiply_up, up
from relaxcert.lipschitz.lanczos import largest_eigenvalue
from relaxcert.lipschitz.spectral import verified_spectral_norm

_U = UNIT[torch.float64]
_DENSE_SIDE = 768
_DENSE_NUMBERS = 2**23
_BLOCK = 256  # rows of one block: large enough for fast products, small against the band
_MOST_OPERATIONS = 4e12  # about two minutes on one core
_WIDEST_BAND = 2**13  # its square is held in memory: 512 MiB
_FLOOR = 2.0**-80  # a group that is this much smaller than the largest weight is not resolved
_FIRST_INCREMENT = 4e-7
_ATTEMPTS = 6


def tight_norm(conv: Convolution, weight: Tensor, absolute: float) -> float:
    """Upper bound of ||T||_2 for zero padding; inf for circular and for too large maps.

    ``weight`` is the kernel scaled to about 1 and ``absolute`` >= || |T| ||_2 for it.
    """
    if any(conv.wraps(dim) for dim in range(len(conv.stride))):
        return math.inf
    links = Links.of(conv)
    # (groups, taps, outputs, inputs)
    kernels = weight.reshape(conv.groups, -1, *weight.shape[1:]).flatten(3).movedim(3, 1)
    return max(_norm_of_group(links, kernel, absolute) for kernel in kernels)


@dataclass(frozen=True, slots=True)
class Links:
    """Which pixels meet, tap by tap; -1 where a tap meets none.

    output_of: (taps, input pixels), input_of: (taps, output pixels). Pixels are numbered with the
    longest dimension slowest, which makes the band narrowest.
    """

    output_of: Tensor
    input_of: Tensor

    @classmethod
    def of(cls, conv: Convolution) -> Links:
        """Solve h = stride q + offset in every dimension, tap by tap."""
        order = sorted(range(len(conv.stride)), key=lambda dim: -conv.input_size[dim])
        stride = torch.tensor([conv.stride[dim] for dim in order])
        inputs = torch.tensor([conv.input_size[dim] for dim in order])
        outputs = torch.tensor([conv.output_size[dim] for dim in order])
        pixels = torch.tensor(list(itertools.product(*(range(int(n)) for n in outputs))))
        strides = [math.prod(inputs[dim + 1 :].tolist()) for dim in range(len(order))]
        input_of: list[Tensor] = []
        output_of: list[Tensor] = []
        for offset in conv.offsets():
            met = pixels * stride + torch.tensor([offset[dim] for dim in order])
            inside = ((met >= 0) & (met < inputs)).all(1)
            flat = (met * torch.tensor(strides)).sum(1).masked_fill(~inside, -1)
            back = torch.full((math.prod(inputs.tolist()),), -1)
            back[flat[inside]] = torch.arange(len(pixels))[inside]
            input_of.append(flat)
            output_of.append(back)
        return cls(torch.stack(output_of), torch.stack(input_of))


def _norm_of_group(links: Links, kernel: Tensor, absolute: float) -> float:
    """The norm of one group; kernel: (taps, outputs, inputs)."""
    if not bool(kernel[(links.output_of >= 0).any(1)].any()):
        return 0.0  # every tap that meets an input is 0
    rows = links.input_of.shape[1] * kernel.shape[1]
    columns = links.output_of.shape[1] * kernel.shape[2]
    if min(rows, columns) <= _DENSE_SIDE and rows * columns <= _DENSE_NUMBERS:
        return verified_spectral_norm(_dense(links, kernel))
    if columns < rows:
        links, kernel = Links(links.input_of, links.output_of), kernel.mT
    return _banded_norm(links, kernel.contiguous(), absolute)


def _dense(links: Links, kernel: Tensor) -> Tensor:
    """T, whose entries are copies of kernel entries: each pair of pixels shares one tap at most."""
    taps, outputs, inputs = kernel.shape
    dense = kernel.new_zeros(links.input_of.shape[1], links.output_of.shape[1], outputs, inputs)
    for tap in range(taps):
        met = links.input_of[tap]
        inside = met >= 0
        dense[torch.arange(len(met))[inside], met[inside]] = kernel[tap]
    return dense.transpose(1, 2).flatten(0, 1).flatten(1)


def _banded_norm(links: Links, kernel: Tensor, absolute: float) -> float:
    gram = BandedGram.of(links, kernel)
    widest = max(gram.width(block) for block in range(gram.blocks))
    size = links.input_of.shape[1] * kernel.shape[1]
    if 2.0 * size * widest**2 > _MOST_OPERATIONS or widest > _WIDEST_BAND:
        return math.inf
    guess = max(_FLOOR, largest_eigenvalue(links.input_of, links.output_of, kernel))
    # |fl(G) - G| <= gamma |T| |T|^T entrywise: products of inner length, one sum per shared tap.
    inner = kernel.shape[2] + kernel.shape[0] + 1
    product_error = multiply_up(gamma(inner, _U), absolute, absolute)
    increment = _FIRST_INCREMENT
    for _ in range(_ATTEMPTS):
        shift = guess * (1.0 + increment)
        error = _factor_error(gram, shift)
        if math.isfinite(error):
            return up(math.sqrt(add_up(shift, product_error, error, UNDERFLOW)))
        increment *= 4.0
    return math.inf


@dataclass(frozen=True, slots=True)
class BandedGram:
    """The lower triangle of T T^T, handed out in strips of some rows.

    products: (pairs of taps, c * c) the c x c products kernel_j kernel_k^T; rows, columns, pair:
    the pixel blocks to which they are added, ordered by row; starts: per strip, the first of them.
    """

    channels: int
    pixels: int
    step: int
    products: Tensor
    rows: Tensor
    columns: Tensor
    pair: Tensor
    starts: list[int]
    first: list[int]

    @classmethod
    def of(cls, links: Links, kernel: Tensor) -> BandedGram:
        """Pair all taps that meet in one input pixel."""
        taps, channels, _ = kernel.shape
        products = (kernel[:, None] @ kernel[None].mT).reshape(taps * taps, -1)
        rows: list[Tensor] = []
        columns: list[Tensor] = []
        pairs: list[Tensor] = []
        for j, k in itertools.product(range(taps), repeat=2):
            row, column = links.output_of[j], links.output_of[k]
            kept = (column >= 0) & (row >= column)
            rows.append(row[kept])
            columns.append(column[kept])
            pairs.append(torch.full((int(kept.sum()),), j * taps + k))
        row, order = torch.cat(rows).sort(stable=True)
        column, pair = torch.cat(columns)[order], torch.cat(pairs)[order]
        pixels, step = links.input_of.shape[1], max(1, _BLOCK // channels)
        edges = torch.arange(0, pixels + step, step)
        starts: list[int] = torch.searchsorted(row, edges).tolist()
        # The first block that a strip or any later one reaches: the band never widens leftwards.
        reach = [
            int(column[a:b].min()) // step if b > a else index
            for index, (a, b) in enumerate(itertools.pairwise(starts))
        ]
        first = list(itertools.accumulate(reversed(reach), min))[::-1]
        return cls(channels, pixels, step, products, row, column, pair, starts, first)

    @property
    def blocks(self) -> int:
        """The number of strips."""
        return len(self.first)

    def width(self, block: int) -> int:
        """The numbers in one row of a strip."""
        return (min(self.pixels, (block + 1) * self.step) - self.first[block] * self.step) * (
            self.channels
        )

    def strip(self, block: int) -> Tensor:
        """Rows of one block, columns from ``first`` on; only the lower half of the last block."""
        start, stop = self.starts[block], self.starts[block + 1]
        height = min(self.pixels, (block + 1) * self.step) - block * self.step
        across = self.width(block) // self.channels
        row = self.rows[start:stop] - block * self.step
        column = self.columns[start:stop] - self.first[block] * self.step
        flat = self.products.new_zeros(height * across, self.products.shape[1])
        flat.index_add_(0, row * across + column, self.products[self.pair[start:stop]])
        shape = (height, across, self.channels, self.channels)
        return flat.reshape(shape).transpose(1, 2).reshape(height * self.channels, -1)


def _factor_error(gram: BandedGram, shift: float) -> float:
    """u max|h_ii| + ||H - L L^T||_F for H = fl(shift I - G), or inf if some block has no factor.

    Block (q, p): S = fl(H - sum over r < p of L_qr L_pr^T), L_qp = S L_pp^-T by any method, and
    R = fl(S - L_qp L_pp^T). With K products in the longest sum,

        ||H - L L^T||_F <= (1 + 4 u) ||R||_F + gamma_(K+4) ||L||_F^2
    """
    side = gram.step * gram.channels
    done: dict[int, Tensor] = {}
    residual, factors, diagonal, longest = 0.0, 0.0, 0.0, 0
    for q in range(gram.blocks):
        row = -gram.strip(q)
        low = gram.first[q]
        for old in [p for p in done if p < low]:
            del done[old]
        corner = row[:, (q - low) * side :]
        corner.diagonal().add_(shift)
        diagonal = max(diagonal, float(corner.diagonal().abs().max()))
        longest = max(longest, row.shape[1])
        for p in range(low, q + 1):
            missed = _eliminate(row, low, done, gram.first, p, q, side)
            if not math.isfinite(missed):
                return math.inf
            residual = add_up(residual, missed)
        done[q] = row
        factors = add_up(factors, _squares_up(row))
    return add_up(
        multiply_up(_U, diagonal),
        multiply_up(up(math.sqrt(residual)), 1.0 + 8.0 * _U),
        multiply_up(gamma(longest + 4, _U), factors),
    )


def _eliminate(
    row: Tensor, low: int, done: dict[int, Tensor], first: list[int], p: int, q: int, side: int
) -> float:
    """Replace block (q, p) of the strip by that of L; return its share of ||R||_F^2, or inf."""
    here = slice((p - low) * side, (p - low + 1) * side)
    # Strip p is zero left of its own first block, which is at most ``low``: the band narrows
    # to the right only.
    left = row[:, : here.start]
    skipped = (low - first[p]) * side
    above = left if p == q else done[p][:, skipped : skipped + here.start]
    rest = row[:, here] - left @ above.mT
    if p == q:
        rest = rest.tril() + rest.tril(-1).mT
        factor, failed = torch.linalg.cholesky_ex(rest)
        if int(failed) != 0:
            return math.inf
        row[:, here] = factor
        return _squares_up(rest - factor @ factor.mT)
    pivot = done[p][:, -side:]
    block = torch.linalg.solve_triangular(pivot, rest.mT, upper=False).mT
    row[:, here] = block
    # The same block stands above the diagonal once more.
    share = 2.0 * _squares_up(rest - block @ pivot.mT)
    return share if math.isfinite(share) else math.inf


def _squares_up(values: Tensor) -> float:
    squares = float(values.square().sum())
    return multiply_up(squares, up(1.0 + gamma(values.numel() + 4, _U)))
