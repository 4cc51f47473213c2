"""Flipped bits, anywhere: a changed artefact is never accepted, or what it says is still true."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, safe_open

from relaxcert import checker
from relaxcert.checker.certificate import parse_certificate
from relaxcert.spec import Local, RelaxedTopK
from tests.lipschitz.exact import at_least_spectral_norm
from tests.proofs.made import Artefacts, made, sealed_bytes


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> Artefacts:
    return made(tmp_path_factory.mktemp("flips"), lambda eps: RelaxedTopK(2, eps=eps))


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def outcome(artefacts: Artefacts, **changes: Path) -> str:
    """``accepted``, ``unreadable``, or the step at which it is rejected; nothing else may come."""
    try:
        artefacts.check(**changes)
    except checker.Rejected as rejected:
        return rejected.step
    except checker.Unreadable:
        return "unreadable"
    return "accepted"


def test_every_single_bit_of_a_certificate(artefacts):
    """Exhaustively: no changed file gets as far as its claims."""
    content, found = artefacts.certificate.read_bytes(), Counter[str]()
    for bit in range(len(content) * 8):
        try:
            parse_certificate(flipped(content, bit), Path("changed"))
            found["accepted"] += 1
        except checker.Rejected as rejected:
            found[rejected.step] += 1
        except checker.Unreadable:
            found["unreadable"] += 1
    assert found["accepted"] == 0
    assert found["seal"] > 14_000
    assert found.total() == found["seal"] + found["unreadable"]


def test_random_bits_of_a_certificate_whose_seal_is_made_to_fit(artefacts, tmp_path):
    """Without the seal's help: what is accepted says the same, or something weaker and true."""
    body = artefacts.certificate.read_bytes().rpartition(b'{"kind":"end"')[0]
    chosen, found = random.Random(0), Counter[str]()
    for _ in range(1500):
        bit = chosen.randrange(len(body) * 8)
        changed = sealed_bytes(flipped(body, bit), tmp_path / "changed")
        step = outcome(artefacts, certificate=changed)
        found[step] += 1
        if step == "accepted":
            assert still_true(artefacts, changed)
    assert {"margin", "radius", "set", "input", "property", "weights", "inputs"} <= found.keys()
    assert any(step.startswith("bound of layer") for step in found)
    assert 0 < found["accepted"] < 500  # low bits of witnesses, and claims made smaller


def still_true(artefacts: Artefacts, changed: Path) -> bool:
    """Against the original: the same statement, smaller margins and radii, bounds that are true."""
    lines = [json.loads(line) for line in changed.read_bytes().splitlines()]
    for line, original in zip(lines, artefacts.lines(), strict=True):
        match line["kind"]:
            case "header":
                assert line == original
            case "bound":
                assert {**line, "factor": 0, "bound": 0, "exponent": 0} == {
                    **original, "factor": 0, "bound": 0, "exponent": 0
                }  # fmt: skip
                weight = artefacts.net.backbone.get_submodule(line["layer"]).weight
                # The first map begins with a division by 0.25, exactly.
                weight = weight * 4 if line["layer"] == "2" else weight
                assert at_least_spectral_norm(line["bound"], weight)
            case "point":
                assert line["index"] == original["index"]
                assert line["input"] == original["input"]
                # The certifier's allowance for rounding, about 1e-14 here, is all there is above.
                assert 0 < line["margin"] <= original["margin"] + 1e-13
                assert 0 <= line["radius"] <= original["radius"] + 1e-13
                both = ((original["k"], original["set"]), (original["strictest_k"],
                        original["strictest_set"]))  # fmt: skip
                assert (line["k"], line["set"]) in both
                assert (line["strictest_k"], line["strictest_set"]) in both
    return True


def test_random_bits_of_the_model_file(artefacts, tmp_path):
    """Accepted only where no stored number, no layer and no property has changed."""
    content, chosen, found = artefacts.model.read_bytes(), random.Random(1), Counter[str]()
    tensors, changed = load_file(artefacts.model), tmp_path / "changed.safetensors"
    for _ in range(1000):
        changed.write_bytes(flipped(content, chosen.randrange(len(content) * 8)))
        step = outcome(artefacts, model=changed)
        found[step] += 1
        if step == "accepted":
            again = load_file(changed)
            assert again.keys() == tensors.keys()
            assert all(again[name].tobytes() == tensors[name].tobytes() for name in tensors)
            assert meaning(changed) == meaning(artefacts.model)
    assert {"weights", "unreadable"} <= found.keys()
    assert found["weights"] > 200
    assert found["accepted"] < 100  # the field class_names and its name


def meaning(path: Path) -> object:
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    return json.loads(metadata["architecture"]), metadata["property"], metadata["digest"]


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_random_bits_of_the_data(artefacts, suffix, tmp_path):
    """Accepted only where the points are the same: labels and dates are no claims."""
    path = artefacts.data
    if suffix == "npy":
        path = tmp_path / "points.npy"
        np.save(path, artefacts.inputs.numpy())
    content, chosen, found = path.read_bytes(), random.Random(2), Counter[str]()
    changed = tmp_path / f"changed.{suffix}"
    for _ in range(600):
        changed.write_bytes(flipped(content, chosen.randrange(len(content) * 8)))
        step = outcome(artefacts, data=changed)
        found[step] += 1
        if step == "accepted":
            again = np.load(changed)
            again = again if suffix == "npy" else again["x"]
            assert np.array_equal(again, artefacts.inputs.numpy())
    assert found["unreadable"] > 10
    assert suffix == "npz" or found["input"] + found["inputs"] > 150


def test_a_point_that_is_not_certified_is_covered_by_the_hash_of_all(artefacts, tmp_path):
    skipped = int((~artefacts.certificates.certified).nonzero()[0])
    numbers = artefacts.inputs.numpy().copy()
    numbers[skipped, 0] += 1e-3
    np.save(tmp_path / "x.npy", numbers)
    assert outcome(artefacts, data=tmp_path / "x.npy") == "inputs"


def test_points_cannot_be_swapped_or_moved(artefacts, tmp_path):
    order = np.arange(7)
    order[[0, 1]] = 1, 0
    np.save(tmp_path / "x.npy", artefacts.inputs.numpy()[order])
    assert outcome(artefacts, data=tmp_path / "x.npy") in ("input", "inputs")


def test_another_eps_in_certificate_and_model_alike(tmp_path):
    """Property and digest changed on both sides, seals and all: the margins give it away."""
    small = made(tmp_path / "small", lambda eps: Local(eps=eps), eps="1/100")
    large = made(tmp_path / "large", lambda eps: Local(eps=eps), eps="1/2")
    header = large.lines()[0]
    lines = [{**header, "certified": small.lines()[0]["certified"]}, *small.lines()[1:-1]]
    body = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)
    changed = sealed_bytes(body.encode(), tmp_path / "changed")
    assert outcome(large, certificate=changed) == "margin"
