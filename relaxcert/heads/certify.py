"""From a forward pass with known rounding and verified bounds to certificates."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.head import Head, Outcome
from relaxcert.heads.links import ProvedLinks, RadiusLinks
from relaxcert.lipschitz.directed import fraction_down, fraction_up, multiply_up
from relaxcert.lipschitz.forward import Forward, forward_with_error
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Ball
from relaxcert.spec.canonical import digest
from relaxcert.spec.property import Property


def proved_links(forward: Forward, bounds: VerifiedBounds) -> Callable[[Ball], ProvedLinks]:
    """The links of a batch as a function of the ball: margins, proved and rounded down."""
    logits = forward.logits.double()

    def links_in(ball: Ball) -> ProvedLinks:
        proved = bounds.norms[ball.norm]
        reach = multiply_up(fraction_up(ball.eps), proved.product)
        return ProvedLinks(logits, forward.slack, forward.error[ball.norm], proved.pairs, reach)

    return links_in


def certificates_of(
    inputs: Tensor, bounds: VerifiedBounds, head: Head, prop: Property
) -> Certificates:
    """Certify one batch of exact float64 points.

    Raises:
        InvalidInput: the points do not fit the backbone.
    """
    # Asked first: an in-place activation may overwrite the points.
    finite = inputs.isfinite().flatten(1).all(1)
    try:
        forward = forward_with_error(inputs, bounds.exact, bounds)
    except RuntimeError as error:
        raise InvalidInput(
            f"inputs of shape {tuple(inputs.shape)} do not fit the backbone: {error}"
        ) from error
    check_logits(forward.logits, len(inputs), bounds.num_classes)
    margins_in = proved_links(forward, bounds)

    def radii_in(ball: Ball) -> RadiusLinks:
        return RadiusLinks(margins_in(ball), bounds.norms[ball.norm].product)

    outcome = head(forward.logits, margins_in)
    radii = head(forward.logits, radii_in)
    finite = finite & forward.logits.isfinite().all(1)
    return _assemble(outcome, radii, forward.logits, finite, prop, bounds.fingerprint)


def check_logits(logits: Tensor, batch: int, num_classes: int) -> None:
    """Raise InvalidInput unless there is one logit a class for each point."""
    if tuple(logits.shape) != (batch, num_classes):
        raise InvalidInput(
            f"the backbone returned shape {tuple(logits.shape)}, expected "
            f"({batch}, {num_classes}): end it with nn.Flatten() and nn.Linear."
        )


def _assemble(
    outcome: Outcome,
    radii: Outcome,
    logits: Tensor,
    finite: Tensor,
    prop: Property,
    fingerprint: str,
) -> Certificates:
    certified = finite & (outcome.margin > 0)
    one_norm = len({ball.norm for ball in prop.balls}) == 1
    radius = radii.margin.clamp(min=0.0) if one_norm else torch.full_like(radii.margin, math.nan)
    if len(prop.balls) == 1:
        # Both are proofs; the last bits of their rounding differ.
        proved = radius.clamp(min=fraction_down(prop.balls[0].eps))
        radius = torch.where(certified, proved, radius)
    parts = tuple(
        _assemble(part, part_radii, logits, finite, part_property, fingerprint)
        for part, part_radii, part_property in zip(
            outcome.parts, radii.parts, prop.parts if outcome.parts else (), strict=True
        )
    )
    return Certificates(
        certified=certified,
        prediction=logits.argmax(1),
        k=outcome.loosest.where(certified, 0),
        strictest_k=outcome.strictest.where(certified, 0),
        sets=outcome.sets & certified[:, None],
        strictest_sets=outcome.strictest_sets & certified[:, None],
        margin=outcome.margin.where(finite, math.nan),
        radius=radius.where(finite, 0.0),
        logits=logits,
        prop=prop,
        digest=digest(prop),
        fingerprint=fingerprint,
        parts=parts,
    )
