"""Layers and networks: modules whose Lipschitz bound is known."""

from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.networks import dense
from relaxcert.nn.orthogonal import OrthogonalLinear, baked, orthogonalised

__all__ = ["InputNormalisation", "MinMax", "OrthogonalLinear", "baked", "dense", "orthogonalised"]
