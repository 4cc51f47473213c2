"""From a forward pass with known rounding and verified bounds to certificates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput, StaleBounds
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.links import ProvedLinks
from relaxcert.heads.outcome import Head, Outcome
from relaxcert.lipschitz.deployed import deployed_forward
from relaxcert.lipschitz.directed import finite_rows, fraction_down, fraction_up, multiply_up
from relaxcert.lipschitz.forward import Forward, forward_with_error
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Ball
from relaxcert.spec.canonical import digest
from relaxcert.spec.property import Property


def proved_links(
    forward: Forward, bounds: VerifiedBounds, *, radii: bool = False
) -> Callable[[Ball], ProvedLinks]:
    """The links of a batch as a function of the ball: margins, proved and rounded down."""
    logits = forward.logits.double()

    def links_in(ball: Ball) -> ProvedLinks:
        proved = bounds.norms[ball.norm]
        reach = multiply_up(fraction_up(ball.eps), proved.product)
        product = proved.product if radii else None
        error = forward.error[ball.norm]
        return ProvedLinks(logits, forward.slack, error, proved.distances, reach, product)

    return links_in


def certificates_of(
    inputs: Tensor,
    bounds: VerifiedBounds,
    head: Head,
    prop: Property,
    deployed: torch.dtype | None = None,
) -> Certificates:
    """Certify one batch of exact float64 points; ``deployed``: at level D for that format.

    Raises:
        InvalidInput: the points do not fit the backbone.
    """
    # Asked first: an in-place activation may overwrite the points.
    finite = finite_rows(inputs)
    try:
        if deployed is None:
            forward = forward_with_error(inputs, bounds.exact, bounds)
            reached = dict.fromkeys(prop.balls, forward)
        else:
            reached = deployed_forward(inputs, bounds, prop.balls, deployed)
            forward = reached[prop.balls[0]]
    except StaleBounds:
        raise
    except RuntimeError as error:
        raise InvalidInput(
            f"inputs of shape {tuple(inputs.shape)} do not fit the backbone: {error}"
        ) from error
    check_logits(forward.logits, len(inputs), bounds.num_classes)

    def links_in(ball: Ball) -> ProvedLinks:
        return proved_links(reached[ball], bounds, radii=True)(ball)

    outcome = head(forward.logits, links_in)
    finite = finite & finite_rows(forward.logits)
    certificates = assemble(outcome, forward.logits, finite, prop, bounds.fingerprint)
    return certificates if deployed is None else _at_level_d(certificates, deployed)


def _at_level_d(certificates: Certificates, deployed: torch.dtype) -> Certificates:
    """Say so, and limit the radius: rounding was bounded on the ball of eps and not beyond."""
    limit = min(fraction_down(ball.eps) for ball in certificates.prop.balls)
    prefix_radii = certificates.prefix_radii
    return replace(
        certificates,
        level=f"D({str(deployed).removeprefix('torch.')})",
        radius=certificates.radius.clamp(max=limit),
        prefix_radii=None if prefix_radii is None else prefix_radii.clamp(max=limit),
        parts=tuple(_at_level_d(part, deployed) for part in certificates.parts),
    )


def check_logits(logits: Tensor, batch: int, num_classes: int) -> None:
    """Raise InvalidInput unless there is one logit a class for each point."""
    if tuple(logits.shape) != (batch, num_classes):
        raise InvalidInput(
            f"the backbone returned shape {tuple(logits.shape)}, expected "
            f"({batch}, {num_classes}): end it with nn.Flatten() and nn.Linear."
        )


def assemble(
    outcome: Outcome, logits: Tensor, finite: Tensor, prop: Property, fingerprint: str
) -> Certificates:
    """Certificates from what the head says; ``finite``: (batch,), which points may count."""
    certified = finite & (outcome.margin > 0)
    radius = torch.full_like(outcome.margin, math.nan)
    if outcome.radius is not None and len({ball.norm for ball in prop.balls}) == 1:
        radius = outcome.radius.clamp(min=0.0)
    if len(prop.balls) == 1:
        # Both are proofs; the last bits of their rounding differ.
        proved = radius.clamp(min=fraction_down(prop.balls[0].eps))
        radius = torch.where(certified, proved, radius)
    prefix_radii = outcome.prefix_radii
    if prefix_radii is not None:
        prefix_radii = prefix_radii.clamp(min=0.0).where(finite[:, None], 0.0)
    parts = tuple(
        assemble(part, logits, finite, part_property, fingerprint)
        for part, part_property in zip(
            outcome.parts, prop.parts if outcome.parts else (), strict=True
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
        prefix_radii=prefix_radii,
    )
