"""Networks of convolutions, parametrised layers and blocks, from training to certificates."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from relaxcert.errors import InvalidInput, StaleBounds, UnsupportedLayer, UnsupportedPrecision
from relaxcert.heads import GloRoNet
from relaxcert.heads.evaluation import running_output
from relaxcert.heads.model_file import load_model, save_model
from relaxcert.lipschitz import conventional_products, materialised
from relaxcert.nn import Concatenation, InvertibleDownsampling, MinMax, Residual
from relaxcert.spec import Local, RelaxedTopK
from tests.networks import randn

PROP = RelaxedTopK(2, eps=0.02)


def convolutional(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        MinMax(),
        InvertibleDownsampling(),
        Residual(nn.Conv2d(16, 16, 3, padding=1)),
        MinMax(),
        Concatenation(
            nn.Conv2d(16, 4, 1), nn.Sequential(nn.Conv2d(16, 4, 3, padding=1), nn.Tanh())
        ),
        nn.BatchNorm2d(8),
        nn.MaxPool2d(2, 1, padding=1),
        nn.AvgPool2d(3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def points(seed: int = 1) -> torch.Tensor:
    return randn(seed, 6, 2, 4, 4, dtype=torch.float32)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_estimates_of_training_approach_the_verified_bounds_from_below(norm):
    net = GloRoNet(convolutional(), Local(eps=0.01, norm=norm), input_shape=(2, 4, 4)).eval()
    net.lipschitz.train()
    for _ in range(300):
        estimate, _ = net.lipschitz.estimated((2, 4, 4))[norm]
    proved = net.verify().norms[norm].product
    estimate = estimate.detach()
    # Only in l2 do estimates fold batch normalisation into the convolution before it.
    assert float(estimate) <= proved * (1 + 1e-5 if norm == "l2" else 1.05)
    # l1 and linf: sums of taps leave the borders out of account on both sides.
    assert float(estimate) >= proved * (0.995 if norm == "l2" else 0.9)


def test_a_training_step_changes_weights_and_iterates():
    net = GloRoNet(convolutional(), PROP).train()
    assert "iterate_0" not in dict(net.lipschitz.named_buffers())
    net(points())
    before = {name: value.clone() for name, value in net.lipschitz.named_buffers()}
    assert before["iterate_0"].shape == (1, 2, 4, 4)
    output = net(points())
    nn.functional.cross_entropy(output, torch.arange(6) % 4).backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.backbone.parameters())
    assert not torch.equal(before["iterate_0"], net.lipschitz.iterate_0)
    twin = GloRoNet(convolutional(3), PROP)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin.lipschitz.iterate_0, net.lipschitz.iterate_0)


def test_forward_says_no_more_than_certify_and_both_certify_something():
    inputs = torch.cat([points(seed) for seed in range(5)])
    radii = GloRoNet(convolutional().eval(), Local(eps=1)).certify(inputs).radius
    net = GloRoNet(convolutional(), Local(eps=float(radii.median()))).eval()
    said = net(inputs).argmax(1) != 4
    cert = net.certify(inputs)
    assert bool(cert.certified[said].all())
    assert 0 < int(said.sum()) < len(said)


def test_train_mode_of_batch_norm_is_refused_even_when_bounds_are_known():
    net = GloRoNet(convolutional(), PROP).eval()
    net.certify(points())
    net.train()
    with pytest.raises(UnsupportedLayer, match="train mode"):
        net.certify(points())


def test_bounds_follow_the_size_of_the_input():
    backbone = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    net = GloRoNet(backbone, Local(eps=0.1)).eval()
    products = []
    for size in (2, 5, 2):
        net.certify(torch.zeros(1, 1, size, size))
        products.append(net.verify().norms["l2"].product)
    assert products[0] == products[2] != products[1]


def test_a_batch_that_would_pass_for_channels_is_refused():
    """Conv1d(2, ...) on (batch 2, length) is an unbatched point with two channels for torch."""
    backbone = nn.Sequential(nn.Conv1d(2, 2, 1), nn.Linear(3, 2))
    with pytest.raises((UnsupportedLayer, InvalidInput), match="batch"):
        GloRoNet(backbone, Local(eps=0.1)).certify(torch.zeros(2, 3))


def parametrised() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        parametrizations.orthogonal(nn.Linear(4, 4)),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Linear(4, 6)),
        nn.Tanh(),
        parametrizations.weight_norm(nn.Linear(6, 3)),
    )


def test_parametrised_layers_are_certified_by_their_present_numbers():
    net = GloRoNet(parametrised(), Local(eps=0.05)).eval()
    inputs = randn(1, 20, 4, dtype=torch.float32)
    plain = materialised(net.backbone)
    assert type(plain[0]) is nn.Linear
    assert type(net.backbone[0]) is not nn.Linear  # the original is left alone
    assert torch.equal(plain[2].weight, net.backbone[2].weight)
    twin = GloRoNet(plain, Local(eps=0.05)).eval()
    assert torch.equal(net.certify(inputs).margin, twin.certify(inputs).margin)
    assert net.certify(inputs).fingerprint == twin.certify(inputs).fingerprint
    assert torch.equal(net(inputs), twin(inputs))
    assert net.verify().norms["l2"].rows[0].bound == pytest.approx(1.0, abs=1e-5)


def test_a_change_of_an_original_behind_a_parametrisation_is_noticed():
    net = GloRoNet(parametrised(), Local(eps=0.05)).eval()
    before = net.verify()
    assert net.verify() is before
    net.backbone[4].parametrizations.weight.original0.data.mul_(100)
    assert float(net.verify().norms["l2"].pairs.max()) > 50 * float(before.norms["l2"].pairs.max())


def test_train_mode_of_spectral_norm_is_not_disturbed_by_the_proof():
    net = GloRoNet(parametrised(), Local(eps=0.05)).train()
    before = copy.deepcopy(net.backbone.state_dict())
    net.verify()
    after = net.backbone.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert net.backbone[2].training


@pytest.mark.filterwarnings("ignore")
def test_geotorch_layers_are_certified():
    geotorch = pytest.importorskip("geotorch")
    layer = nn.Linear(4, 4)
    geotorch.orthogonal(layer, "weight")
    net = GloRoNet(nn.Sequential(layer, MinMax(), nn.Linear(4, 3)), Local(eps=0.05)).eval()
    assert net.verify().norms["l2"].rows[0].bound == pytest.approx(1.0, abs=1e-5)
    net.certify(torch.zeros(2, 4))


def test_model_files_hold_every_layer(tmp_path):
    net = GloRoNet(convolutional(), PROP, input_shape=(2, 4, 4)).eval()
    with torch.no_grad():
        net.backbone[6].running_mean.normal_()
    path = save_model(net, tmp_path / "net.safetensors")
    loaded = load_model(path).net
    assert loaded.lipschitz.input_shape == (2, 4, 4)
    assert torch.equal(loaded.certify(points()).margin, net.certify(points()).margin)
    assert loaded.verify().fingerprint == net.verify().fingerprint


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_networks_agree_in_train_and_eval_mode():
    torch.compiler.reset()
    net, twin = (GloRoNet(convolutional(), PROP) for _ in range(2))
    fast = torch.compile(net.train(), fullgraph=True, backend="aot_eager")
    for _ in range(2):
        torch.testing.assert_close(fast(points()), twin.train()(points()))
    net.eval()
    net.verify((2, 4, 4))
    with torch.no_grad():
        with pytest.raises((UnsupportedPrecision, torch._dynamo.exc.TorchDynamoException)):
            fast(points())
        with conventional_products(torch.device("cpu")):
            bounds, graph = net.verify((2, 4, 4)), net.lipschitz.current_graph((2, 4, 4))
            # Compiled code asks no point twice, so it uses the running bound alone.
            wanted = running_output(points(), graph, bounds, net.head)
            torch.testing.assert_close(fast(points()), wanted)
        with pytest.raises((StaleBounds, torch._dynamo.exc.TorchDynamoException)):
            fast(randn(2, 1, 2, 8, 8, dtype=torch.float32))
    torch.compiler.reset()


def test_tight_bounds_stay_until_they_are_given_up():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 144, 2))
    net = GloRoNet(backbone, Local(eps=0.1), input_shape=(8, 12, 12)).eval()
    loose = net.verify().norms["l2"].product
    tight = net.verify(tight=True).norms["l2"].product
    assert tight < loose
    assert net.certify(torch.zeros(1, 8, 12, 12)).radius is not None
    assert net.verify().norms["l2"].product == tight
    assert net.verify(tight=False).norms["l2"].product == loose
    assert math.isfinite(loose)
