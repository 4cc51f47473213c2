"""Data files: what is read, and one clear DataError for each thing that may be wrong."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaxcert.data import read_points
from relaxcert.errors import DataError

X = np.arange(12.0).reshape(4, 3) / 8
Y = np.array([0, 2, 1, 2])


def npz(folder: Path, **arrays: object) -> Path:
    path = folder / "points.npz"
    np.savez(path, **arrays)
    return path


def npy_bytes(header: object, body: bytes = b"") -> bytes:
    """A .npy file with a header of our own making."""
    text = repr(header).encode()
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def declared(shape: object, descr: object = "<f8", body: bytes = b"") -> bytes:
    return npy_bytes({"descr": descr, "fortran_order": False, "shape": shape}, body)


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_npz_npy_and_csv_give_the_same_points(tmp_path):
    np.save(tmp_path / "points.npy", X)
    lines = [",".join(map(str, row)) for row in np.column_stack((X, Y))]
    csv = written(tmp_path, "points.csv", "\n".join(lines) + "\n")
    named = written(tmp_path, "named.csv", "\n".join(["a,b,c,label", *lines]))
    for path, labelled in [
        (npz(tmp_path, x=X, y=Y), True),
        (tmp_path / "points.npy", False),
        (csv, True),
        (named, True),
    ]:
        inputs, labels = read_points(path, features=3, num_classes=3)
        assert torch.equal(inputs, torch.from_numpy(X))
        assert (labels is not None) == labelled
        if labels is not None:
            assert labels.dtype == torch.int64
            assert labels.tolist() == Y.tolist()


def test_csv_knows_its_label_column_by_name_or_by_the_number_of_features(tmp_path):
    plain = written(tmp_path, "a.csv", "1,2,0\n3,4,1\n")
    assert read_points(plain)[1] is None
    assert read_points(plain, features=3)[1] is None
    inputs, labels = read_points(plain, features=2)
    assert (inputs.tolist(), labels.tolist()) == ([[1, 2], [3, 4]], [0, 1])
    named = written(tmp_path, "b.csv", 'p, q, "Label"\n1,2,0\n3,4,1\n')
    assert read_points(named)[1].tolist() == [0, 1]
    assert read_points(written(tmp_path, "c.csv", "p,q,r\n1,2,0\n"))[1] is None


@pytest.mark.parametrize(
    "text", ["\ufeff1,2\n3,4\n", "\ufeffp,q\n1,2\n3,4\n", "1,2\r\n3,4\r\n\r\n"]
)
def test_csv_as_spreadsheets_write_it_loses_no_row(tmp_path, text):
    inputs, _ = read_points(written(tmp_path, "a.csv", text))
    assert inputs.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("u1", torch.float32),
        ("i2", torch.float32),
        ("f2", torch.float32),
        ("f4", torch.float32),
        ("i4", torch.float64),
        ("u4", torch.float64),
        ("i8", torch.float64),
        ("f8", torch.float64),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_number_is_kept_exactly(tmp_path, dtype, kept, order):
    kind = np.dtype(order + dtype)
    largest = 65504 if dtype == "f2" else 2**24 + 1 if kind.itemsize > 2 else np.iinfo(kind).max
    if dtype == "f4":
        largest = 2**24
    array = np.array([[largest, 1], [3, 0]], dtype=kind)
    inputs, _ = read_points(npz(tmp_path, x=array))
    assert inputs.dtype == kept
    assert [[int(v) for v in row] for row in inputs.tolist()] == [[largest, 1], [3, 0]]


def test_arrays_in_fortran_order_and_with_more_dimensions_are_read(tmp_path):
    array = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    inputs, _ = read_points(npz(tmp_path, x=array), features=12)
    assert torch.equal(inputs, torch.arange(24.0).reshape(2, 3, 4))


MISTAKES = [
    ({"x": X[:, :2]}, "field x has 2 features a point, but the network takes 3"),
    ({"x": X[0]}, r"field x has shape \(3,\)"),
    ({"x": X[:, :0]}, r"field x has shape \(4, 0\)"),
    ({"x": X[:0]}, "field x holds no points"),
    ({"x": np.where(np.arange(4)[:, None] == 2, np.nan, X)}, "row 2 of x holds NaN"),
    ({"x": np.where(np.arange(4)[:, None] > 1, np.inf, X)}, r"row 2 of x .* \(2 such rows\)"),
    ({"x": X, "y": np.array([0, 1, 3, 2])}, "row 2 of y is 3, expected a class from 0 to 2"),
    ({"x": X, "y": np.array([0, -1, 1, 2])}, "row 1 of y is -1"),
    ({"x": X, "y": np.array([0, 1, 1.5, 2])}, "row 2 of y is 1.5"),
    ({"x": X, "y": np.array([0, 1, 1, np.nan])}, "row 3 of y is nan"),
    ({"x": X, "y": np.array([0, 1, 1, np.inf])}, "row 3 of y is inf"),
    ({"x": X, "y": np.array([0, 1])}, r"field y has shape \(2,\), expected \(4,\)"),
    ({"x": X, "y": Y[:, None]}, r"field y has shape \(4, 1\)"),
    ({"x": X, "y": np.array(list("abcd"))}, "field y has type <U1"),
    ({"x": X.astype(complex)}, "field x has type complex128"),
    ({"x": X.astype(np.longdouble)}, "field x has type .*finer than float64"),
    ({"x": X > 0}, "field x has type bool"),
    ({"x": np.array([[2**53 + 1, 0, 0]])}, "whole numbers beyond 2"),
    ({"x": np.array([[2**63, 0, 0]], dtype=np.uint64)}, "whole numbers beyond 2"),
    ({"x": np.array([[-(2**63), 0, 0]])}, "whole numbers beyond 2"),
    ({"x": np.array([[1, "2", None]], dtype=object)}, "field x has type object"),
    ({"z": X, "y": Y}, r"field x is missing \(found z, y\)"),
    ({}, r"field x is missing \(found nothing\)"),
]


@pytest.mark.parametrize(("arrays", "said"), MISTAKES)
def test_each_mistake_in_an_npz_names_file_and_field(tmp_path, arrays, said):
    path = npz(tmp_path, **arrays)
    with pytest.raises(DataError, match=said) as caught:
        read_points(path, features=3, num_classes=3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_is_infinite_is_refused_without_knowing_the_classes(tmp_path):
    path = npz(tmp_path, x=X, y=np.array([0, 1, 1e300, np.inf]))
    with pytest.raises(DataError, match="row 2 of y is 1e"):
        read_points(path)


CSV_MISTAKES = [
    ("", "holds no points"),
    ("\n\n", "holds no points"),
    ("a,b,c\n", "holds no points"),
    ("1,2,3\n4,5\n", "number of columns changed"),
    ("1,2,3\n4,x,6\n", "could not convert string 'x'"),
    ("1,x,3\n4,5,6\n", "line 1 mixes numbers with 'x'"),
    ("1,,3\n4,5,6\n", "line 1 mixes numbers with ''"),
    ("0,1,2,label\n4,5,6,0\n", "line 1 mixes numbers with 'label'"),
    ("label,a,b,c\n0,4,5,6\n", "column 1 is named label"),
    ("1,2,nan\n4,5,6\n", "row 0 of x holds NaN"),
    ("1,2,3\n4,5,inf\n", "row 1 of x holds NaN or infinity"),
    ("1,2\n4,5\n", "2 features a point"),
    ("1,2,3,0\n4,5,6,0.5\n", "row 1 of y is 0.5"),
    ("1,2,3,0\n4,5,6,7\n", "row 1 of y is 7"),
    ("1;2;3\n4;5;6\n", "could not convert"),
    (b"\xe9,b,c\n1,2,3\n", "utf-8"),
    (b"\x00\x01\x02", "points.csv"),
]


@pytest.mark.parametrize(("content", "said"), CSV_MISTAKES)
def test_each_mistake_in_a_csv_names_the_file_and_the_place(tmp_path, content, said):
    path = written(tmp_path, "points.csv", content)
    with pytest.raises(DataError, match=said) as caught:
        read_points(path, features=3, num_classes=3)
    assert str(path) in str(caught.value)


def test_a_missing_file_a_folder_and_an_unknown_kind_are_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.npz: there is no such file"):
        read_points(tmp_path / "absent.npz")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv: there is no such file"):
        read_points(tmp_path / "folder.csv")
    with pytest.raises(DataError, match=r"points\.parquet: unknown kind of file.*\.npz"):
        read_points(written(tmp_path, "points.parquet", b""))


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    array = np.empty((1, 3), dtype=object)
    array[0, 0] = Trap()
    np.save(tmp_path / "trap.npy", array, allow_pickle=True)
    np.savez(tmp_path / "trap.npz", x=array)
    for name in ("trap.npy", "trap.npz"):
        with pytest.raises(DataError, match="type object, expected plain numbers"):
            read_points(tmp_path / name)


TOO_MUCH = [
    ((10 * 2**30 // 8, 1), "more than 8 GiB"),
    ((2**31, 2**31, 2**31), "more than 8 GiB"),
    ((10**400, 1), "more than 8 GiB"),
    ((-1, 3), "impossible shape"),
    ((-(2**20), -(2**20)), "impossible shape"),
    ((0, 10**30), "points"),
    ((2**27, 3), "points"),  # 3 GiB, within the limit, but not in the file
]


@pytest.mark.parametrize(("shape", "said"), TOO_MUCH)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_size_that_is_only_declared_takes_no_memory(tmp_path, shape, said, kind):
    content = declared(shape)
    path = tmp_path / f"points.{kind}"
    if kind == "npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said):
            read_points(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_files_that_are_cut_off_or_garbage_are_data_errors(tmp_path):
    rng = np.random.default_rng(0)
    buffers = {"npy": io.BytesIO(), "npz": io.BytesIO(), "packed.npz": io.BytesIO()}
    array = rng.normal(size=(50, 3))
    np.save(buffers["npy"], array)
    np.savez(buffers["npz"], x=array)
    np.savez_compressed(buffers["packed.npz"], x=array)
    for kind, buffer in buffers.items():
        whole = buffer.getvalue()
        for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99):
            path = written(tmp_path, f"cut.{kind}", whole[: int(share * len(whole))])
            with pytest.raises(DataError, match="cut"):
                read_points(path)
        with pytest.raises(DataError, match="junk"):
            read_points(written(tmp_path, f"junk.{kind}", rng.bytes(500)))


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_unharmed_or_is_a_data_error(tmp_path, data):
    """Nothing but a DataError ever comes out, whichever bytes are overwritten."""
    kind = data.draw(st.sampled_from(["npy", "npz", "packed.npz", "csv"]))
    buffer = io.BytesIO()
    array = np.random.default_rng(1).normal(size=(20, 3))
    match kind:
        case "npy":
            np.save(buffer, array)
        case "npz":
            np.savez(buffer, x=array)
        case "csv":
            np.savetxt(buffer, array, delimiter=",")
        case _:
            np.savez_compressed(buffer, x=array)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        content[place : place + len(patch)] = patch
    path = written(tmp_path, f"damaged.{kind}", bytes(content))
    try:
        inputs, labels = read_points(path, features=3)
    except DataError as error:
        said = str(error)
    else:
        said = "damaged"
        assert bool(inputs.isfinite().all())
        assert inputs.shape[1:].numel() == 3
        assert labels is None or bool((labels >= 0).all())
    assert "damaged" in said


headers = st.fixed_dictionaries(
    {
        "descr": st.one_of(
            st.sampled_from(
                ["<f8", "<f4", "|O", "|u1", ">i8", "<c16", "|V7", "<U2", "<M8[D]", "no"]
            ),
            st.text(max_size=4),
            st.just([("a", "<f8")]),
            st.none(),
        ),
        "fortran_order": st.one_of(st.booleans(), st.integers(), st.none()),
        "shape": st.one_of(
            st.lists(st.integers(-3, 9), max_size=4).map(tuple),
            st.lists(st.integers(-(10**40), 10**40), max_size=3).map(tuple),
            st.integers(),
            st.none(),
        ),
    }
)


@given(headers, st.binary(max_size=200))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_forged_header_is_read_unharmed_or_is_a_data_error(tmp_path, header, body):
    path = written(tmp_path, "forged.npy", npy_bytes(header, body))
    try:
        inputs, _ = read_points(path)
    except DataError as error:
        said = str(error)
    else:
        said = "forged.npy"
        assert inputs.numel() <= len(body)
    assert "forged.npy" in said
