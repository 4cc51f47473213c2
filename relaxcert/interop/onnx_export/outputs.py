"""The outputs of an exported network: logits with bottom, certified, k, set, radius."""

from __future__ import annotations

import math

import torch

from relaxcert.interop.onnx_export.heads import OnnxOutcome
from relaxcert.interop.onnx_export.writer import Writer
from relaxcert.lipschitz.directed import fraction_down
from relaxcert.spec.property import Property

# Twice the distance to the next number, and a smallest number that no engine flushes to zero.
_STEP = {torch.float32: 2.0**-22, torch.float64: 2.0**-51}
_TINY = {torch.float32: 2.0**-126, torch.float64: 2.0**-1022}

# name, type, sizes (-1: classes + what stands last)
Output = tuple[str, torch.dtype, list[int | str], int]


def write_outputs(
    write: Writer,
    prop: Property,
    outcome: OnnxOutcome,
    logits: str,
    wide: str,
    usable: str,
    dtype: torch.dtype,
) -> list[Output]:
    """Name the outputs.

    Args:
        write: the graph.
        prop: the property.
        outcome: what the head says.
        logits: (batch, classes), in ``dtype``.
        wide: the same in float64.
        usable: (batch, 1) bool, whether all numbers on the way were finite.
        dtype: of the network.
    """
    positive = write.op("Greater", outcome.margin, write.double(0.0))
    certified = write.op("And", usable, positive)
    bottom = _bottom(write, outcome, wide, usable, certified, dtype)
    largest = torch.tensor(torch.finfo(dtype).max, dtype=dtype)
    finite = write.op("LessOrEqual", write.op("Abs", logits), write.constant(largest))
    shown = write.op("Where", finite, logits, write.constant(-largest))
    write.named(write.op("Concat", shown, bottom, axis=1), "logits")
    write.named(_flat(write, certified), "certified")
    none = write.constant(torch.zeros((), dtype=torch.int64))
    write.named(_flat(write, write.op("Where", certified, outcome.loosest, none)), "k")
    write.named(write.op("And", outcome.sets, certified), "set")
    write.named(_flat(write, _radius(write, prop, outcome, usable, certified)), "radius")
    return [
        ("logits", dtype, ["batch", -1], 1),
        ("certified", torch.bool, ["batch"], 0),
        ("k", torch.int64, ["batch"], 0),
        ("set", torch.bool, ["batch", -1], 0),
        ("radius", torch.float64, ["batch"], 0),
    ]


def _bottom(
    write: Writer,
    outcome: OnnxOutcome,
    wide: str,
    usable: str,
    certified: str,
    dtype: torch.dtype,
) -> str:
    """max_i f_i - m, rounded up (heads/bottom.py); (batch, 1).

    Where the point is certified, at most the highest logit, which is a number of this type above
    the exact value; a tie goes to the class, as bottom stands last. Elsewhere above the highest.
    Each is raised by a multiple of its size that exceeds the rounding of what follows.
    """
    finite = write.op("Greater", outcome.margin, write.double(-math.inf))
    margin = write.op("Where", finite, outcome.margin, outcome.fallback)
    highest = write.reduce("ReduceMax", wide, 1, keep=True)
    size = write.op("Add", write.op("Abs", highest), write.op("Abs", margin))
    step = write.op("Mul", size, write.double(_STEP[dtype]))
    raised = write.op("Add", step, write.double(_TINY[dtype]))
    bottom = write.op("Add", write.op("Sub", highest, margin), raised)
    below = write.op("Min", bottom, highest)
    above = write.op("Max", bottom, write.op("Add", highest, raised))
    chosen = write.op("Where", certified, below, above)
    # Where a number on the way is not finite, nothing is known.
    return write.cast(write.op("Where", usable, chosen, write.double(math.inf)), dtype)


def _radius(
    write: Writer, prop: Property, outcome: OnnxOutcome, usable: str, certified: str
) -> str:
    """In units of the input norm; NaN for balls of several norms, as there is no one unit."""
    if len({ball.norm for ball in prop.balls}) > 1:
        return write.op("Where", usable, write.double(math.nan), write.double(0.0))
    radius = write.op("Max", outcome.radius, write.double(0.0))
    if len(prop.balls) == 1:
        eps = write.double(fraction_down(prop.balls[0].eps))
        radius = write.op("Where", certified, write.op("Max", radius, eps), radius)
    return write.op("Where", usable, radius, write.double(0.0))


def _flat(write: Writer, name: str) -> str:
    return write.op("Squeeze", name, write.whole(1))
