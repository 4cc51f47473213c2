"""Export of a network's property at points: one folder of VNN-LIB files and a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.files import write_text
from relaxcert.heads.certify import proved_links
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.interop.vnnlib.manifest import (
    FORMAT,
    MANIFEST,
    RULE,
    AllNode,
    AnyNode,
    FileNode,
    Manifest,
    Node,
    PointEntry,
)
from relaxcert.interop.vnnlib.writer import Point, Version, input_set, vnnlib_text
from relaxcert.lipschitz.forward import forward_with_error
from relaxcert.spec.ball import format_eps
from relaxcert.spec.canonical import canonical_json
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.property import Property
from relaxcert.spec.ranking import Ranking
from relaxcert.spec.targeted import Targeted
from relaxcert.spec.violation import EveryPart, Queries, Query, queries_of

# Longer canonical texts are named by their digest alone.
_LONGEST_NOTE = 2000
_UNCERTAIN = (
    "logits at x are so close that float64 does not tell which classes lead, so no file can state "
    "what must hold there"
)


@dataclass
class _Files:
    """Writes the files of one point."""

    folder: Path
    point: Point
    version: Version
    notes: list[str]
    stem: str
    count: int = field(default=0)

    def node_of(self, queries: Queries) -> Node:
        """Write the files of a tree of queries; each gets a number in the order of the tree."""
        if isinstance(queries, Query):
            return self._written(queries)
        children = tuple(self.node_of(part) for part in queries.parts)
        return AllNode(all=children) if isinstance(queries, EveryPart) else AnyNode(any=children)

    def _written(self, query: Query) -> FileNode:
        name = f"{self.stem}-{self.count}.vnnlib"
        self.count += 1
        about = [f"prefix lengths k: {' '.join(map(str, query.ks))}"] if query.ks else []
        text = vnnlib_text(query, self.point, version=self.version, notes=[*self.notes, *about])
        write_text(self.folder / name, text)
        return FileNode(
            file=name,
            ks=query.ks,
            eps=format_eps(query.ball.eps),
            norm=query.ball.norm,
            inputs=input_set(query.ball, self.version),
            conjunctions=len(query.violation),
        )


def export_vnnlib(
    net: GloRoNet,
    inputs: Tensor,
    folder: str | Path,
    *,
    version: Version = "1.0",
    class_names: tuple[str, ...] | None = None,
) -> Manifest:
    """Write the property of ``net`` at each point as VNN-LIB files, and ``manifest.json``.

    The files speak of inputs X (as the first layer receives them, row-major) and outputs Y (the
    backbone's logits, larger is better): give tools the backbone, without the bottom logit.

    Args:
        net: the network; its weights decide the ranking at each point.
        inputs: (points, ...); each number is taken exactly.
        folder: made if it is missing; files in it with the same names are replaced.
        version: of VNN-LIB; see :mod:`relaxcert.interop.vnnlib.writer` for what l2 becomes.
        class_names: for the comments and the manifest.

    Raises:
        InvalidInput: no points, NaN or infinity; and the errors of ``certify``.
        InvalidProperty: a pointwise property whose violation is too large to write.
    """
    if len(inputs) == 0 or inputs.dim() < 2:
        raise InvalidInput(
            f"inputs has shape {tuple(inputs.shape)}, expected (points, ...) and at least one "
            "point."
        )
    target = Path(folder)
    shape = tuple(inputs.shape[1:])
    canonical = canonical_json(net.prop)
    notes = [f"property sha256 {net.digest}"]
    if len(canonical) <= _LONGEST_NOTE:
        notes.append(f"property {canonical}")
    points: list[PointEntry] = []
    for index, (row, ranking) in enumerate(zip(inputs, certain_rankings(net, inputs), strict=True)):
        if ranking is None:
            points.append(PointEntry(index=index, skipped=_UNCERTAIN))
            continue
        point = Point(tuple(row.double().flatten().tolist()), shape, net.num_classes)
        about = [f"point {index}", _order_in_words(ranking, class_names)]
        files = _Files(target, point, version, [*notes, *about], f"point-{index:05d}")
        tree = files.node_of(queries_of(net.prop, ranking))
        points.append(PointEntry(index=index, order=ranking.order, robust=tree))
    manifest = Manifest(
        format=FORMAT,
        version=1,
        vnnlib=version,
        rule=RULE,
        property=json.loads(canonical),
        digest=net.digest,
        weights_sha256=net.verify(shape).fingerprint,
        num_classes=net.num_classes,
        input_shape=shape,
        class_names=class_names,
        points=tuple(points),
    )
    write_text(target / MANIFEST, manifest.to_json())
    return manifest


def certain_rankings(net: GloRoNet, inputs: Tensor) -> Iterator[Ranking | None]:
    """The ranking at each point, or None where rounding may have confused a set that matters.

    Raises the errors of ``certify``.
    """
    centre = inputs.detach().double()
    if not bool(centre.isfinite().all()):
        raise InvalidInput("inputs holds NaN or infinity: remove such points before an export.")
    bounds = net.verify(tuple(centre.shape[1:]))
    with torch.no_grad():
        forward = forward_with_error(centre, bounds.exact, bounds)
        order = forward.logits.argsort(dim=1, descending=True, stable=True)
        # f_j - f_i at x, proved and rounded down, in rank coordinates.
        gaps = proved_links(forward, bounds)(net.prop.balls[0]).centre_rows(order)
        gaps = gaps.gather(2, order[:, None, :].expand_as(gaps))
    lengths = _lengths_that_matter(net.prop, net.num_classes)
    for row, gap in zip(order.tolist(), gaps, strict=True):
        certain = all(bool((gap[:k, k:] > 0.0).all()) for k in lengths)
        yield Ranking(tuple(row)) if certain else None


def _lengths_that_matter(prop: Property, num_classes: int) -> set[int]:
    """The k whose sets F^k(x) the property speaks of."""
    if len(prop.parts) > 1:
        return {k for part in prop.parts for k in _lengths_that_matter(part, num_classes)}
    if isinstance(prop, PrefixProperty):
        return set(prop.lengths())
    return {1} if isinstance(prop, Targeted) else set(range(1, num_classes))


def _order_in_words(ranking: Ranking, class_names: tuple[str, ...] | None) -> str:
    names = ranking.order if class_names is None else [class_names[c] for c in ranking.order]
    text = ", ".join(map(str, names))
    return f"classes by score at the point: {text}" if len(text) <= _LONGEST_NOTE else ""
