"""CIFAR-100 (binary) and Fashion-MNIST: what is read is what was written, or one clear error."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from relaxcert.data.images import ImageArray, cifar100, fashion_mnist
from relaxcert.data.images.cifar import COARSE_OF_FINE, class_names
from relaxcert.errors import DataError, InvalidInput
from relaxcert.spec.catalogue import load_property
from tests.data.images import written

FASHION = Path("/usr/share/datasets/fashion-mnist")


def test_binary_cifar_is_read_memory_mapped(tmp_path):
    images = written.cifar_binary(tmp_path, [99, 0, 7])
    for folder in (tmp_path, tmp_path / "cifar-100-binary"):
        found = cifar100(folder, "train")
        assert found.labels.tolist() == [99, 0, 7]
        assert np.array_equal(found.images, images)
        assert isinstance(found.images.base, np.memmap | np.ndarray)
        image, label = found[0]
        assert image.dtype == torch.float32
        assert torch.equal((image * 255).round().to(torch.uint8), torch.from_numpy(images[0]))
        assert (label, found.class_names[label]) == (99, "worm")


def test_the_coarse_classes_are_the_superclasses_of_the_catalogue():
    sets = load_property("cifar100/superclasses").affinity_sets.sets
    by_coarse = {
        tuple(f for f, coarse in enumerate(COARSE_OF_FINE) if coarse == wanted)
        for wanted in range(20)
    }
    assert by_coarse == {tuple(sorted(members)) for members in sets}
    assert len(class_names()) == len(COARSE_OF_FINE) == 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw[:-1], "no whole number of records"),
        (lambda raw: b"", "no whole number of records"),
        (lambda raw: raw[:1] + bytes([100]) + raw[2:], "record 0 has fine label 100"),
        (lambda raw: bytes([raw[0] ^ 1]) + raw[1:], "record 0 has coarse label"),
    ],
)
def test_damaged_cifar_files_are_one_clear_error(tmp_path, change, said):
    written.cifar_binary(tmp_path, [4, 5])
    file = tmp_path / "cifar-100-binary" / "train.bin"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match=said) as caught:
        cifar100(tmp_path, "train")
    assert "train.bin" in str(caught.value)


def test_class_names_of_another_set_and_missing_files_are_named(tmp_path):
    written.cifar_binary(tmp_path, [4])
    (tmp_path / "cifar-100-binary" / "fine_label_names.txt").write_text("airplane\nautomobile\n")
    with pytest.raises(DataError, match="does not list the 100 fine classes"):
        cifar100(tmp_path, "train")
    with pytest.raises(DataError, match="holds no CIFAR-100"):
        cifar100(tmp_path, "test")
    with pytest.raises(InvalidInput, match="part='val'"):
        cifar100(tmp_path, "val")


@pytest.mark.parametrize("zipped", [False, True])
def test_fashion_mnist_is_read_zipped_or_not(tmp_path, zipped):
    images, labels = written.noise(2, 5, 28, 28), np.array([9, 0, 3, 3, 1], dtype=np.uint8)
    written.idx(tmp_path / "t10k-images-idx3-ubyte", images, zipped=zipped)
    written.idx(tmp_path / "t10k-labels-idx1-ubyte", labels, zipped=zipped)
    found = fashion_mnist(tmp_path, "test")
    assert found.shape == (1, 28, 28)
    assert np.array_equal(found.images[:, 0], images)
    assert found.labels.tolist() == labels.tolist()
    assert found.class_names[9] == "Ankle boot"
    with pytest.raises(DataError, match="holds neither train-images"):
        fashion_mnist(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0\0\x08\x03" + b"\0\0\0\x02" * 3 + bytes(7), "fewer bytes"),
        (b"\0\0\x08\x03" + b"\0\0\0\x02" * 3 + bytes(9), "more bytes"),
        (b"\0\0\x08\x03" + b"\xff\xff\xff\xff" * 3, "no set of images has such a size"),
        (b"\0\0\x0d\x03" + b"\0\0\0\x02" * 3 + bytes(8), "not an IDX file of bytes"),
        (b"\0\0\x08", "not an IDX file of bytes"),
        (
            gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x02" * 3 + bytes(range(8)), mtime=0)[:-9],
            "is it complete",
        ),
    ],
)
def test_damaged_idx_files_are_one_clear_error(tmp_path, content, said):
    name = "t10k-images-idx3-ubyte" + (".gz" if content[:2] == b"\x1f\x8b" else "")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        fashion_mnist(tmp_path, "test")
    assert name in str(caught.value)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    """4 GiB of zeros behind a header that declares 8 bytes: read stops at the ninth."""
    header = b"\0\0\x08\x03" + b"\0\0\0\x02" * 3
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(2**26)))
    with pytest.raises(DataError, match="more bytes"):
        fashion_mnist(tmp_path, "test")


def test_labels_that_do_not_fit_the_images_are_named(tmp_path):
    written.idx(tmp_path / "t10k-images-idx3-ubyte", written.noise(2, 2, 28, 28))
    written.idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([1], dtype=np.uint8))
    with pytest.raises(DataError, match="holds 1 labels for 2 images"):
        fashion_mnist(tmp_path, "test")
    written.idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([1, 10], dtype=np.uint8))
    with pytest.raises(DataError, match="label 10 of row 1"):
        fashion_mnist(tmp_path, "test")
    with pytest.raises(DataError, match="expected bytes"):
        ImageArray(np.zeros((1, 1, 2, 2)), [0], ["a"])


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_has_6000_and_1000_images_a_class():
    assert fashion_mnist(FASHION, "train").labels.bincount().tolist() == [6000] * 10
    assert fashion_mnist(FASHION, "test").labels.bincount().tolist() == [1000] * 10
