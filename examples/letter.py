"""Capital letters: an affinity property of one's own groups, and what each group costs.

16,000 training and 4,000 test letters, of which 380 also occur in training.
"""

import torch

from relaxcert import Affinity, AffinitySets, GloRoNet, Local, evaluate, fit
from relaxcert.data import letter
from relaxcert.nn import dense
from relaxcert.training import Optimisation

ALIKE = {"round": ["C", "G", "O", "Q"], "forked": ["U", "V", "W", "Y"], "crossed": ["H", "K", "X"]}


def main() -> None:
    train, test = letter("train"), letter("test")
    # Letters that lie in no group are a set of their own.
    sets = AffinitySets.from_groups(ALIKE, class_names=train.class_names)
    settings = Optimisation(epochs=5, batch_size=256, temperature=0.1, orthogonal=True)
    for prop in (Local(eps="0.03"), Affinity(sets, eps="0.03")):
        torch.manual_seed(0)
        net = GloRoNet(dense(16, [128, 128], 26), prop)
        fit(net, train, settings, progress=False)
        figures, certificates = evaluate(net, test.inputs, test.labels)
        kind = type(prop).__name__
        print(f"{kind}: VRA {figures.vra:.3f}, rejected {figures.rejection_rate:.3f}")
        for name, members in ALIKE.items():
            labels = torch.tensor([train.class_names.index(member) for member in members])
            chosen = torch.isin(test.labels, labels)
            share = float(certificates.certified[chosen].double().mean())
            print(f"  {name}: {share:.3f} of {int(chosen.sum())} letters certified")


if __name__ == "__main__":
    main()
