"""How large a network exact arithmetic can take, estimated before anything is built."""

from __future__ import annotations

import math
from itertools import pairwise

from relaxcert.errors import RelaxcertError
from relaxcert.lipschitz.graph import Graph
from relaxcert.smt.network import ExactNetwork

# Exact integers take about 100 bytes each: 4 million are 400 MB, and minutes to multiply.
MAX_ENTRIES = 4_000_000
MAX_BITS = 20_000


class NetworkTooLarge(RelaxcertError, ValueError):
    """The network holds more numbers than exact arithmetic handles here; says what would fit."""


def check_size(graph: Graph) -> None:
    """Refuse networks whose exact matrices would be too large, from the shapes alone.

    Raises:
        NetworkTooLarge: too many numbers; names the largest step and what would fit.
    """
    sizes = [math.prod(node.shape or (0,)) for node in graph.nodes]
    worst = max(sizes)
    steps = [
        sizes[place] * max(sizes[o] for o in node.operands)
        for place, node in enumerate(graph.nodes)
        if node.operands
    ]
    total = sum(steps)
    if total > MAX_ENTRIES:
        width = math.isqrt(MAX_ENTRIES // max(1, len(steps)))
        place = max(range(len(steps)), key=steps.__getitem__) + 1
        node = graph.nodes[place]
        raise NetworkTooLarge(
            f"the backbone is too large for exact arithmetic: its layers as matrices hold about "
            f"{total:,} numbers (the largest: backbone.{node.name}, {steps[place - 1]:,}; the "
            f"widest value has {worst:,} numbers), and the limit is {MAX_ENTRIES:,}. Would fit: "
            f"{len(steps)} layers of up to {width} numbers each. Check a smaller network that was "
            "trained in the same way."
        )


def too_long(network: ExactNetwork) -> str | None:
    """Why exact runs would take too long, if they would: the numbers grow by their length."""
    growth = sum(max(stage.skip.bits, stage.pre.bits + stage.gain.bits) for stage in network.stages)
    bits = growth + network.output.bits
    if bits <= MAX_BITS:
        return None
    return (
        f"size: exact values would have about {bits:,} bits each, and the limit is {MAX_BITS:,}; "
        "weights of very different magnitude cause this"
    )


def widths(network: ExactNetwork) -> tuple[int, ...]:
    """The sizes of the states, for people."""
    sizes = [network.inputs, *(stage.skip.rows for stage in network.stages), network.classes]
    return tuple(size for size, _ in pairwise([*sizes, 0]))
