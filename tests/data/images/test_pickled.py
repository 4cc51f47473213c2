"""CIFAR-100's python version is read as data; whatever could run something is refused."""

from __future__ import annotations

import contextlib
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxcert.data.images import cifar100
from relaxcert.data.images.cifar import COARSE_OF_FINE
from relaxcert.data.images.pickled import read_plain_pickle
from relaxcert.errors import DataError
from tests.data.images.written import noise

FINE = [3, 3, 42]


def as_python_2_wrote_it(images: np.ndarray, **other: object) -> bytes:
    """Protocol 2 with numpy's old names and byte strings as latin-1 text, as in the real file.

    ``other`` replaces fields by plain values.
    """

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    shape = b"".join(b"M" + size.to_bytes(2, "little") for size in images.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85"
        + text(b"b")
        + b"\x87Rq\x03(K\x01"
        + shape
        + b"\x86cnumpy\ndtype\nq\x04"
        + text(b"u1")
        + b"K\x00K\x01\x87Rq\x05(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + text(images.tobytes())
        + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in FINE) + b"e"
    coarse = b"](" + b"".join(b"K" + bytes([COARSE_OF_FINE[label]]) for label in FINE) + b"e"
    fields = [(b"data", array), (b"fine_labels", labels), (b"coarse_labels", coarse)]
    fields = [
        (key, pickle.dumps(other[key.decode()], 2)[2:-1] if key.decode() in other else value)
        for key, value in fields
    ]
    return b"\x80\x02}q\x00(" + b"".join(text(k) + v for k, v in fields) + b"u."


def test_the_file_of_python_2_is_read(tmp_path):
    images = noise(3, 3, 3072)
    raw = as_python_2_wrote_it(images)
    real = pickle.loads(raw, encoding="bytes")  # the test's own bytes: what a reader must find
    assert np.array_equal(real[b"data"], images)
    (tmp_path / "train").write_bytes(raw)
    found = cifar100(tmp_path, "train")
    assert found.labels.tolist() == FINE
    assert np.array_equal(found.images.reshape(3, -1), images)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol_are_read_or_refused(tmp_path, protocol):
    value = {"a": [1, -2, 2**40, True, None, 0.5], "b": ("x", {"y": []}), 3: "\u00e9"}
    file = tmp_path / "values"
    file.write_bytes(pickle.dumps(value, protocol))
    if protocol == 0:
        with pytest.raises(DataError, match="opcode FLOAT"):
            read_plain_pickle(file)
    else:
        assert read_plain_pickle(file) == value


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload-ran",)


class Subtle:
    def __reduce__(self):
        return np.ndarray, ((2, 2),)


@pytest.mark.parametrize("value", [Payload(), {"data": [Payload()]}, Subtle(), {1, 2}, os.getcwd])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_whatever_calls_something_is_refused_and_not_run(tmp_path, monkeypatch, value, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(DataError, match="holds more than data"):
        cifar100(tmp_path, "train")
    assert not (tmp_path / "payload-ran").exists()


@given(cut=st.integers(0, 400), flip=st.integers(0, 255))
def test_a_damaged_file_is_read_as_data_or_is_one_clear_error(tmp_path_factory, cut, flip):
    raw = bytearray(as_python_2_wrote_it(noise(3, 3, 3072)))
    place = cut if cut < 200 else len(raw) - (cut - 199)
    raw[place] = flip
    file = tmp_path_factory.mktemp("damaged") / "train"
    for damaged in (bytes(raw), bytes(raw[:place])):
        file.write_bytes(damaged)
        # Nothing else than a DataError may come out.
        with contextlib.suppress(DataError):
            assert len(cifar100(file.parent, "train")) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": [1]}, "field data"),
        ({"fine_labels": "no"}, "field fine_labels"),
        ({"fine_labels": [100, 1, 2]}, "fine label 100"),
        ({"fine_labels": [1]}, "1 fine and 3 coarse"),
        ({"coarse_labels": [0, 0, 0]}, "record 0 has coarse label 0"),
    ],
)
def test_fields_of_the_wrong_kind_are_named(tmp_path, change, said):
    (tmp_path / "train").write_bytes(as_python_2_wrote_it(noise(3, 3, 3072), **change))
    with pytest.raises(DataError, match=said):
        cifar100(tmp_path, "train")
