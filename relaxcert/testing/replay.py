"""``python -m relaxcert.testing.replay FILE.npz --model MODEL``: does it still break?

Exit code 3 if the certificate is still given and still wrong, 0 if not, 2 for bad input.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from relaxcert.errors import RelaxcertError
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec.ball import Ball
from relaxcert.spec.canonical import from_canonical
from relaxcert.spec.reference import holds
from relaxcert.testing.counterexamples import Counterexample, load
from relaxcert.testing.exact import exact_rows, in_ball
from relaxcert.testing.loading import load_backbone


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay one file; prints what is so now."""
    parser = argparse.ArgumentParser(prog="python -m relaxcert.testing.replay", description=__doc__)
    parser.add_argument("file", type=Path, help="the .npz that a check saved")
    parser.add_argument("--model", type=Path, help="model file; default: the one it was found on")
    given = parser.parse_args(arguments)
    try:
        found = load(given.file)
        backbone = load_backbone(given.model or Path(found.model)).backbone
        return _replay(found, GloRoNet(backbone, from_canonical(found.prop)).eval())
    except RelaxcertError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _replay(found: Counterexample, net: GloRoNet) -> int:
    certificates = net.certify(found.point[None])
    certified = bool(certificates.certified[0])
    print(f"property   {net.prop!r}")
    print(f"then       {found.message}")
    same = net.verify().fingerprint == found.fingerprint
    print(f"weights    {'the same' if same else 'OTHERS than those it was found on'}")
    print(f"x          logits {_row(certificates.logits[0].tolist())}")
    print(f"           certified {certified}, margin {float(certificates.margin[0]):.6g}")
    if found.witnesses is None:
        print("result     no x' was saved: run the check again on this model")
        return 0
    broken = _breaks(found.point, found.witnesses, net)
    if certified and broken:
        print("result     certified, and yet broken: a soundness violation")
        return 3
    print("result     " + ("broken, but x is not certified" if broken else "the property holds"))
    return 0


def _breaks(point: Tensor, witnesses: Tensor, net: GloRoNet) -> bool:
    """Whether the property fails on those x' that lie inside its balls, exactly."""
    backbone = copy.deepcopy(net.backbone).double().eval()
    with torch.no_grad():
        centre, *logits = exact_rows(backbone(torch.cat([point[None], witnesses])))
    start, *ends = exact_rows(torch.cat([point[None], witnesses]).flatten(1))
    for values, end in zip(logits, ends, strict=True):
        inside = all(in_ball(ball, start, end) for ball in net.prop.balls)
        place = "inside" if inside else "not inside"
        print(f"x'         logits {_row(map(float, values))}, {place} every ball, exactly")

    def logits_in(ball: Ball) -> list[tuple[Fraction, ...]]:
        return [v for v, end in zip(logits, ends, strict=True) if in_ball(ball, start, end)]

    return not holds(net.prop, centre, logits_in)


def _row(values: Iterable[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


if __name__ == "__main__":
    sys.exit(main())
