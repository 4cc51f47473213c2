"""Networks and libraries that are wrong on purpose, for relaxcert.checks to catch."""

from __future__ import annotations

import torch
from torch import nn

from relaxcert.heads import certify as certify_module
from relaxcert.heads.links import ProvedLinks
from relaxcert.lipschitz import registry
from relaxcert.lipschitz.registry import Bound
from relaxcert.lipschitz.rules import LinearRule
from relaxcert.lipschitz.verified import VerifiedBounds


def nine_tenths_of_eps(monkeypatch):
    right = certify_module.fraction_up
    monkeypatch.setattr(certify_module, "fraction_up", lambda eps: 0.9 * right(eps))


def one_layer_ten_percent_low(monkeypatch):
    class Low(LinearRule):
        def verified(self, layer, norm):
            bound = super().verified(layer, norm)
            first = layer.in_features == 36
            return Bound((0.9 if first else 1.0) * bound.value, bound.method)

    monkeypatch.setattr(registry, "_RULES", {**registry._RULES, nn.Linear: Low()})


def bounds_never_expire(monkeypatch):
    monkeypatch.setattr(VerifiedBounds, "still_hold", lambda *_: True)


def ties_are_masked_by_value(monkeypatch):
    """The mask of the paper's library: equal logits do not compete."""

    def ranked(self, top):
        highest = self.logits.gather(1, top)
        equal = self.logits[:, None, :] == highest[:, :, None]
        rows = self.rows(top).masked_fill(equal, torch.inf)
        inside = rows.gather(2, top[:, None, :].expand(-1, top.shape[1], -1))
        among = torch.zeros_like(self.logits, dtype=torch.bool).scatter(1, top, value=True)
        rest = rows.masked_fill(among[:, None, :], torch.inf).amin(2, keepdim=True)
        return torch.cat((inside, rest), dim=2)

    monkeypatch.setattr(ProvedLinks, "ranked", ranked)


def nothing(monkeypatch):
    """The library as it is."""
