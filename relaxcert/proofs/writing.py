"""Writing certificates as a file of claims with witnesses.

JSON lines, each the canonical JSON of its value: a header, the bounds of the linear maps with their
witnesses, the certified points, a seal. Nothing in it is executed, and a checker believes none of
it.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, UnsupportedLayer
from relaxcert.files import write_atomically
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.matrix import induced_norm
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import fingerprint
from relaxcert.nn.architecture import describe
from relaxcert.proofs.segments import Segment, check_provable, segments
from relaxcert.proofs.witness import spectral_witness
from relaxcert.spec.ball import Norm
from relaxcert.spec.canonical import canonical_json
from relaxcert.spec.property import Conjunction, Disjunction

FORMAT, VERSION = "relaxcert-certificate", 2


def write_proof(
    net: GloRoNet, inputs: Tensor, certificates: Certificates, path: str | Path
) -> Path:
    """Write the certified points of ``certificates``, with what is needed to re-check them.

    Args:
        net: the network that gave the certificates, with unchanged weights.
        inputs: the very points that were certified, (points, ...), in the network's units.
        certificates: of all ``inputs``, in order.
        path: the file; replaced atomically.

    Raises:
        InvalidInput: certificates of other points, weights or another property.
        UnsupportedLayer: a backbone that cannot be written as data.
    """
    if len(certificates) != len(inputs):
        raise InvalidInput(
            f"certificates has {len(certificates)} points, inputs {len(inputs)}: give the points "
            "that were certified, all of them, in order."
        )
    if certificates.fingerprint != fingerprint(net.backbone):
        raise InvalidInput(
            "certificates were given for other weights than the network has now: certify again."
        )
    if certificates.level != "R" or certificates.digest != net.digest:
        raise InvalidInput(
            f"certificates are of level {certificates.level} and property {certificates.digest}; "
            f"a proof is written for level R and the network's own property, {net.digest}."
        )
    check_provable(net.backbone)
    hashes = list(_hashes(inputs))
    header = {
        "kind": "header",
        "format": FORMAT,
        "version": VERSION,
        "level": "R",
        "property": json.loads(canonical_json(net.prop)),
        "digest": certificates.digest,
        "weights": hash_of_weights(net.backbone),
        "inputs": hashlib.sha256(b"".join(hashes)).hexdigest(),
        "points": len(inputs),
        "certified": int(certificates.certified.sum()),
    }

    def write(name: Path) -> None:
        seal = hashlib.sha256()
        with name.open("wb") as file:
            for value in (header, *_bounds(net, inputs.shape[1:]), *_points(certificates, hashes)):
                line = _line(value)
                seal.update(line)
                file.write(line)
            file.write(_line({"kind": "end", "sha256": seal.hexdigest()}))

    return write_atomically(path, write)


def hash_of_weights(backbone: nn.Module) -> str:
    """SHA-256 of the canonical architecture and of names, types, shapes and bytes, by name.

    Canonical JSON sorts the names of a table, so children are written as a list of pairs.
    """
    found = hashlib.sha256(_canonical(_in_order(describe(backbone))).encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        stored = tensor.detach().cpu().contiguous().numpy()
        kind = stored.dtype.newbyteorder("<")
        found.update(f"\n{_canonical([name, kind.str, list(stored.shape)])}\n".encode())
        found.update(stored.astype(kind).tobytes())
    return found.hexdigest()


def _in_order(description: dict[str, Any]) -> dict[str, Any]:
    """A description whose children are pairs of name and child, in the order in which they run."""
    match description:
        case {"kind": "Sequential", "children": children}:
            pairs = [[name, _in_order(child)] for name, child in children.items()]
            return {**description, "children": pairs}
        case {"kind": "Residual", "block": block}:
            return {**description, "block": _in_order(block)}
        case {"kind": "Concatenation", "branches": branches}:
            return {**description, "branches": [_in_order(branch) for branch in branches]}
        case _:
            return description


def _bounds(net: GloRoNet, shape: torch.Size) -> Iterator[dict[str, Any]]:
    """One line for each linear map and norm."""
    exact = copy.deepcopy(net.backbone).to("cpu", torch.float64).eval()
    found = segments(exact, trace(exact).with_shapes(tuple(shape)))
    for norm, proved in net.verify(tuple(shape)).norms.items():
        for segment in found:
            ends = (proved.body[place].total for place in (segment.anchor, segment.place))
            bound = _bound(segment, norm, *ends)
            factor = spectral_witness(segment.matrix, bound) if norm == "l2" else None
            if factor is None and not _is_plain(segment.matrix, norm, bound):
                raise UnsupportedLayer(
                    f"the certifier's bound of the map that ends with backbone.{segment.path} is "
                    "smaller than what a proof file can say of it: certify without --proof."
                )
            yield {
                "kind": "bound",
                "layer": segment.path,
                "norm": norm,
                "bound": bound,
                "exponent": 0 if factor is None else factor.exponent,
                "factor": None if factor is None else base64.b64encode(factor.packed()).decode(),
            }


def _bound(segment: Segment, norm: Norm, before: float, after: float) -> float:
    """The largest b that makes no total larger than the certifier's: b * before <= after."""
    if not math.isfinite(after):
        raise UnsupportedLayer(
            f"backbone.{segment.path} has no finite bound: there is nothing to prove."
        )
    own = induced_norm(segment.matrix, norm)
    if before == 0.0:
        return own
    quotient = math.nextafter(after / before, 0.0)
    fits = math.isfinite(own) and Fraction(own) * Fraction(before) <= Fraction(after)
    return max(own, quotient) if fits else quotient


def _is_plain(matrix: Tensor, norm: Norm, bound: float) -> bool:
    """Whether sums of entries alone prove the bound, as far as float64 tells."""
    columns, rows = float(matrix.abs().sum(0).max()), float(matrix.abs().sum(1).max())
    needed = {"linf": rows, "l1": columns}.get(norm)
    if needed is None:
        needed = min(float(torch.linalg.matrix_norm(matrix)), math.sqrt(rows) * math.sqrt(columns))
    return needed * (1.0 - 1e-13) <= bound


def _points(certificates: Certificates, hashes: list[bytes]) -> Iterator[dict[str, Any]]:
    composed = isinstance(certificates.prop, Conjunction | Disjunction)
    columns = (
        certificates.margin.tolist(),
        certificates.radius.tolist(),
        certificates.k.tolist(),
        certificates.strictest_k.tolist(),
    )
    sets, strictest_sets = certificates.sets.cpu(), certificates.strictest_sets.cpu()
    for index in torch.nonzero(certificates.certified).flatten().tolist():
        margin, radius, k, strictest = (column[index] for column in columns)
        yield {
            "kind": "point",
            "index": index,
            "input": hashes[index].hex(),
            "margin": margin,
            "radius": _number(radius),
            "k": None if composed else k,
            "set": None if composed else torch.nonzero(sets[index]).flatten().tolist(),
            "strictest_k": None if composed else strictest,
            "strictest_set": None
            if composed
            else torch.nonzero(strictest_sets[index]).flatten().tolist(),
        }


def _number(radius: float) -> float | str | None:
    if math.isnan(radius):
        return None
    return "inf" if math.isinf(radius) else radius


def _hashes(inputs: Tensor) -> Iterator[bytes]:
    """SHA-256 of each point as float64, little-endian."""
    exact = inputs.detach().to("cpu", torch.float64).contiguous().numpy().astype("<f8")
    for point in exact:
        yield hashlib.sha256(point.tobytes()).digest()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _line(value: object) -> bytes:
    return (_canonical(value) + "\n").encode("ascii")
