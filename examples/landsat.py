"""Three guarantees on satellite pixels: how much a relaxation certifies, and what it groups.

``relaxcert demo`` does this with more epochs, attacks every point and draws the results.
"""

from collections import Counter

import torch

from relaxcert import GloRoNet, evaluate, fit, load_property
from relaxcert.data import landsat
from relaxcert.nn import dense
from relaxcert.training import Optimisation

SETTINGS = Optimisation(epochs=5, temperature=0.1, orthogonal=True)


def main() -> None:
    train, test = landsat("train"), landsat("test")
    for name in ("landsat/local", "landsat/rt3", "landsat/soils"):
        torch.manual_seed(0)
        net = GloRoNet(dense(36, [64, 64], 6), load_property(name))
        fit(net, train, SETTINGS, progress=False)
        figures, certificates = evaluate(net, test.inputs, test.labels)
        print(f"{name}: VRA {figures.vra:.3f}, rejected {figures.rejection_rate:.3f}")
        # The strictest certified set of each point: which classes had to be grouped?
        groups = Counter(
            tuple(members.nonzero()[:, 0].tolist()) for members in certificates.strictest_sets
        )
        for members, count in groups.most_common():
            if len(members) > 1 and count >= 20:
                print(f"  {count:4d} points: {' + '.join(train.class_names[i] for i in members)}")


if __name__ == "__main__":
    main()
