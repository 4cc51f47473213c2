"""Writing certificates as a file of claims with witnesses.

JSON lines, each the canonical JSON of its value: a header, the bounds of the layers with their
witnesses, the certified points, a seal. Nothing in it is executed, and a checker believes none of
it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, UnsupportedLayer
from relaxcert.files import write_atomically
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.verified import NormBounds, fingerprint
from relaxcert.nn.architecture import describe
from relaxcert.proofs.chain import check_provable, leaves, matrices_of
from relaxcert.proofs.witness import spectral_witness
from relaxcert.spec.canonical import canonical_json
from relaxcert.spec.property import Conjunction, Disjunction

FORMAT, VERSION = "relaxcert-certificate", 1


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
            for value in (header, *_bounds(net, inputs[:1]), *_points(certificates, hashes)):
                line = _line(value)
                seal.update(line)
                file.write(line)
            file.write(_line({"kind": "end", "sha256": seal.hexdigest()}))

    return write_atomically(path, write)


def hash_of_weights(backbone: nn.Module) -> str:
    """SHA-256 of the canonical architecture and of names, types, shapes and bytes, by name."""
    found = hashlib.sha256(_canonical(describe(backbone)).encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        stored = tensor.detach().cpu().contiguous().numpy()
        kind = stored.dtype.newbyteorder("<")
        found.update(f"\n{_canonical([name, kind.str, list(stored.shape)])}\n".encode())
        found.update(stored.astype(kind).tobytes())
    return found.hexdigest()


def _bounds(net: GloRoNet, point: Tensor) -> Iterator[dict[str, Any]]:
    """One line for each layer and norm whose constant is not 1 by definition."""
    matrices = matrices_of(net.backbone, point)
    for norm, proved in net.verify().norms.items():
        _refuse_other_than_a_product(proved)
        known = {id(net.backbone.get_submodule(row.path)): row.bound for row in proved.rows}
        for path, layer in leaves(net.backbone):
            if not layer.state_dict():
                continue
            bound = known[id(layer)]
            if not math.isfinite(bound):
                raise UnsupportedLayer(
                    f"backbone.{path} has no finite bound: there is nothing to prove."
                )
            factor = None
            if path in matrices and norm == "l2":
                factor = spectral_witness(matrices[path], bound)
            yield {
                "kind": "bound",
                "layer": path,
                "norm": norm,
                "bound": bound,
                "exponent": 0 if factor is None else factor.exponent,
                "factor": None if factor is None else base64.b64encode(factor.packed()).decode(),
            }


def _refuse_other_than_a_product(proved: NormBounds) -> None:
    """A checker multiplies the bounds of the layers and follows nothing else."""
    joined = [row.path for row in proved.rows if row.kind in ("sum", "concatenation")]
    body = proved.rows[: len(proved.body) - 1]
    if joined or proved.product * (1.0 + 1e-12) < math.prod(row.bound for row in body):
        where = f" (backbone.{joined[0]})" if joined else " (consecutive linear layers as one map)"
        raise UnsupportedLayer(
            f"the bound of this network is no product of those of its layers{where}, which a proof "
            "cannot say yet: merge linear layers that follow each other, or certify without proof."
        )


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
