"""Layers and networks: modules whose Lipschitz bound is known."""

from relaxcert.nn.blocks import Concatenation, Residual
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.householder import Householder
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.liresnet import liresnet
from relaxcert.nn.networks import dense
from relaxcert.nn.orthogonal import OrthogonalLinear, baked, orthogonalised
from relaxcert.nn.parametrised import (
    AlmostOrthogonal,
    NormalisedRows,
    almost_orthogonal,
    normalised_last,
)
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling, Permute, Reshape, Scale

__all__ = [
    "Abs",
    "AlmostOrthogonal",
    "Concatenation",
    "Diagonal",
    "GroupSort",
    "Householder",
    "InputNormalisation",
    "InvertibleDownsampling",
    "MinMax",
    "NormalisedRows",
    "OrthogonalLinear",
    "Permute",
    "Reshape",
    "Residual",
    "Scale",
    "almost_orthogonal",
    "baked",
    "dense",
    "liresnet",
    "normalised_last",
    "orthogonalised",
]
