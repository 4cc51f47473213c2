"""Small certified networks as files, and the tools to change them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from relaxcert import checker
from relaxcert.heads import Certificates, GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.proofs import write_proof
from relaxcert.spec import Property
from tests.heads.checks import telling_eps
from tests.networks import randn, random_backbone


@dataclass(frozen=True)
class Artefacts:
    """A certificate file, its model and its data, and what they were made from."""

    net: GloRoNet
    inputs: Tensor
    certificates: Certificates
    certificate: Path
    model: Path
    data: Path

    def check(self, **changes: Any) -> checker.Accepted:
        files = {"model": self.model, "data": self.data}
        chosen = {**files, **changes}
        return checker.check(chosen.pop("certificate", self.certificate), **chosen)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.certificate.read_text().splitlines()]


def made(
    folder: Path,
    prop_of: Callable[[object], Property],
    *,
    backbone: nn.Module | None = None,
    inputs: Tensor | None = None,
    eps: object = None,
    num_classes: int | None = None,
) -> Artefacts:
    """Certify points with a small network at an eps that certifies some; write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    network = random_backbone(1, normalise=True) if backbone is None else backbone
    points = 2 * randn(2, 7, 4, dtype=torch.float32) if inputs is None else inputs
    radius = telling_eps(network, prop_of, points) if eps is None else eps
    net = GloRoNet(network, prop_of(radius), num_classes).eval()
    certificates = net.certify(points)
    model = save_model(net, folder / "model.safetensors")
    data = folder / "points.npz"
    np.savez(data, x=points.numpy(), y=np.zeros(len(points), dtype=np.int64))
    certificate = write_proof(net, points, certificates, folder / "points.cert")
    return Artefacts(net, points, certificates, certificate, model, data)


def sealed(lines: list[dict[str, Any]], path: Path) -> Path:
    """Write lines with a seal that fits, as somebody would who wants to deceive."""
    body = "".join(
        json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n"
        for line in lines
        if line["kind"] != "end"
    ).encode()
    return sealed_bytes(body, path)


def sealed_bytes(body: bytes, path: Path) -> Path:
    seal = {"kind": "end", "sha256": hashlib.sha256(body).hexdigest()}
    path.write_bytes(body + json.dumps(seal, separators=(",", ":")).encode() + b"\n")
    return path
