"""Checks of the Lipschitz bounds of one network against what its layers really do.

The comparisons use ordinary float64 linear algebra from *below*: the stretch of one direction is a
lower bound of a layer's constant, so a verified bound that falls short of it is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.snapshot import tensors_of
from relaxcert.spec.ball import Norm
from relaxcert.testing.rule_case import ROUNDED, jacobian, matrix_norm
from relaxcert.testing.running import require

_WHOLE = 2**20  # numbers of a Jacobian that is formed as a whole
_ITERATIONS = 100


@dataclass(frozen=True)
class Stretch:
    """How much one layer was seen to stretch, and what its bound says."""

    path: str
    kind: str
    norm: Norm
    seen: float
    bound: float


def stretches(net: GloRoNet, points: Tensor) -> Iterator[Stretch]:
    """Every layer that is a module, in every norm of the property, at what reaches it from x.

    points: (batch, ...); two of them are used.
    """
    backbone = copy.deepcopy(net.backbone).double().eval()
    table = net.lipschitz.table()
    paths = {row.path for row in table}
    layers = {path: layer for path, layer in backbone.named_modules() if path in paths}
    reached = _inputs_of(backbone, layers, points[:2].double())
    for row in table:
        if row.path in layers and row.path in reached:
            layer = layers[row.path]
            seen = max(_stretch(layer, point, row.norm) for point in reached[row.path])
            yield Stretch(row.path, row.kind, row.norm, seen, row.bound)


def check_layer_bounds(net: GloRoNet, points: Tensor) -> int:
    """Each layer's verified bound is at least what the layer does; returns how many were compared.

    Raises:
        ConformanceFailure: a bound is too small; names the layer.
    """
    count = 0
    for found in stretches(net, points):
        count += 1
        require(
            found.seen <= found.bound * ROUNDED,
            f"the bound of layer {found.path} ({found.kind}) is {found.bound:.9g} in {found.norm}, "
            f"but the layer stretches a direction by {found.seen:.9g}.",
        )
    require(count, "no layer of the table of bounds was found in the network.")
    return count


def check_network_bounds(net: GloRoNet, points: Tensor) -> int:
    """K_ji >= the gradient of f_j - f_i at each point, and each total >= what x -> layer does.

    Returns:
        How many pairs of classes were compared.

    Raises:
        ConformanceFailure: the network moves faster than its bounds say.
    """
    backbone = copy.deepcopy(net.backbone).double().eval()
    _check_totals(net, backbone, points[:2].double())
    count = 0
    for norm, bounds in net.verify().norms.items():
        limit = bounds.product * bounds.pairs.cpu()
        for point in points[:4].double():
            rows = jacobian(backbone, point)
            gaps = (rows[:, None] - rows[None]).reshape(-1, rows.shape[1])
            # The constant of a functional is its norm as a 1 x n matrix.
            speeds = torch.tensor([matrix_norm(gap[None], norm) for gap in gaps])
            excess = speeds.reshape(limit.shape).double() - limit * ROUNDED
            count += len(gaps)
            require(
                bool(excess.max() <= 1e-9),
                f"a difference of two logits changes faster than its constant in {norm}: "
                f"by {float(excess.max()):.3g} more.",
            )
    return count


def _check_totals(net: GloRoNet, backbone: nn.Module, points: Tensor) -> None:
    """The bound of the whole map from the input to each layer that is a module."""
    layers = dict(backbone.named_modules())
    table = [row for row in net.lipschitz.table() if row.path in layers]
    for path in dict.fromkeys(row.path for row in table):
        part = _UpTo(backbone, layers[path])
        for point in points:
            with torch.no_grad():
                if part(point[None]).numel() * point.numel() > _WHOLE:
                    continue
            rows = jacobian(part, point)
            for row in table:
                seen = matrix_norm(rows, row.norm)
                require(
                    row.path != path or seen <= row.total * ROUNDED,
                    f"the bound up to layer {path} is {row.total:.9g} in {row.norm}, but a "
                    f"direction is stretched by {seen:.9g}.",
                )


class _UpTo(nn.Module):
    """The network up to the (last) output of one of its layers."""

    def __init__(self, backbone: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self._parts = [backbone, layer]  # in a list, so that they are not registered again

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, ...) -> what the layer gives."""
        found: list[Tensor] = []

        def hook(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            del layer, given
            found.append(output)

        backbone, layer = self._parts
        handle = layer.register_forward_hook(hook)
        try:
            backbone(inputs)
        finally:
            handle.remove()
        return found[-1]


def check_bounds_follow_the_weights(net: GloRoNet, points: Tensor) -> int:
    """The bounds in use are those of the present weights, and stay so whatever changes them.

    A copy of the network is changed through ``p.data``, in place, by ``load_state_dict`` and by
    conversion; the network itself is left as it is. Returns how many changes were made.

    Raises:
        ConformanceFailure: bounds of other weights are used.
    """
    _check_snapshot(net, "as it was given")
    changes: dict[str, Callable[[nn.Module], object]] = {
        "p.data": lambda module: _first(module).data.mul_(3.0),
        "an in-place product": _scaled_in_place,
        "load_state_dict": lambda module: module.load_state_dict(
            {name: 2.0 * value for name, value in module.state_dict().items()}
        ),
        "conversion to float64": lambda module: module.double(),
    }
    for what, change in changes.items():
        other = copy.deepcopy(net).eval()
        other.certify(points[:1])
        change(other.backbone)
        certificates = other.certify(points[:1])
        _check_snapshot(other, f"after {what}")
        require(
            certificates.fingerprint == other.verify().fingerprint,
            f"certificates after {what} carry the fingerprint of other weights.",
        )
        check_layer_bounds(other, points)
    return len(changes)


def _check_snapshot(net: GloRoNet, when: str) -> None:
    kept, live = net.verify().snapshot, list(tensors_of(net.backbone))
    same = len(kept) == len(live) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(kept, live, strict=True)
    )
    require(same, f"the verified bounds of the network {when} are those of other weights.")


def _inputs_of(
    backbone: nn.Module, layers: dict[str, nn.Module], points: Tensor
) -> dict[str, Tensor]:
    """What reaches each layer, (batch, ...); hooks are on a copy that is thrown away."""
    reached: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            del layer
            reached[path] = inputs[0].detach().clone()

        return hook

    handles = [layer.register_forward_pre_hook(keep(path)) for path, layer in layers.items()]
    with torch.no_grad():
        backbone(points)
    for handle in handles:
        handle.remove()
    return reached


def _stretch(layer: nn.Module, point: Tensor, norm: Norm) -> float:
    """A lower bound of the layer's constant, from its Jacobian at one point, (...)."""
    with torch.no_grad():
        size = layer(point[None]).numel() * point.numel()
    if size <= _WHOLE:
        return matrix_norm(jacobian(layer, point), norm)
    return _power(layer, point) if norm == "l2" else 0.0


def _power(layer: nn.Module, point: Tensor) -> float:
    """The l2 norm of J v for v from the power method on J^T J."""

    def apply(values: Tensor) -> Tensor:
        return layer(values[None])[0]

    vector = torch.randn(
        point.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    stretched = 0.0
    for _ in range(_ITERATIONS):
        vector = vector / vector.norm().clamp(min=1e-300)
        image = torch.func.jvp(apply, (point,), (vector,))[1]
        stretched = float(image.norm())
        vector = torch.func.vjp(apply, point)[1](image)[0]
    return stretched


def _first(module: nn.Module) -> Tensor:
    return next(module.parameters())


def _scaled_in_place(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
