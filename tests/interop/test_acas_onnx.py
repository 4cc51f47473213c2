"""The form in which the ACAS Xu networks are public as ONNX: input [1, 1, 1, 5], a constant
subtracted, flattened, MatMul + Add + Relu."""

from __future__ import annotations

import numpy as np
import torch
from onnx import helper
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.interop import read_nnet, read_onnx
from relaxcert.nn.layers import InputNormalisation
from relaxcert.spec import Affinity, AffinitySets
from tests.interop.onnx_files import assert_same, model_of, points, write
from tests.interop.test_nnet import SMALL


def as_public(network: nn.Sequential, subtracted: np.ndarray):
    """A chain of Linear and ReLU layers in that form."""
    nodes = [
        helper.make_node("Sub", ["x", "input_AvgImg"], ["subtracted"]),
        helper.make_node("Flatten", ["subtracted"], ["h0"]),
    ]
    constants = {"input_AvgImg": subtracted}
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for place, layer in enumerate(layers):
        last = place == len(layers) - 1
        constants[f"w{place}"] = layer.weight.detach().T.float().numpy()
        constants[f"b{place}"] = layer.bias.detach().float().numpy()
        nodes += [
            helper.make_node("MatMul", [f"h{place}", f"w{place}"], [f"m{place}"]),
            helper.make_node("Add", [f"m{place}", f"b{place}"], ["y" if last else f"a{place}"]),
        ]
        if not last:
            nodes.append(helper.make_node("Relu", [f"a{place}"], [f"h{place + 1}"]))
    inputs = layers[0].in_features
    return model_of(nodes, [1, 1, 1, inputs], constants, opset=10)


def test_the_public_form_is_read_and_certified(tmp_path):
    path = tmp_path / "small.nnet"
    path.write_text(SMALL, encoding="latin-1")
    scores = read_nnet(path, best="max").network
    shift = np.array([[[[0.25, -0.5]]]], dtype=np.float32)
    model = write(as_public(scores, shift), tmp_path)
    found = read_onnx(model, best="min")
    assert found.input_shape == (1, 1, 2)
    assert isinstance(found.network[1], InputNormalisation)
    assert [type(layer) for layer in found.network[2:]] == [
        nn.Flatten, nn.Linear, nn.ReLU, nn.Linear,
    ]  # fmt: skip
    assert_same(read_onnx(model).network, model, points(1, 40, 1, 1, 2))

    # The same numbers as those of the .nnet file, in float32, and the same certificates.
    prop = Affinity(AffinitySets([[0, 1], [2]], 3), eps=0.01)
    chain = read_nnet(path).network.float()
    flat = torch.from_numpy(points(2, 200, 2))
    from_onnx = GloRoNet(found.network, prop).certify(flat)
    from_nnet = GloRoNet(chain, prop).certify(flat.double() - torch.from_numpy(shift[0, 0]))
    assert from_onnx.certified.any()
    assert torch.equal(from_onnx.certified, from_nnet.certified)
    assert torch.equal(from_onnx.sets, from_nnet.sets)
