"""Layers and networks: modules whose Lipschitz bound is known."""

from relaxcert.nn.blocks import Concatenation, Residual
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.householder import Householder
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.networks import dense
from relaxcert.nn.orthogonal import OrthogonalLinear, baked, orthogonalised
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling, Permute, Reshape, Scale

__all__ = [
    "Abs",
    "Concatenation",
    "Diagonal",
    "GroupSort",
    "Householder",
    "InputNormalisation",
    "InvertibleDownsampling",
    "MinMax",
    "OrthogonalLinear",
    "Permute",
    "Reshape",
    "Residual",
    "Scale",
    "baked",
    "dense",
    "orthogonalised",
]
