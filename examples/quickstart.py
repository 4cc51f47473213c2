"""The shortest way: state a property, train a network for it, certify points, keep the result."""

import tempfile
from pathlib import Path

import torch

from relaxcert import GloRoNet, RelaxedTopK, evaluate, fit, load_model, save_model
from relaxcert.data import landsat
from relaxcert.nn import dense
from relaxcert.training import Optimisation


def main() -> None:
    torch.manual_seed(0)
    train, test = landsat("train"), landsat("test")
    # One of the sets of the 1, 2 or 3 highest classes is the same on the whole ball.
    prop = RelaxedTopK(k=3, eps="0.03")
    net = GloRoNet(dense(36, [64, 64], 6), prop)
    fit(net, train, Optimisation(epochs=5, temperature=0.1, orthogonal=True), progress=False)

    figures, certificates = evaluate(net, test.inputs, test.labels)
    print(f"VRA {figures.vra:.3f}, rejected {figures.rejection_rate:.3f}")
    for index in range(3):
        members = certificates.sets[index].nonzero()[:, 0].tolist()
        names = [train.class_names[label] for label in members]
        print(f"point {index}: certified {bool(certificates.certified[index])}, set {names}")

    with tempfile.TemporaryDirectory() as name:
        path = save_model(net, Path(name) / "net.safetensors", class_names=train.class_names)
        again = load_model(path).net  # the bounds are proved anew, none is read
        same = again.certify(test.inputs).certified == certificates.certified
        print(f"same verdicts from the file: {bool(same.all())}")


if __name__ == "__main__":
    main()
