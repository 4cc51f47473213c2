"""Hypothesis strategies for properties, logits, networks and points; all exact, all shrink.

They are small on purpose: few classes, dyadic numbers with few bits, so that the exact references
of :mod:`relaxcert.testing.exact` stay cheap, and so that ties are common and a failing example
is one that a person can check by hand.
"""

from relaxcert.testing.needs import need

need("hypothesis")

from relaxcert.testing.strategies.backbones import (  # noqa: E402
    DENSE,
    IMAGE,
    LAYERS,
    dyadic_weights,
    networks,
)
from relaxcert.testing.strategies.points import (  # noqa: E402
    Dataset,
    datasets,
    exact_points,
    perturbations,
)
from relaxcert.testing.strategies.scores import (  # noqa: E402
    Scene,
    logits,
    points_around,
    rankings,
    scenes,
)
from relaxcert.testing.strategies.specification import (  # noqa: E402
    affinity_sets,
    balls,
    eps_likes,
    invalid_arguments,
    invalid_properties,
    norms,
    properties,
    quantifiers,
    simple_properties,
    subsets,
    targeted,
)

__all__ = [
    "DENSE",
    "IMAGE",
    "LAYERS",
    "Dataset",
    "Scene",
    "affinity_sets",
    "balls",
    "datasets",
    "dyadic_weights",
    "eps_likes",
    "exact_points",
    "invalid_arguments",
    "invalid_properties",
    "logits",
    "networks",
    "norms",
    "perturbations",
    "points_around",
    "properties",
    "quantifiers",
    "rankings",
    "scenes",
    "simple_properties",
    "subsets",
    "targeted",
]
