"""Fast convolutions are off while any thread certifies, and on again afterwards."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import arithmetic
from relaxcert.lipschitz.arithmetic import conventional_products
from relaxcert.spec import Local
from tests.networks import randn

CPU = torch.device("cpu")


def settings() -> tuple[bool, bool]:
    return torch._C._get_mkldnn_enabled(), torch._C._get_nnpack_enabled()


@pytest.fixture(autouse=True)
def both_on():
    before = settings()
    torch._C._set_mkldnn_enabled(True)
    torch._C._set_nnpack_enabled(True)
    yield
    torch._C._set_mkldnn_enabled(before[0])
    torch._C._set_nnpack_enabled(before[1])


def interleaved(first, second) -> list[tuple[bool, bool]]:
    """Enter A, enter B, leave A, look, leave B, look."""
    inside, left, seen = threading.Event(), threading.Event(), []

    def other() -> None:
        with second:
            inside.set()
            assert left.wait(20)
            seen.append(settings())

    thread = threading.Thread(target=other)
    with first:
        thread.start()
        assert inside.wait(20)
    left.set()
    thread.join(20)
    return [*seen, settings()]


def test_the_first_thread_to_leave_turns_nothing_on():
    assert interleaved(conventional_products(CPU), conventional_products(CPU)) == [
        (False, False),
        (True, True),
    ]


def test_without_the_count_the_settings_would_be_wrong(monkeypatch):
    """Each thread with a state of its own, as before."""
    contexts = [arithmetic._Off(arithmetic._turn_off_on_cpu) for _ in range(2)]
    assert interleaved(*contexts) == [(True, True), (False, False)]


def test_nested_and_interrupted_uses_restore_the_settings():
    with conventional_products(CPU), conventional_products(CPU):
        assert settings() == (False, False)
    assert settings() == (True, True)
    with pytest.raises(KeyError), conventional_products(CPU):
        raise KeyError
    assert settings() == (True, True)


def test_threads_certify_as_one_does():
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    nets = [GloRoNet(backbone, Local(eps="1/100")).eval() for _ in range(4)]
    points = randn(1, 8, 1, 4, 4, dtype=torch.float32)
    alone = nets[0].certify(points)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda net: net.certify(points), 5 * nets))
    assert all(torch.equal(found.margin, alone.margin) for found in results)
    assert settings() == (True, True)
