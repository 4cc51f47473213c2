"""What was proved of single layers, by their content: after a change of one only that is proved.

A proof is reused where everything that it read is the same: kind of rule, its shape, kind of
layer, its settings, the norm, and every number of the layer (SHA-256 of types, shapes and bytes).
Rules and layers from outside relaxcert and torch may read something else, so they are always asked
again.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from relaxcert.lipschitz.graph import Node
from relaxcert.lipschitz.linear_maps import LinearMap, norm_of
from relaxcert.lipschitz.registry import Bound, Rounding
from relaxcert.lipschitz.snapshot import tensors_of
from relaxcert.lipschitz.structure import settings_of
from relaxcert.spec.ball import Norm

Value = TypeVar("Value")


class Memory:
    """Proofs of the last two rounds; a round is one verification of a whole network."""

    def __init__(self) -> None:
        self._before: dict[Hashable, Any] = {}
        self._now: dict[Hashable, Any] = {}

    def new_round(self) -> None:
        """Forget what the last round did not use."""
        self._before, self._now = self._now, {}

    def layer(self, node: Node, norm: Norm) -> tuple[Bound, Rounding]:
        """The bound and the rounding of a layer with a rule."""
        rule, layer = node.rule, node.layer
        if rule is None or layer is None:
            raise TypeError(f"node {node.name} is no layer with a rule.")

        def prove() -> tuple[Bound, Rounding]:
            return rule.verified(layer, norm), rule.rounding(layer, norm)

        if not (_is_ours(rule) and all(_is_ours(part) for part in layer.modules())):
            return prove()
        numbers = content_of(tensors_of(layer))
        settings = repr((settings_of(layer), sorted(vars(rule).items())))
        return self._recalled((type(rule), type(layer), settings, norm, numbers), prove)

    def map(self, found: LinearMap, norm: Norm, *, tight: bool) -> float:
        """The norm of a linear map (several layers folded into one)."""
        fields = [getattr(found, field.name) for field in dataclasses.fields(found)]
        numbers = content_of(value for value in fields if isinstance(value, Tensor))
        settings = repr([None if isinstance(value, Tensor) else (value,) for value in fields])
        key = (type(found), settings, norm, tight, numbers)
        return self._recalled(key, lambda: norm_of(found, norm, tight=tight))

    def _recalled(self, key: Hashable, prove: Callable[[], Value]) -> Value:
        if key not in self._now:
            self._now[key] = self._before[key] if key in self._before else prove()
        return self._now[key]


def content_of(tensors: Iterable[Tensor]) -> str:
    """SHA-256 (hex) over types, shapes and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}|".encode())
        digest.update(plain.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _is_ours(thing: object) -> bool:
    return type(thing).__module__.startswith(("relaxcert.", "torch.nn."))
