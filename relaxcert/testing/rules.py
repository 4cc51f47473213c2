"""RuleConformance: everything that the Lipschitz rule of a layer inherits.

class TestAbsolute(RuleConformance):
    input_shape = (4,)

    def make_layer(self):
        return Absolute()
"""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec.prefix import Local
from relaxcert.testing.rule_bound import RuleBound
from relaxcert.testing.rule_case import rule_of
from relaxcert.testing.rule_estimate import RuleEstimate
from relaxcert.testing.running import require
from relaxcert.testing.sampling import violations


class RuleConformance(RuleBound, RuleEstimate):
    """The conformance suite of a rule: subclass it and give a layer factory.

    Attributes:
        input_shape: shape of one input, without the batch; a small one.
        norms: the norms that the rule is for.
        seeds: the seeds of the layers to test.

    ``make_layer()`` returns a new layer; override ``exact_constant`` where the true constant of a
    layer that is not affine is known.
    """

    def test_it_is_registered_and_has_one_bound(self) -> None:
        """The registry finds the rule; asking twice gives the same bound."""
        for layer, norm, bound in self.cases():
            rule = rule_of(layer, self.input_shape)
            require(
                rule.verified(layer, norm).value == bound,
                f"the verified bound of {layer} in {norm} is not the same twice.",
            )

    def test_a_subclass_is_not_vouched_for(self) -> None:
        """A subclass may compute something else, so it has no rule unless it is given one."""
        layer = self.layer(self.seeds[0])
        layer.__class__ = type("Subclass", (type(layer),), {})
        try:
            rule_of(layer, self.input_shape)
        except UnsupportedLayer:
            return
        require(False, f"the rule of {type(layer).__mro__[1].__name__} serves a subclass too.")

    def test_certificates_through_the_layer_hold(self) -> None:
        """A network of the layer and a Linear one, at a radius that is only just certified."""
        for seed in self.seeds:
            layer = self.layer(seed)
            outputs = prod(layer(self.inputs(1, seed=0)).shape[1:])
            torch.manual_seed(seed)
            backbone = nn.Sequential(layer, nn.Flatten(), nn.Linear(outputs, 3).double())
            inputs = self.inputs(4, seed=seed + 1)
            for norm in self.supported_norms(layer):
                radius = GloRoNet(backbone, Local(eps=1, norm=norm)).certify(inputs).radius
                useful = [r for r in radius.tolist() if 0.0 < r < float("inf")]
                eps = max(useful, default=1.0) * (1.0 - 1e-9)
                net = GloRoNet(backbone, Local(eps=eps, norm=norm))
                broken = violations(net, inputs, net.certify(inputs))
                require(not broken, f"certificates through {layer} are broken: {broken}.")
