"""Training on several ranks: the network, losses and figures of one process; nothing is doubled."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxcert.errors import InvalidInput, TrainingError
from relaxcert.spec import Affinity, AffinitySets
from relaxcert.training import fit
from relaxcert.training.batches import Batches
from relaxcert.training.progress import EpochBar
from relaxcert.training.ranks import Ranks, joined, present_ranks
from tests.ranks import in_ranks
from tests.training.toy import CLASSES, LOCAL, Plain, blobs, network, settings, without_time

AFFINITY = Affinity(AffinitySets([[0, 1], [2, 3]], CLASSES), eps=0.1)
CPU = torch.device("cpu")


def trained(points: int, prop=LOCAL, *, kind=None, folder=None, fails_after=None, **more):
    """Weights and iterates by name, and the history without its times; float64."""
    net = network(prop).double()
    inputs, labels = blobs(points)
    data = (inputs.double(), labels)
    tests, known = blobs(7, seed=2)  # 7 do not divide by 2 or 3
    if fails_after is not None:
        EpochBar.advance = partial(_fail, fails_after)
    history = fit(
        net,
        data if kind is None else kind(*data),
        settings(**{"epochs": 2, **more}),
        validation=(tests.double(), known),
        evaluate_every=1,
        folder=folder,
        resume=folder is not None,
        progress=False,
    )
    return {k: v.numpy() for k, v in net.state_dict().items()}, without_time(history)


class Interrupted(Exception):
    pass


def _fail(after: int, loss: float, vra: float | None) -> None:
    _fail.calls = getattr(_fail, "calls", 0) + 1
    if _fail.calls == after:
        raise Interrupted


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def close(one, other) -> bool:
    return all(np.allclose(one[k], other[k], rtol=1e-9, atol=1e-10) for k in one)


@pytest.mark.parametrize(
    ("count", "points", "more"),
    [
        (2, 96, {"loss": "cross-entropy"}),
        # The last batch has one point, so that the others of its ranks have none.
        (3, 33, {"loss": "trades", "accumulate": 3}),
        (2, 47, {"loss": "certified-set", "ranking_weight": 0.5, "prop": AFFINITY}),
        (3, 29, {"orthogonal": True, "kind": Plain}),
    ],
)
def test_the_network_of_several_ranks_is_that_of_one(count, points, more):
    work = partial(trained, points, **more)
    weights, history = work()
    found = in_ranks(count, work)
    for theirs, record in found:
        assert close(weights, theirs)
        # Of weights and power iterates there is one version, on whichever rank.
        assert same(theirs, found[0][0])
        assert record == found[0][1]
        np.testing.assert_allclose([e[1] for e in record], [e[1] for e in history], rtol=1e-9)
        assert [e[3:] for e in record] == [e[3:] for e in history]  # VRA and its like, exactly


def _with_equal_shares():
    Batches.shares = lambda self: (1 / self.ranks.count for _ in range(len(self)))
    return trained(35)


def test_shares_that_do_not_follow_the_sizes_would_be_seen():
    assert not close(trained(35)[0], in_ranks(2, _with_equal_shares)[0][0])


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 5), st.integers(0, 99))
def test_every_row_goes_to_one_rank_and_all_ranks_take_the_same_steps(
    points, batch_size, count, epoch
):
    inputs, labels = torch.arange(float(points))[:, None], torch.zeros(points).long()
    whole = Batches((inputs, labels), batch_size, 1, CPU)
    per_rank = []
    for rank in range(count):
        batches = Batches((inputs, labels), batch_size, 1, CPU, Ranks(rank, count))
        per_rank.append(list(zip(batches.epoch(0, epoch), batches.shares(), strict=True)))
    for (batch, _), *shares in zip(whole.epoch(0, epoch), *per_rank, strict=True):
        rows = [row for (x, _), share in shares if share > 0 for row in x[:, 0].tolist()]
        assert sorted(rows) == sorted(batch[:, 0].tolist())
        assert sum(share for _, share in shares) == pytest.approx(1.0)
        assert all(len(x) == 1 for (x, _), share in shares if share == 0)
        assert all(share == pytest.approx(len(x) / len(batch)) or share == 0
                   for (x, _), share in shares)  # fmt: skip


def _with_one_bad_row():
    inputs, labels = blobs(32)
    inputs[5] = float("nan")
    try:
        fit(network(), (inputs, labels), settings(1, batch_size=32), progress=False)
    except TrainingError as error:
        return str(error)
    return "it trained"


def test_a_loss_that_is_nan_on_one_rank_ends_all_with_the_same_words():
    first, second = in_ranks(2, _with_one_bad_row)
    assert first == second
    assert "nan at step 0 of epoch 0" in first


def _broken_and_resumed(points: int, folder: str, **more):
    if present_ranks().count > 1:
        with pytest.raises(Interrupted):
            trained(points, folder=folder, fails_after=1, **more)
        EpochBar.advance = lambda self, loss, vra: None
    return trained(points, folder=folder, **more)


def test_a_run_on_two_ranks_that_broke_off_is_resumed_bit_for_bit_and_by_one(tmp_path):
    whole = in_ranks(2, trained, 33)
    resumed = in_ranks(2, _broken_and_resumed, 33, str(tmp_path / "two"))
    assert same(whole[0][0], resumed[0][0])
    assert whole[0][1] == resumed[0][1]
    # Another number of ranks may go on: here one, from a finished run, with nothing left to do.
    alone, history = trained(33, folder=str(tmp_path / "two"))
    assert close(alone, whole[0][0])
    assert history == whole[0][1]


def _in_folders_of_their_own(folder: str):
    rank = present_ranks().rank
    if rank == 0:
        # As if the second machine did not see the folder of the first.
        (lonely,) = (f"{folder}/seen",)
        return _refusal(lonely)
    return _refusal(f"{folder}/unseen")


def _refusal(folder: str) -> str:
    try:
        trained(33, folder=folder)
    except TrainingError as error:
        return str(error)
    return "it trained"


def test_ranks_that_see_different_checkpoints_are_refused(tmp_path):
    trained(33, folder=tmp_path / "seen")
    for answer in in_ranks(2, _in_folders_of_their_own, str(tmp_path)):
        assert "differ in the epochs that are done (0 to 2" in answer
        assert "folder that all of them see" in answer


def test_alone_there_is_nothing_to_join_or_to_exchange(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as device:
        assert device == "cpu"
        assert present_ranks() == Ranks()
    values = torch.ones(2)
    assert Ranks().total(values) is values
    Ranks().take_from_first([values])
    Ranks().check_same("nothing", 3, CPU)
    Ranks().wait()


def test_one_gpu_for_several_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInput, match="cuda:1 is one GPU for 2 processes"), joined("cuda:1"):
        pass
