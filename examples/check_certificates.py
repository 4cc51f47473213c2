"""Certificates in a file, re-checked by code that shares nothing with what wrote them."""

import tempfile
import time
from pathlib import Path

import torch

from relaxcert import GloRoNet, RelaxedTopK, checker, fit, save_model
from relaxcert.data import landsat
from relaxcert.nn import dense
from relaxcert.proofs import write_proof
from relaxcert.training.recipe import Optimisation


def main() -> None:
    torch.manual_seed(0)
    train, test = landsat("train"), landsat("test")
    net = GloRoNet(dense(36, [128, 128, 128], 6), RelaxedTopK(k=3, eps="0.03"))
    fit(net, train, Optimisation(epochs=2), seed=0)
    net.eval()
    points = test.inputs[:1000]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_model(net, folder / "model.safetensors")
        proof = write_proof(net, points, net.certify(points), folder / "points.cert")
        started = time.perf_counter()
        accepted = checker.check(proof, model=model, data=points.numpy())
        seconds = time.perf_counter() - started
        print(f"{accepted.certified} of {accepted.points} points proved again in {seconds:.1f} s")

        # A claim that is made larger is found, by name.
        content = proof.read_text().splitlines()
        print(f"{len(content)} lines, {proof.stat().st_size / 1e3:.0f} kB")
        proof.write_text("\n".join(content[:-2]) + "\n" + content[-1] + "\n")
        try:
            checker.check(proof, model=model, data=points.numpy())
        except checker.Rejected as rejected:
            print(f"rejected: {rejected}")


if __name__ == "__main__":
    main()
