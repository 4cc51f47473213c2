"""Fan-out: processes, a broken pool, a dask cluster that loses a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.smt import crosscheck
from relaxcert.smt.fanout import WorkerLost, spread
from relaxcert.spec import RelaxedTopK
from tests.networks import random_backbone
from tests.smt.networks import regions
from tests.smt.sleepers import die, sit

pytestmark = pytest.mark.filterwarnings("default")  # other people's warnings at shutdown


def network():
    return GloRoNet(random_backbone(5, 2, (8, 8), 4), RelaxedTopK(2, eps=0.1))


def test_processes_give_what_one_process_gives(tmp_path):
    net, points = network(), regions(2, 4, 24, 5)[0]
    here = crosscheck(net, points, audit_every=0)
    there = crosscheck(net, points, audit_every=0, jobs=2, records=tmp_path / "results.jsonl")
    assert [r["answer"] for r in there.records] == [r["answer"] for r in here.records]
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 25


def test_few_jobs_are_in_flight():
    started: list[float] = []

    def jobs():
        for _ in range(40):
            started.append(time.monotonic())
            yield 0.0

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        results = spread(jobs(), sit, pool, 1)
        next(results)
        assert len(started) <= 8
        assert len(list(results)) == 39


def test_a_dead_worker_process_is_an_error_that_says_what_to_do():
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(WorkerLost, match="run the same command again"),
    ):
        list(spread([0.0, 0.0], die, pool, 1))


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_still_completes(tmp_path):
    distributed = pytest.importorskip("distributed")
    net, points = network(), regions(2, 4, 160, 5)[0]
    path = tmp_path / "results.jsonl"
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill_when_under_way():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if path.exists() and len(path.read_text().splitlines()) > 8:
                    os.kill(victim, signal.SIGKILL)
                    return
                time.sleep(0.005)

        killer = threading.Thread(target=kill_when_under_way)
        killer.start()
        found = crosscheck(
            net, points, scheduler=cluster.scheduler_address, records=path, audit_every=1
        )
        killer.join()
        assert all(worker.pid != victim for worker in cluster.workers.values())
    indices = [record["index"] for record in found.records]
    assert indices == list(range(160))
    assert len(path.read_text().splitlines()) == 161  # the header, and nothing twice
    assert found.consistent
