"""The head's bounds of logit differences against exact local Lipschitz constants."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.smt.pieces import local_lipschitz
from relaxcert.smt.query import Budget, Region
from relaxcert.smt.translate import exact_network


@dataclass(frozen=True, slots=True)
class Constants:
    """Proved bounds of logit differences over exact local constants around one point.

    Attributes:
        index: its place in the data.
        ratios: K_ji over the largest dual norm of a gradient of f_j - f_i in the ball, each pair
            whose constant is not 0; never below 1 where the bounds are right.
        wrong: pairs whose bound is below the constant, decided exactly: none, or K is wrong.
        pieces: linear pieces that were found.
        complete: whether the enumeration came to its end.
    """

    index: int
    ratios: tuple[float, ...]
    wrong: tuple[tuple[int, int], ...]
    pieces: int
    complete: bool


def constants(
    net: GloRoNet, inputs: Tensor, *, budget: Budget | float | str = 60.0
) -> list[Constants]:
    """The head's K_ji against exact local constants in the property's (first) ball; (batch, ...).

    Enumerates linear pieces: practical to some twenty open units.

    Args:
        net: the network.
        inputs: the points.
        budget: wall time for each point.
    """
    ball = net.prop.balls[0]
    proved = net.verify(tuple(inputs.shape[1:])).norms[ball.norm]
    network = exact_network(net.backbone, tuple(inputs.shape[1:]))
    results: list[Constants] = []
    for index, numbers in enumerate(inputs.detach().double().cpu().flatten(1).tolist()):
        region = Region.around(tuple(map(Fraction, numbers)), ball)
        found = local_lipschitz(network, region, ball.norm, budget=budget)
        bounds = {(j, i): proved.product * float(proved.pairs[j, i]) for j, i in found.largest}
        results.append(
            Constants(
                index,
                tuple(bounds[p] / found.value(*p) for p in found.largest if found.largest[p] > 0),
                tuple(p for p in found.largest if found.exceeds(*p, bounds[p])),
                found.pieces,
                found.complete,
            )
        )
    return results
