"""Train without ``fit``: a GloRoNet is a module; bottom is one more class, and never right."""

import torch

from relaxcert import GloRoNet, RelaxedTopK, evaluate
from relaxcert.data import landsat
from relaxcert.nn import dense
from relaxcert.training import cross_entropy


def main() -> None:
    torch.manual_seed(0)
    train, test = landsat("train"), landsat("test")
    net = GloRoNet(dense(36, [64, 64], 6), RelaxedTopK(k=3, eps="0.03"))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(5):
        for rows in torch.randperm(len(train)).split(128):
            optimizer.zero_grad()
            outputs = net(train.inputs[rows])  # (batch, 7): six logits and bottom
            loss = cross_entropy(outputs, train.labels[rows], temperature=0.25)
            loss.backward()
            optimizer.step()
        figures, _ = evaluate(net, test.inputs, test.labels)
        print(f"epoch {epoch}: VRA {figures.vra:.3f}, rejected {figures.rejection_rate:.3f}")


if __name__ == "__main__":
    main()
