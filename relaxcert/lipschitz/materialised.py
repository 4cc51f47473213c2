"""Computed weights (parametrisations) as the numbers that they are at this moment.

A parametrised layer computes its weight anew at every call, with rounding. A certificate speaks of
stored numbers: those that the parametrisation gives in the network's own precision, in eval mode,
when the bounds are proved. Deploy ``materialised(backbone)`` to use these very numbers.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from relaxcert.lipschitz.registry import kind_of
from relaxcert.lipschitz.structure import in_eval_mode


def has_computed_weights(backbone: nn.Module) -> bool:
    """Whether some layer is parametrised (torch.nn.utils.parametrize, geotorch)."""
    return any(parametrize.is_parametrized(module) for module in backbone.modules())


def materialised(backbone: nn.Module) -> nn.Module:
    """A copy whose parametrised layers are plain ones with the present numbers.

    The backbone itself is returned where nothing is computed.
    """
    if not has_computed_weights(backbone):
        return backbone
    plain = copy.deepcopy(backbone)
    # In train mode, torch's spectral_norm would change its numbers when asked for them.
    with in_eval_mode(plain), torch.no_grad():
        for module in plain.modules():
            if parametrize.is_parametrized(module):
                _make_plain(module)
    return plain


def _make_plain(module: nn.Module) -> None:
    """Store the present numbers and give the module its former type.

    Not torch's remove_parametrizations, which changes the type that copies share with the original.
    """
    names = [str(name) for name in module.parametrizations]  # pyright: ignore
    numbers = {name: getattr(module, name).detach().clone() for name in names}
    kind = kind_of(module)
    del module.parametrizations
    module.__class__ = kind
    for name, value in numbers.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))
