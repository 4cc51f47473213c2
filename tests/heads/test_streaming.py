"""Certificates of a stream of batches: the same as of all points at once, in flat memory."""

from __future__ import annotations

import threading
import weakref

import pytest
import torch

from relaxcert.heads import concatenate
from relaxcert.heads.streaming import prefetched
from tests.heads.test_float32_first import PROPERTIES, network, same_verdicts
from tests.networks import randn


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_stream_gives_the_certificates_of_all_points(prefetch):
    net = network(PROPERTIES["uniform"])
    inputs = randn(1, 70, 6, dtype=torch.float32)
    stream = net.certify_stream(iter(inputs.split(16)), prefetch=prefetch)
    joined, whole = concatenate(list(stream)), net.certify(inputs)
    same_verdicts(joined, whole)
    torch.testing.assert_close(joined.margin, whole.margin, rtol=1e-12, atol=1e-12)


def test_batches_and_certificates_are_let_go():
    """A generator of batches never has more alive than are fetched ahead and in work."""
    net = network(PROPERTIES["local"])
    alive: list[weakref.ref] = []
    most = 0

    def batches():
        nonlocal most
        for seed in range(12):
            batch = randn(seed, 8, 6)
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            most = max(most, sum(ref() is not None for ref in alive))

    assert sum(len(found) for found in net.certify_stream(batches(), prefetch=1)) == 96
    assert most <= 3


def test_a_change_of_the_weights_in_mid_stream_is_seen():
    net = network(PROPERTIES["local"])
    inputs = randn(1, 40, 6, dtype=torch.float32)
    stream = net.certify_stream([inputs, inputs], prefetch=1)
    before = next(stream)
    net.backbone[0].weight.data.mul_(1.5)
    after = next(stream)
    assert before.fingerprint != after.fingerprint
    same_verdicts(after, net.certify(inputs))


def test_items_are_fetched_ahead_by_one_thread_and_in_order():
    threads = set()
    fetched = []

    def items():
        for number in range(6):
            threads.add(threading.get_ident())
            fetched.append(number)
            yield number

    stream = prefetched(items(), 2)
    assert next(stream) == 0
    assert list(stream) == [1, 2, 3, 4, 5]
    assert fetched == [0, 1, 2, 3, 4, 5]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_of_the_iterable_comes_out_in_its_place():
    def items():
        yield 1
        raise OSError("cannot be read")

    stream = prefetched(items(), 1)
    assert next(stream) == 1
    with pytest.raises(OSError, match="cannot be read"):
        next(stream)


def test_a_stream_that_is_left_early_leaves_no_thread():
    before = threading.active_count()
    stream = prefetched(iter(range(1000)), 2)
    assert next(stream) == 0
    stream.close()
    assert threading.active_count() == before
