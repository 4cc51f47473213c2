"""A training step never asks the device for a number: what runs here in place of a GPU."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from relaxcert.training import augmentation
from relaxcert.training.image_augmentation import augmented_images
from relaxcert.training.objective import Gradient
from tests.networks import every_kind
from tests.training.toy import CLASSES, blobs, network, settings

aten = torch.ops.aten
# Operations whose result the host must wait for: its value, or its very size.
WAITS = {
    aten._local_scalar_dense.default,  # item(), bool(), float()
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.repeat_interleave.Tensor,
}
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class HostSync(AssertionError):
    """The host waits for the device."""


class NoHostSync(TorchDispatchMode):
    """Fail at every operation that would make the host wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func in INDEXING and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if func in WAITS or by_mask:
            raise HostSync(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", ["cross-entropy", "trades"])
@pytest.mark.parametrize("prop", every_kind(CLASSES), ids=lambda prop: repr(prop)[:40])
def test_a_step_with_any_property_waits_for_nothing(prop, loss):
    net = network(prop).train()
    chosen = settings(batch_size=24, loss=loss, accumulate=2, precision="bf16")
    gradient = Gradient(net, chosen)
    optimizer = torch.optim.Adam(net.backbone.parameters(), fused=True)
    points, labels = blobs(24)
    gradient.add(points, labels, 0.7)  # what happens once (shapes, iterates) may ask
    with NoHostSync():
        gradient.add(points, labels, 0.7)
        optimizer.step()
    assert all(bool(p.grad.isfinite().all()) for p in net.backbone.parameters())


@pytest.mark.parametrize("prop", [p for p in every_kind(CLASSES) if hasattr(p, "affinity_sets")])
def test_a_step_for_the_certified_set_waits_for_nothing(prop):
    if prop.quantifier != "uniform":
        pytest.skip("certified-set is for uniform quantifiers")
    net = network(prop).train()
    gradient = Gradient(net, settings(batch_size=24, loss="certified-set", ranking_weight=0.1))
    points, labels = blobs(24)
    gradient.add(points, labels, 0.7)
    with NoHostSync():
        gradient.add(points, labels, 0.7)


def test_augmentation_waits_for_nothing():
    images, patches = torch.rand(4, 3, 8, 8), torch.rand(4, 36)
    with NoHostSync():
        augmented_images(images)
        augmentation.patch_symmetries(patches)


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: torch.nonzero(x),
        lambda x: x.index_put((x > 0,), torch.tensor(0.0)),
    ],
)
def test_the_watch_sees_what_waits(waits):
    with pytest.raises(HostSync), NoHostSync():
        waits(torch.ones(3))
