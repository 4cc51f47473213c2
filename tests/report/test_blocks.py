"""Blocks: the same bits whoever certifies them, each point once, nothing of another run."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from relaxcert.errors import DataError
from relaxcert.heads.certificates import Certificates
from relaxcert.report import blocks
from relaxcert.report.blocks import (
    Parts,
    Work,
    certify_in_memory,
    check_every_index_once,
    remove_parts,
)
from relaxcert.spec import Local, RelaxedTopK
from relaxcert.training.ranks import Ranks, present_ranks
from tests.networks import every_kind
from tests.ranks import in_ranks
from tests.training.toy import CLASSES, blobs, network

POINTS = 37  # 7 blocks of 5, and one of 2
ALONE = Ranks()
RT2 = RelaxedTopK(2, eps=0.1)


def work(prop=RT2, **more) -> Work:
    given = {"net": network(prop), "inputs": blobs(POINTS)[0], "batch_size": 5, **more}
    return Work(**given)


def nothing(_: int) -> None:
    pass


def same_bits(one: Certificates, other: Certificates) -> bool:
    tensors = [
        f.name
        for f in fields(one)
        if isinstance(getattr(one, f.name), Tensor) or isinstance(getattr(other, f.name), Tensor)
    ]
    if any(getattr(one, name) is None or getattr(other, name) is None for name in tensors):
        return False
    equal = [
        torch.equal(getattr(one, name).nan_to_num(7.0), getattr(other, name).nan_to_num(7.0))
        if getattr(one, name).is_floating_point()
        else torch.equal(getattr(one, name), getattr(other, name))
        for name in tensors
    ]
    parts = [same_bits(a, b) for a, b in zip(one.parts, other.parts, strict=True)]
    stamps = [(c.prop, c.digest, c.fingerprint, c.level) for c in (one, other)]
    return all(equal) and all(parts) and stamps[0] == stamps[1]


@pytest.mark.parametrize("prop", every_kind(CLASSES), ids=lambda prop: repr(prop)[:40])
@pytest.mark.parametrize("deployed", [None, "float32"])
def test_files_give_back_every_bit(tmp_path, prop, deployed):
    points = blobs(POINTS)[0]
    points[3] = float("nan")
    task = work(prop, inputs=points, deployed=deployed)
    parts = Parts(task, tmp_path, ALONE, resume=False)
    told = []
    parts.certify(told.append)
    assert told == [5] * 7 + [2]
    assert same_bits(parts.joined(), certify_in_memory(task, nothing))
    remove_parts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def in_parts(folder: str, resume: bool = False):
    """Which blocks this rank took, and on the first the joined margins and sets."""
    ranks = present_ranks()
    parts = Parts(work(), Path(folder), ranks, resume=resume)
    parts.certify(nothing)
    if not ranks.first:
        return parts.own, None
    found = parts.joined()
    return parts.own, (found.margin.numpy(), found.radius.numpy(), found.sets.numpy())


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_share_the_blocks_and_give_the_bits_of_one(tmp_path, count):
    answers = in_ranks(count, in_parts, str(tmp_path))
    assert sorted(block for own, _ in answers for block in own) == list(range(8))
    alone = certify_in_memory(work(), nothing)
    margin, radius, sets = answers[0][1]
    assert margin.tobytes() == alone.margin.numpy().tobytes()
    assert radius.tobytes() == alone.radius.numpy().tobytes()
    assert sets.tobytes() == alone.sets.numpy().tobytes()


def test_other_ranks_finish_what_is_missing_and_leave_the_rest(tmp_path):
    whole = Parts(work(), tmp_path, ALONE, resume=False)
    whole.certify(nothing)
    for lost in (1, 6, 7):
        whole.path(lost).unlink()
    (tmp_path / "parts" / ".block-0000001.abc.safetensors").write_bytes(b"half")
    kept = {block: whole.path(block).stat().st_mtime_ns for block in (0, 2, 3, 4, 5)}
    answers = in_ranks(2, in_parts, str(tmp_path), True)
    assert [own for own, _ in answers] == [[1, 7], [6]]
    assert kept == {block: whole.path(block).stat().st_mtime_ns for block in kept}
    alone = certify_in_memory(work(), nothing)
    assert answers[0][1][0].tobytes() == alone.margin.numpy().tobytes()


def test_without_resume_everything_is_done_anew(tmp_path):
    first = Parts(work(), tmp_path, ALONE, resume=False)
    first.certify(nothing)
    assert Parts(work(), tmp_path, ALONE, resume=True).missing == []
    assert Parts(work(), tmp_path, ALONE, resume=False).missing == list(range(8))


@given(st.integers(1, 30), st.data())
def test_a_point_that_is_lost_doubled_or_moved_is_seen(points, data):
    check_every_index_once(torch.arange(points), points)
    index = torch.arange(points)
    place, other = (data.draw(st.integers(0, points - 1)) for _ in range(2))
    wrong = data.draw(st.sampled_from(["lost", "doubled", "replaced", "moved", "beyond"]))
    if wrong == "lost":
        index = torch.cat((index[:place], index[place + 1 :]))
    elif wrong == "doubled":
        index = torch.cat((index, index[place : place + 1]))
    elif wrong == "beyond":
        index = torch.cat((index, torch.tensor([points])))
    elif place == other:
        return
    elif wrong == "replaced":
        index[place] = other
    else:
        index[[place, other]] = index[[other, place]]
    with pytest.raises(DataError):
        check_every_index_once(index, points)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: replace(w, batch_size=6), "batch_size=5, and this run has 6"),
        (lambda w: replace(w, net=network(Local(eps=0.1))), "property="),
        (lambda w: replace(w, net=network(RelaxedTopK(2, eps=0.1), seed=3)), "weights="),
        (lambda w: replace(w, inputs=w.inputs + 1.0), "points="),
        (lambda w: replace(w, inputs=w.inputs.double()), "points="),
        (lambda w: replace(w, deployed="float32"), "level='R', and this run has 'D"),
    ],
)
def test_blocks_of_another_run_are_refused_and_left_alone(tmp_path, change, said):
    Parts(work(), tmp_path, ALONE, resume=False).certify(nothing)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    with pytest.raises(DataError, match=said) as caught:
        Parts(change(work()), tmp_path, ALONE, resume=True)
    assert "is of another run" in str(caught.value)
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}


def test_another_number_of_threads_is_another_run(tmp_path, monkeypatch):
    Parts(work(), tmp_path, ALONE, resume=False).certify(nothing)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    with pytest.raises(DataError, match=r"threads=\d+, and this run has 64"):
        Parts(work(), tmp_path, ALONE, resume=True)


def test_damaged_and_missing_blocks_are_named(tmp_path):
    parts = Parts(work(), tmp_path, ALONE, resume=False)
    parts.certify(nothing)
    content = parts.path(2).read_bytes()
    for size in (0, 20, len(content) - 3):
        parts.path(2).write_bytes(content[:size])
        with pytest.raises(DataError, match=r"block-0000002\.safetensors is damaged"):
            Parts(work(), tmp_path, ALONE, resume=True)
        with pytest.raises(DataError, match=r"block-0000002\.safetensors is damaged"):
            parts.joined()
    parts.path(2).unlink()
    with pytest.raises(DataError, match=r"block-0000002\.safetensors is missing"):
        parts.joined()


def test_a_block_with_the_points_of_another_is_refused(tmp_path):
    parts = Parts(work(), tmp_path, ALONE, resume=False)
    parts.certify(nothing)
    parts.path(2).write_bytes(parts.path(3).read_bytes())
    with pytest.raises(DataError, match="point 10 occurs 0 times"):
        parts.joined()


def test_a_block_without_a_column_or_of_unequal_ones_is_refused(tmp_path):
    parts = Parts(work(), tmp_path, ALONE, resume=False)
    parts.certify(nothing)
    with safe_open(parts.path(1), framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({k: v for k, v in tensors.items() if k != "margin"}, parts.path(1), metadata)
    with pytest.raises(DataError, match="lacks 'margin'"):
        parts.joined()
    save_file({**tensors, "margin": tensors["margin"][:2].clone()}, parts.path(1), metadata)
    with pytest.raises(DataError, match="different lengths"):
        parts.joined()


def test_a_block_is_certified_by_itself(monkeypatch):
    """Seeded fault: blocks that are cut according to who asks would mix their company."""
    task = work(batch_size=16)
    monkeypatch.setattr(blocks, "concatenate", partial(list))
    assert [len(c) for c in certify_in_memory(task, nothing)] == [16, 16, 5]
    assert [task.rows(block).start for block in task.blocks] == [0, 16, 32]


@pytest.mark.parametrize("stamp", ["no JSON", "[1]", "7", "null", "[" * 100_000])
def test_a_block_without_a_stamp_is_refused(tmp_path, stamp):
    parts = Parts(work(), tmp_path, ALONE, resume=False)
    parts.certify(nothing)
    with safe_open(parts.path(2), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, parts.path(2), {"stamp": stamp})
    with pytest.raises(DataError, match="no stamp"):
        Parts(work(), tmp_path, ALONE, resume=True)
