"""What ``certify`` returns: one certificate a point, batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.spec.property import Property
from relaxcert.spec.verdict import CERTIFIED, Verdict, unknown


@dataclass(frozen=True)
class Certificates:
    """Rigorous results for a batch of points (level R).

    Where ``certified`` is true: for every real x' with ||x' - x|| <= eps the property holds for the
    real-arithmetic function of the stored weights; if ``k`` > 0, the k classes in ``sets`` strictly
    outscore all others on the whole ball. Assumed: IEEE-754 arithmetic, matrix products by
    conventional sums, weights not changed during the call, no preprocessing outside the network.

    Attributes:
        certified: (batch,) bool.
        prediction: (batch,) class of the highest logit.
        k: (batch,) loosest certified prefix length; 0 if none, and for targeted properties and
            points that are certified in the pointwise order only.
        strictest_k: (batch,) smallest certified prefix length, 0 likewise.
        sets: (batch, classes) bool, F^k for the loosest k (targeted: the allowed classes);
            empty where nothing, or no single set, is certified.
        strictest_sets: (batch, classes) bool, F^k for the strictest k.
        margin: (batch,) float64, lower bound of the property's margin in logit units, positive
            exactly where the head certifies; -inf where no prefix may serve; NaN for non-finite
            input. A solver proves no margin: there it stays the head's.
        radius: (batch,) float64, the property is proved for every ball of at most this radius
            (units of the input, norm of the property). Compositions over different norms: NaN.
        logits: (batch, classes) float64, as computed at x.
        prop: the property; ``digest`` its SHA-256; ``fingerprint`` that of the weights.
        parts: for a composition, the certificates of its parts, by the head alone.
        escalated: (batch,) bool, the points that were certified by ``solver`` and not by the head;
            None if no solver was asked.
        prefix_radii: (batch, K) float64, for k = 1..K the largest radius at which the head proves
            F^k unchanged; 0 where it proves nothing or k may not serve. None unless a prefix
            property.
    """

    certified: Tensor
    prediction: Tensor
    k: Tensor
    strictest_k: Tensor
    sets: Tensor
    strictest_sets: Tensor
    margin: Tensor
    radius: Tensor
    logits: Tensor
    prop: Property
    digest: str
    fingerprint: str
    level: str = "R"
    parts: tuple[Certificates, ...] = ()
    escalated: Tensor | None = None
    solver: str = ""
    prefix_radii: Tensor | None = None

    def __len__(self) -> int:
        return len(self.certified)

    @property
    def verdict(self) -> tuple[Verdict, ...]:
        """CERTIFIED or UNKNOWN with the reason, one a point; a head never falsifies."""
        finite = self.logits.isfinite().all(1).tolist()
        return tuple(
            CERTIFIED if yes else unknown(_reason(ok, margin))
            for yes, ok, margin in zip(
                self.certified.tolist(), finite, self.margin.tolist(), strict=True
            )
        )

    @property
    def engine(self) -> tuple[str, ...]:
        """What certified each point: ``"head"``, the solver's name, or nothing."""
        asked = [False] * len(self) if self.escalated is None else self.escalated.tolist()
        return tuple(
            (self.solver if by_solver else "head") if certified else ""
            for certified, by_solver in zip(self.certified.tolist(), asked, strict=True)
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """One plain dictionary a point, for JSON lines."""
        columns = (
            self.prediction.tolist(),
            self.k.tolist(),
            self.strictest_k.tolist(),
            self.margin.tolist(),
            self.radius.tolist(),
        )
        engines = None if self.escalated is None else self.engine
        members, strictest_members = _members(self.sets), _members(self.strictest_sets)
        for index, verdict in enumerate(self.verdict):
            prediction, k, strictest, margin, radius = (column[index] for column in columns)
            yield {
                "prediction": prediction,
                "certified": verdict.answer.value == "certified",
                "reason": verdict.reason,
                "k": k,
                "strictest_k": strictest,
                "set": members[index],
                "strictest_set": strictest_members[index],
                "margin": margin,
                "radius": radius,
                **({} if engines is None else {"engine": engines[index]}),
            }


def concatenate(batches: Sequence[Certificates]) -> Certificates:
    """Join certificates of consecutive batches of the same network and property.

    Raises:
        InvalidInput: no batches, or batches of different properties or weights.
    """
    if not batches:
        raise InvalidInput("batches is empty: there are no certificates to join.")
    first = batches[0]
    if any((b.digest, b.fingerprint) != (first.digest, first.fingerprint) for b in batches):
        raise InvalidInput(
            "batches come from different properties or weights: join only equal ones."
        )
    tensors = {
        field.name: torch.cat([getattr(batch, field.name) for batch in batches])
        for field in fields(first)
        if isinstance(getattr(first, field.name), Tensor)
    }
    parts = tuple(
        concatenate([batch.parts[i] for batch in batches]) for i in range(len(first.parts))
    )
    return replace(first, **tensors, parts=parts)


def _members(sets: Tensor) -> list[list[int]]:
    """The classes of each row of a mask."""
    return [torch.nonzero(row).flatten().tolist() for row in sets.cpu()]


def _reason(finite: bool, margin: float) -> str:
    if not finite or margin != margin:
        return "input or logits are not finite"
    if margin == -float("inf"):
        return "no prefix of the ranking may serve: it lies in no affinity set, or is tied"
    return "the margin is not positive: the property fails, or the bound is too loose"
