"""Files that somebody made up: every field takes every kind of value, all hashes made to fit."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from safetensors.numpy import load_file, safe_open, save_file

from relaxcert import checker
from relaxcert.checker.model import hash_of_weights
from relaxcert.checker.property import digest_of
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted
from tests.proofs.made import Artefacts, made, sealed

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 10**30, 0.5, -0.0, 1e308, "", "x", "1/2", "1/1", "inf", [], [0],
    [[]], [[0]], {}, {"kind": "local"}, [None], "l1", "ReLU", "Conv2d", "0" * 64,
]  # fmt: skip
SETS = AffinitySets([[0, 1], [1, 2], [3]], 4)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> list[Artefacts]:
    kinds = [
        lambda eps: Affinity(SETS, eps=eps, quantifier="pointwise"),
        lambda eps: Targeted.neighbours([0, 1, 2, 3], eps=eps, norm="linf"),
        lambda eps: Local(eps=eps) & RelaxedTopK(2, eps=eps),
    ]
    folder = tmp_path_factory.mktemp("fuzz")
    return [made(folder / str(n), kind) for n, kind in enumerate(kinds)]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in nested data, at every depth."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, child in inner:
        yield (*path, key)
        yield from places(child, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    inside = changed
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = new
    return changed


def judged(artefacts: Artefacts, **changes: Any) -> str:
    """Accepted, rejected or unreadable; any other exception fails the test."""
    try:
        artefacts.check(**changes)
    except checker.Rejected:
        return "rejected"
    except checker.Unreadable:
        return "unreadable"
    return "accepted"


def test_any_value_in_any_field_of_a_certificate(artefacts, tmp_path):
    chosen, found = random.Random(0), dict.fromkeys(("accepted", "rejected", "unreadable"), 0)
    for _ in range(900):
        source = chosen.choice(artefacts)
        lines = source.lines()
        number = chosen.randrange(len(lines) - 1)
        path = chosen.choice(list(places(lines[number])))
        lines[number] = replaced(lines[number], path, chosen.choice(VALUES))
        if number == 0 and path[0] == "property":
            lines[0]["digest"] = digest_of(lines[0]["property"])
        file = sealed(lines, tmp_path / "changed")
        verdict = judged(source, certificate=file, digest=lines[0]["digest"])
        found[verdict] += 1
        if verdict == "accepted":
            # The same value again, another true property, or a margin or radius made smaller.
            assert path[0] in ("property", "margin", "radius", "digest") or lines == source.lines()
    assert min(found.values()) > 0
    assert found["rejected"] > 100


def test_any_value_in_any_field_of_the_architecture(artefacts, tmp_path):
    """With the certificate's hash of the weights made to fit the changed model."""
    source, chosen, verdicts = artefacts[0], random.Random(1), set()
    tensors = load_file(source.model)
    with safe_open(source.model, framework="numpy") as file:
        metadata = file.metadata()
    architecture = json.loads(metadata["architecture"])
    for _ in range(400):
        path = chosen.choice(list(places(architecture)))
        changed = replaced(architecture, path, chosen.choice(VALUES))
        model = tmp_path / "changed.safetensors"
        save_file(tensors, model, {**metadata, "architecture": json.dumps(changed)})
        lines = source.lines()
        lines[0]["weights"] = hash_of_weights(changed, tensors)
        certificate = sealed(lines, tmp_path / "changed.cert")
        verdict = judged(source, model=model, certificate=certificate)
        verdicts.add(verdict)
        if verdict == "accepted":
            # A setting that means nothing (such as the order of names) or the same value again.
            assert changed == architecture or path[-1] not in ("kind", "bias", "start", "end")
    assert "unreadable" in verdicts
