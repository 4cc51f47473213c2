"""The cache returns what was computed or computes it anew; never something else."""

from __future__ import annotations

import numpy as np
import pytest

from relaxcert.data.cache import cache_folder, cached
from relaxcert.errors import CacheWarning


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"a": np.arange(6.0).reshape(2, 3), "b": np.array([self.calls])}


def test_a_second_call_reads_what_the_first_computed(tmp_path):
    compute = Counted()
    first = cached("thing", {"n": 1}, compute, folder=tmp_path)
    second = cached("thing", {"n": 1}, compute, folder=tmp_path)
    assert compute.calls == 1
    for field, value in first.items():
        np.testing.assert_array_equal(second[field], value)


def test_another_key_is_another_entry(tmp_path):
    compute = Counted()
    cached("thing", {"n": 1}, compute, folder=tmp_path)
    other = cached("thing", {"n": 2}, compute, folder=tmp_path)
    assert compute.calls == 2
    assert other["b"] == [2]


@pytest.mark.parametrize("place", ["number", "key", "cut", "empty"])
def test_a_damaged_entry_is_computed_anew(tmp_path, place):
    compute = Counted()
    cached("thing", {"n": 1}, compute, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if place == "number":
        content[-1] ^= 1
    elif place == "key":
        at = content.index(b'\\"n\\": 1')
        content[at + 7 : at + 8] = b"2"
    elif place == "cut":
        content = content[:-4]
    else:
        content = bytearray()
    file.write_bytes(content)
    with pytest.warns(CacheWarning, match="computed anew"):
        again = cached("thing", {"n": 1}, compute, folder=tmp_path)
    assert compute.calls == 2
    assert again["b"] == [2]
    assert cached("thing", {"n": 1}, compute, folder=tmp_path)["b"] == [2]


def test_a_computation_that_fails_leaves_no_file(tmp_path):
    def fail() -> dict[str, np.ndarray]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cached("thing", {}, fail, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_writing_that_fails_leaves_no_file_and_the_result(tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("relaxcert.data.cache.save_file", full)
    with pytest.warns(CacheWarning, match="no space left"):
        assert cached("thing", {}, Counted(), folder=tmp_path)["b"] == [1]
    assert list(tmp_path.iterdir()) == []


def test_the_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAXCERT_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    cached("thing", {}, Counted())
    assert [file.suffix for file in (tmp_path / "mine").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_each_platform_has_a_folder_of_its_own(tmp_path, monkeypatch, platform):
    monkeypatch.delenv("RELAXCERT_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    folder = cache_folder()
    assert "relaxcert" in folder.parts
    expected = {"linux": "xdg", "darwin": "Caches", "win32": "local"}[platform]
    assert expected in folder.parts
