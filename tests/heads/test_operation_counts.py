"""A guard of speed that no other process can disturb: operations, bytes and products are counted.

The limits are what the present code needs plus about a tenth. Whoever passes one has found either a
slower way or a reason to raise it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from relaxcert import GloRoNet, RelaxedTopK
from relaxcert.heads import compile_property
from relaxcert.heads.links import EstimatedLinks
from relaxcert.lipschitz.pairs import EstimatedPairs
from relaxcert.nn import dense
from tests.heads import plain


@dataclass
class Count:
    operations: int = 0
    bytes: int = 0
    largest: int = 0
    products: int = 0


class Counting(TorchDispatchMode):
    """Counts operations of torch, and numbers and bytes of what each of them newly makes."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Count()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.is_view or func.namespace != "aten":
            return result
        self.count.operations += 1
        self.count.products += _products(func, args)
        if not func._schema.is_mutable:
            for made in result if isinstance(result, tuple | list) else (result,):
                if isinstance(made, torch.Tensor):
                    self.count.bytes += made.numel() * made.element_size()
                    self.count.largest = max(self.count.largest, made.numel())
        return result


def counted(work) -> Count:
    for _ in range(3):  # what is found out once is found out
        work()
    with Counting() as mode:
        work()
    return mode.count


# The matrix is this argument; each of its entries is used once for each column of the other.
_MATRIX = {"mv": 0, "mm": 0, "addmm": 1, "addmv": 1}


def _products(func, args) -> int:
    """Products of matrices and vectors (torch's own counter hooks modules, which is refused)."""
    name = func._overloadpacket.__name__
    if name not in _MATRIX:
        return 0
    matrix, other = args[_MATRIX[name] :][:2]
    return matrix.numel() * (other.shape[1] if other.dim() == 2 else 1)


def products(work) -> int:
    return counted(work).products


def network(width: int = 64, classes: int = 100, k: int = 5) -> GloRoNet:
    torch.manual_seed(0)
    return GloRoNet(dense(48, [width] * 3, classes), RelaxedTopK(k=k, eps="0.01"))


def training_step(net, inputs, labels):
    def step():
        net.zero_grad(set_to_none=True)
        F.cross_entropy(net(inputs), labels).backward()

    return step


def test_the_head_needs_a_fraction_of_the_memory_of_the_plain_one():
    batch, classes, depth = 256, 600, 5
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, classes, generator=generator).requires_grad_()
    weight = torch.randn(classes, 16, generator=generator).requires_grad_()
    prop = RelaxedTopK(k=depth, eps="0.01")
    head = compile_property(prop, classes)

    def fast():
        links = EstimatedLinks(logits, EstimatedPairs(weight, "l2"), 0.01)
        head.margin(logits, lambda ball: links).margin.sum().backward()

    def slow():
        links = EstimatedLinks(logits, torch.cdist(weight, weight), 0.01)
        plain.margins(prop, links, logits)[0].sum().backward()

    one, other = counted(fast), counted(slow)
    assert one.bytes < other.bytes / 4
    # Never all links at once: parts of the batch that fit the cache.
    assert other.largest >= batch * depth * classes
    assert one.largest < batch * depth * classes


def test_operations_do_not_grow_with_the_number_of_classes():
    counts = {}
    for classes in (10, 100):
        net, inputs = network(classes=classes, k=3).train(), torch.rand(32, 48)
        labels = torch.zeros(32, dtype=torch.long)
        counts[classes] = counted(training_step(net, inputs, labels)).operations
    assert counts[100] <= counts[10] + 2


@pytest.mark.parametrize(("mode", "most"), [("train", 240), ("eval", 50)])
def test_operations_beside_those_of_the_plain_network(mode, most):
    net, inputs = network(), torch.rand(128, 48)
    labels = torch.zeros(128, dtype=torch.long)
    if mode == "train":
        net.train()
        ours = counted(training_step(net, inputs, labels))
        base = counted(training_step(net.backbone, inputs, labels))
    else:
        net.eval()
        with torch.no_grad():
            ours, base = counted(lambda: net(inputs)), counted(lambda: net.backbone(inputs))
    assert ours.operations - base.operations <= most


def test_products_of_a_training_step_are_those_of_the_network_and_a_few_power_iterations():
    """Two iterations of a pair of products, and one more for the value: 5 a layer."""
    net = network().train()
    inputs, labels = torch.rand(128, 48), torch.zeros(128, dtype=torch.long)
    ours = products(training_step(net, inputs, labels))
    base = products(training_step(net.backbone, inputs, labels))
    weights = sum(layer.weight.numel() for layer in net.backbone if hasattr(layer, "weight"))
    assert 0 < ours - base <= 6 * weights


def test_eval_mode_multiplies_no_more_than_the_plain_network():
    net, inputs = network().eval(), torch.rand(128, 48)
    net(inputs)
    with torch.no_grad():
        assert products(lambda: net(inputs)) == products(lambda: net.backbone(inputs))


def test_certifying_allocates_little_beside_the_float64_network():
    net, inputs = network(width=256, classes=10, k=3).eval(), torch.rand(512, 48)
    exact = network(width=256, classes=10, k=3).backbone.double()
    points = inputs.double()
    with torch.no_grad():
        ours, base = counted(lambda: net.certify(inputs)), counted(lambda: exact(points))
    assert ours.bytes < 1.25 * base.bytes + points.numel() * 8
