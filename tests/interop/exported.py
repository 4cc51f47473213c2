"""Exported networks in onnxruntime, beside ``certify``."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnxruntime
import torch
from torch import Tensor

from relaxcert.heads import Certificates, GloRoNet
from relaxcert.interop.onnx_export import onnx_model


@dataclass(frozen=True)
class Answers:
    """What an exported network says of a batch."""

    logits: Tensor
    certified: Tensor
    k: Tensor
    set: Tensor
    radius: Tensor


class Exported:
    """A session of onnxruntime on the CPU."""

    def __init__(self, net: GloRoNet, *, optimised: bool = True, **settings) -> None:
        self.net = net
        self.model: onnx.ModelProto = onnx_model(net, **settings)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
        )
        self.session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, inputs: Tensor) -> Answers:
        found = self.session.run(None, {"x": inputs.numpy()})
        return Answers(*(torch.from_numpy(value) for value in found))


def violations(exported: Answers, proved: Certificates) -> Tensor:
    """Points of which the exported network says more than ``certify`` proves; (batch,) bool."""
    more = exported.certified & ~proved.certified
    longer = exported.k > proved.k
    wider = (exported.radius > proved.radius) & ~proved.radius.isnan()
    # The set of a shorter prefix lies within that of a longer one.
    outside = (exported.set & ~proved.sets).any(1) & (exported.k > 0)
    return more | longer | wider | outside


def at_the_margin(net: GloRoNet, inputs: Tensor, steps: int = 60) -> Tensor:
    """Points within a rounding of the certified region's edge: found by bisection in their dtype.

    Random segments with a certified and a rejected end are halved until their ends are the same or
    neighbours; both ends are returned, and points a few units in the last place beside them.
    """
    certified = net.certify(inputs).certified
    one, other = certified.nonzero()[:, 0], (~certified).nonzero()[:, 0]
    places = torch.arange(len(inputs) // 2)
    good, bad = inputs[one[places % len(one)]], inputs[other[places.flip(0) % len(other)]]
    for _ in range(steps):
        middle = (good + bad) / 2
        holds = net.certify(middle).certified
        expand = holds.view(-1, *[1] * (inputs.dim() - 1))
        good, bad = torch.where(expand, middle, good), torch.where(expand, bad, middle)
    edges = torch.cat((good, bad))
    shaken = [edges]
    for unit in (1, 3, 10, 100):
        noise = torch.randint(
            -unit, unit + 1, edges.shape, generator=torch.Generator().manual_seed(unit)
        )
        shaken.append(edges * (1 + noise * torch.finfo(edges.dtype).eps))
    return torch.cat(shaken)
