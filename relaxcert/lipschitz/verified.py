"""Verified bounds of a whole backbone, tied to the exact weights they were proved for."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedPrecision
from relaxcert.lipschitz.arithmetic import check_arithmetic
from relaxcert.lipschitz.chain import Chain, chain_of
from relaxcert.lipschitz.directed import UNIT, multiply_up
from relaxcert.lipschitz.matrix import checked_matrix, pair_distances, row_norms
from relaxcert.lipschitz.registry import Bound, Rounding
from relaxcert.lipschitz.rules import pairs_of_any_map
from relaxcert.spec.ball import Norm


@dataclass(frozen=True, slots=True)
class LayerBound:
    """One row of the table of bounds."""

    path: str
    kind: str
    norm: Norm
    bound: float
    method: str
    verified: bool


@dataclass(frozen=True, slots=True)
class NormBounds:
    """Bounds in one norm.

    Attributes:
        rows: one row a layer; the last layer's row is informative where ``pairs`` replaces it.
        body: bound and rounding of each layer before the last Linear one.
        product: upper bound P of the constant of the body, x -> h.
        pairs: D[j, i], upper bound of the constant of h -> f_j - f_i; shape (C, C), float64.
            K_ji = P D_ji (paper, section 5.1).
    """

    rows: tuple[LayerBound, ...]
    body: tuple[tuple[Bound, Rounding], ...]
    product: float
    pairs: Tensor


@dataclass(frozen=True, slots=True)
class LastLayer:
    """What bounds the rounding of the logits: l2 norms of the rows, sizes of the biases."""

    operations: int
    row_norms: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class VerifiedBounds:
    """Everything that was proved about one backbone with one set of weights.

    ``exact`` is a float64 copy of the backbone, in eval mode, on the device of the original.
    ``snapshot`` holds the weights as they were; a bound is used only while they are unchanged.
    """

    fingerprint: str
    signature: tuple[str, ...]
    snapshot: tuple[Tensor, ...]
    exact: Chain
    norms: dict[Norm, NormBounds]
    last: LastLayer | None
    num_classes: int

    def still_hold(self, backbone: nn.Module) -> bool:
        """Whether structure and weights are those of the proof, compared number by number."""
        live = tuple(tensors_of(backbone))
        return (
            len(live) == len(self.snapshot)
            and all(_same(a, b) for a, b in zip(live, self.snapshot, strict=True))
            and chain_of(backbone).signature == self.signature
        )


def tensors_of(backbone: nn.Module) -> Iterable[Tensor]:
    """Parameters and buffers: all stored numbers that the function depends on."""
    for tensor in (*backbone.parameters(), *backbone.buffers()):
        yield tensor.detach()


def fingerprint(backbone: nn.Module) -> str:
    """SHA-256 (hex) over structure, shapes, types and values of all weights."""
    digest = hashlib.sha256()
    for line in chain_of(backbone).signature:
        digest.update(line.encode() + b"\n")
    for tensor in tensors_of(backbone):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def verify(backbone: nn.Module, norms: Iterable[Norm], num_classes: int) -> VerifiedBounds:
    """Prove the bounds of every layer, in each of ``norms``.

    Raises:
        UnsupportedLayer: a layer without a rule.
        UnsupportedPrecision: weights that are not float32 or float64, or arithmetic that is not
            IEEE-754.
        InvalidWeights: NaN, infinite or empty weights.
    """
    # Bounds are proved on the CPU, wherever the backbone is.
    check_arithmetic(torch.device("cpu"))
    refuse_half_precision(backbone)
    snapshot = tuple(tensor.clone() for tensor in tensors_of(backbone))
    device = snapshot[0].device if snapshot else torch.device("cpu")
    on_cpu = copy.deepcopy(backbone).to("cpu", torch.float64).eval()
    chain = chain_of(on_cpu)
    proved: dict[Norm, NormBounds] = {
        norm: _in_norm(chain, norm, num_classes, device) for norm in dict.fromkeys(norms)
    }
    exact = chain if device.type == "cpu" else chain_of(copy.deepcopy(on_cpu).to(device))
    return VerifiedBounds(
        fingerprint=fingerprint(backbone),
        signature=chain_of(backbone).signature,
        snapshot=snapshot,
        exact=exact,
        norms=proved,
        last=_last_layer(chain, device),
        num_classes=num_classes,
    )


def refuse_half_precision(backbone: nn.Module) -> None:
    """Raise UnsupportedPrecision unless all weights are plain, and the floating ones 32 or 64 bit.

    Subclasses of Tensor (quantised, sharded) compute products in a way of their own.
    """
    for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers()):
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
            raise UnsupportedPrecision(
                f"{name} is a {type(tensor).__name__} of layout {tensor.layout}, not a plain dense "
                "tensor, so its products may be computed in a way of its own: certify the network "
                "with dense float32 or float64 weights."
            )
        counts = tensor.is_floating_point() or tensor.is_complex()
        if counts and tensor.dtype not in UNIT:
            raise UnsupportedPrecision(
                f"{name} has dtype {tensor.dtype}: certificates are given for float32 and float64 "
                "weights only; cast the network with .float() first."
            )


def _same(live: Tensor, kept: Tensor) -> bool:
    return (
        live.dtype == kept.dtype
        and live.shape == kept.shape
        and live.device == kept.device
        and torch.equal(live, kept)
    )


def _in_norm(chain: Chain, norm: Norm, num_classes: int, device: torch.device) -> NormBounds:
    body = tuple(
        (link.rule.verified(link.layer, norm), link.rule.rounding(link.layer, norm))
        for link in chain.body
    )
    rows = [
        LayerBound(link.path, link.kind, norm, bound.value, bound.method, verified=True)
        for link, (bound, _) in zip(chain.body, body, strict=True)
    ]
    if chain.last is None:
        pairs = pairs_of_any_map(num_classes, norm)
    else:
        pairs = pair_distances(checked_matrix(chain.last_weight, "weight of the last layer"), norm)
        last = chain.last.rule.verified(chain.last.layer, norm)
        method = f"{last.method}; certificates use per-pair row distances"
        rows.append(LayerBound(chain.last.path, "Linear", norm, last.value, method, verified=True))
    product = multiply_up(*(bound.value for bound, _ in body))
    return NormBounds(tuple(rows), body, product, pairs.to(device))


def _last_layer(chain: Chain, device: torch.device) -> LastLayer | None:
    if chain.last is None:
        return None
    weight = checked_matrix(chain.last_weight, "weight of the last layer")
    bias: Tensor | None = getattr(chain.last.layer, "bias", None)
    size = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.detach().abs()
    return LastLayer(weight.shape[1] + 1, row_norms(weight).to(device), size.to(device))
