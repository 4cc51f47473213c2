"""The margin of a label: of the best certificate whose set would hold it.

A point counts for the VRA when it is certified with a set that holds its label y (paper, section
6.1). With a uniform quantifier that is so exactly where M_y > 0,

    M_y = max over admissible sets S that hold y of
          min over j in S and i not in S of f_j - f_i - eps K_ji,

because an S that is separated on the ball is F^|S| at its centre, and the loosest certified set
holds every other certified one. Nothing in it asks which class of S scores highest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.links import EstimatedLinks, Links
from relaxcert.heads.outcome import Head, LinksIn
from relaxcert.heads.prefix import prefix_margins
from relaxcert.heads.prefix_head import PrefixHead, active_link, ranked_links


def label_margin(head: Head, logits: Tensor, links_in: LinksIn, labels: Tensor) -> Tensor:
    """M_y for each point, differentiable where the links are; (batch,).

    Of the sets of one size inside one affinity set, the one with the highest logits is taken: no
    other can have a positive margin. Labels that lie in no affinity set get a margin of at most 0.

    Args:
        head: of a prefix property with a uniform quantifier.
        logits: (batch, classes).
        links_in: the links of the batch, as for ``head``.
        labels: (batch,), int64.

    Raises:
        InvalidInput: the property is of another kind.
    """
    if not isinstance(head, PrefixHead) or head.pointwise:
        raise InvalidInput(
            "the margin of a label needs a certificate with a set: use Local, TopK, RelaxedTopK or "
            "Affinity with quantifier='uniform', or another loss."
        )
    links = links_in(head.ball)
    with torch.no_grad():
        found = [
            _best_in(head, links, logits, labels, inside, held)
            for inside, held in _sets_with(head, logits.shape[1])
        ]
        turn = torch.stack([candidate.margin for candidate in found]).argmax(0)
    chosen = _Candidate(*(_pick(tensors, turn) for tensors in zip(*found, strict=True)))
    value = chosen.value
    if isinstance(links, EstimatedLinks):
        value = active_link(links, chosen.order, chosen.place[:, None])
    return torch.where(chosen.margin.isneginf(), value.clamp(max=0.0), value)


class _Candidate(NamedTuple):
    """The best certificate with one affinity set for each point.

    shape: order (batch, K); all others (batch,)
    """

    margin: Tensor  # -inf where no set that holds the label is admissible
    order: Tensor
    place: Tensor  # of the link that decides, in the flattened (K, K + 1) links
    value: Tensor  # of that link


def _best_in(
    head: PrefixHead, links: Links, logits: Tensor, labels: Tensor, inside: Tensor, held: Tensor
) -> _Candidate:
    """``inside`` (classes, classes) is one set a class, ``held`` whether it holds that class."""
    order = _first_the_label(logits, inside[labels], labels, head.depth)
    lengths = torch.arange(1, head.depth + 1, device=logits.device)
    usable = (head.serves & (lengths <= inside.sum(1, keepdim=True)) & held[:, None])[labels]
    ranked = ranked_links(links, order)
    margin, k = prefix_margins(ranked).masked_fill(~usable, -math.inf).max(1)
    # If no k may serve, the first is taken: the stand-in is made from m^1.
    flat = ranked.flatten(1)
    place = flat.masked_fill(head.barred[k], math.inf).argmin(1)
    return _Candidate(margin, order, place, flat.gather(1, place[:, None])[:, 0])


def _pick(tensors: tuple[Tensor, ...], turn: Tensor) -> Tensor:
    """Of each point, the entry of the turn that was best."""
    return torch.stack(tensors)[turn, torch.arange(len(turn), device=turn.device)]


def _sets_with(head: PrefixHead, num_classes: int) -> list[tuple[Tensor, Tensor]]:
    """For each class, the sets that hold it, one after the other, as masks of their members.

    Each entry: (classes, classes) bool, a set for each class, the last one repeated for classes
    with fewer sets; and (classes,) bool, whether it holds the class at all. Without affinity sets
    there is one, the set of all classes.
    """
    if head.outside is None:
        everything = torch.ones(
            num_classes, num_classes, dtype=torch.bool, device=head.serves.device
        )
        return [(everything, everything[0])]
    inside = ~head.outside  # (sets, classes)
    count = inside.sum(0)
    # In the column of a class, the sets that hold it come first.
    order = inside.float().sort(dim=0, descending=True, stable=True).indices
    column = torch.arange(num_classes, device=count.device)
    last = (count - 1).clamp(min=0)
    return [
        (inside[order[last.clamp(max=turn), column]], count > 0)
        for turn in range(head.sets_a_class)
    ]


def _first_the_label(logits: Tensor, inside: Tensor, labels: Tensor, depth: int) -> Tensor:
    """The label, then the others of its set by descending logit; (batch, depth)."""
    scores = logits.detach().masked_fill(~inside, -math.inf)
    return scores.scatter(1, labels[:, None], math.inf).topk(depth, dim=1).indices
