"""Floor 2: how far the logits can move. Rules per layer, estimates, verified bounds, rounding."""

from relaxcert.lipschitz import (
    rules,
    rules_activation,
    rules_convolution,
    rules_elementwise,
    rules_exact,
    rules_normalisation,
    rules_pooling,
    rules_scaling,
    rules_upsampling,
)
from relaxcert.lipschitz.arithmetic import conventional_products
from relaxcert.lipschitz.materialised import materialised
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.registry import Bound, Rounding, Rule, rule, supported
from relaxcert.lipschitz.spectral import verified_spectral_norm
from relaxcert.lipschitz.tightness_report import Tightness, tightness
from relaxcert.lipschitz.verified import LayerBound, VerifiedBounds, fingerprint, verify

__all__ = [
    "Bound",
    "LayerBound",
    "NetworkLipschitz",
    "Rounding",
    "Rule",
    "Tightness",
    "VerifiedBounds",
    "conventional_products",
    "fingerprint",
    "materialised",
    "rule",
    "supported",
    "tightness",
    "verified_spectral_norm",
    "verify",
]

# Importing a module of rules registers them.
RULE_MODULES = (
    rules,
    rules_activation,
    rules_convolution,
    rules_elementwise,
    rules_exact,
    rules_normalisation,
    rules_pooling,
    rules_scaling,
    rules_upsampling,
)
