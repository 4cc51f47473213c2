"""Links (heads/links.py) as ONNX, in float64, with every rounding paid for in advance.

ONNX has no ``nextafter``. Instead, with F = max |f| + max slack, d = E + eps P, each link is

    (f_j - slack_j - allowance) - (f_i + slack_i) - d D_ji
    allowance = 2^-45 (F + d max D) + 2^-900

Every intermediate is at most 2 F + d max D in size, there are fewer than ten of them, each rounded
once, by at most 2^-53 of itself: 20 * 2^-53 (F + d max D) in all, of which the allowance is more
than ten times. ``certify`` subtracts 2^-49 (F + d max D) (``ProvedLinks``), and rounds as often; so
what is left of the allowance keeps each link below that of ``certify``.
"""

from __future__ import annotations

import math

import torch

from relaxcert.errors import InvalidInput
from relaxcert.interop.onnx_export.backbone import Written
from relaxcert.interop.onnx_export.writer import Writer
from relaxcert.lipschitz.directed import fraction_up, multiply_up
from relaxcert.lipschitz.pairs import MOST_TABULATED, as_pairs
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Ball

_ALLOWED = 2.0**-45
_UNDERFLOW = 2.0**-900
# Room for another proof of the same bounds, on another machine, that ends a little higher.
_ANOTHER_PROOF = 1.0 + 2.0**-24
_LARGEST = 1e300


class OnnxLinks:
    """Rows of links for one ball.

    Attributes:
        fits: (batch, 1) bool, whether all sizes are finite, so that no link is NaN.
    """

    def __init__(
        self, write: Writer, ball: Ball, written: Written, bounds: VerifiedBounds, wide: str
    ) -> None:
        proved = bounds.norms[ball.norm]
        self.write = write
        self.classes = bounds.num_classes
        if self.classes > MOST_TABULATED:
            raise InvalidInput(
                f"the network has {self.classes} classes; an exported head holds a table of all "
                f"pairs, for up to {MOST_TABULATED}."
            )
        pairs = as_pairs(proved.pairs)
        everyone = torch.arange(self.classes, device=pairs.largest.device)
        self.table = pairs.rows(everyone).cpu()
        self.largest = float(self.table.max()) * _ANOTHER_PROOF
        self.product = proved.product * _ANOTHER_PROOF
        reach = multiply_up(fraction_up(ball.eps), proved.product) * _ANOTHER_PROOF
        if not math.isfinite(reach * self.largest):
            raise InvalidInput("the Lipschitz bound is infinite: nothing could ever be certified.")
        error = written.error.get(ball.norm)
        nothing = write.constant(torch.zeros(1, 1, dtype=torch.float64))
        self.centre = (
            nothing if error is None else self._times(error, _ANOTHER_PROOF * proved.error_scale)
        )
        self.distance = write.op("Add", self.centre, write.double(reach))
        slack = write.double(0.0) if written.slack is None else written.slack
        self.low = write.op("Sub", wide, slack)
        self.high = write.unsqueeze(write.op("Add", wide, slack), 1)
        sizes = [write.reduce("ReduceMax", write.op("Abs", wide), 1, keep=True)]
        if written.slack is not None:
            sizes.append(write.reduce("ReduceMax", slack, 1, keep=True))
        self.size = write.fold("Add", sizes)
        self.fits = write.op("LessOrEqual", self._allowance(self.distance), write.double(_LARGEST))

    def rows(self, labels: str) -> str:
        """Links over the ball; (batch, n) labels -> (batch, n, classes)."""
        return self._rows(labels, self.distance)

    def centre_rows(self, labels: str) -> str:
        """Links at x alone."""
        return self._rows(labels, self.centre)

    def radii(self, labels: str) -> str:
        """Radii: (f_j - f_i - ...) / (P D_ji), 0 if not positive, inf for constants."""
        write = self.write
        gap = self.centre_rows(labels)
        positive = write.op("Greater", gap, write.double(0.0))
        constant = self.table == 0.0
        if self.product == 0.0:
            constant = torch.ones_like(constant)
        speed = torch.where(constant, 1.0, self.table * (self.product or 1.0))
        quotient = write.op("Div", gap, self._of_pairs(speed * _ANOTHER_PROOF, labels))
        finite = write.op("Min", quotient, write.double(_LARGEST))
        never = write.op("Gather", write.constant(constant), labels, axis=0)
        radius = write.op("Where", never, write.double(math.inf), finite)
        return write.op("Where", positive, radius, write.double(0.0))

    def _rows(self, labels: str, distance: str) -> str:
        write = self.write
        own = write.op("GatherElements", self.low, labels, axis=1)
        low = write.unsqueeze(write.op("Sub", own, self._allowance(distance)), 2)
        pairs = self._of_pairs(self.table, labels)
        movement = write.op("Mul", write.unsqueeze(distance, 2), pairs)
        return write.op("Sub", write.op("Sub", low, self.high), movement)

    def _of_pairs(self, table: torch.Tensor, labels: str) -> str:
        return self.write.op("Gather", self.write.constant(table), labels, axis=0)

    def _allowance(self, distance: str) -> str:
        total = self.write.op("Add", self.size, self._times(distance, self.largest))
        return self.write.op("Add", self._times(total, _ALLOWED), self.write.double(_UNDERFLOW))

    def _times(self, name: str, factor: float) -> str:
        return self.write.op("Mul", name, self.write.double(factor))
