"""nn.Linear: Gemm, or MatMul and Add on more than two dimensions.

Engines may fuse the two, and sum in any order, with or without fused multiply-add: the bound of
the rule holds for all of these.
"""

from __future__ import annotations

from torch import Tensor, nn

from relaxcert.interop.onnx_export.registry import Site, emitter


@emitter(nn.Linear)
def linear(layer: nn.Linear, site: Site) -> str:
    """x W^T + b."""
    bias: Tensor | None = getattr(layer, "bias", None)
    constant = site.write.constant
    if len(site.before) == 1:
        weight = constant(layer.weight, site.dtype)
        rest = [] if bias is None else [constant(bias, site.dtype)]
        return site.write.op("Gemm", site.name, weight, *rest, transB=1)
    product = site.write.op("MatMul", site.name, constant(layer.weight.mT, site.dtype))
    if bias is None:
        return product
    return site.write.op("Add", product, constant(bias, site.dtype))
