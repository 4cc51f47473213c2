"""Each kind of wrong file is one clear paragraph and status 2, whatever command meets it."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from relaxcert.cli import main
from relaxcert.spec.catalogue import load_document
from tests.data.images import written

EUROSAT = load_document("eurosat/local").class_names


def truncated_record(folder):
    written.cifar_binary(folder, [4, 5])
    file = folder / "cifar-100-binary" / "train.bin"
    file.write_bytes(file.read_bytes()[:-100])


def wrong_length(folder):
    written.idx(folder / "train-images-idx3-ubyte", written.noise(1, 3, 28, 28))
    written.idx(folder / "train-labels-idx1-ubyte", np.array([1, 2, 3], dtype=np.uint8))
    with (folder / "train-images-idx3-ubyte").open("ab") as file:
        file.write(b"\0")


def bad_annotation(folder):
    root = written.tiny_imagenet(folder, ["n01443537", "n01629819"])
    lines = (root / "val" / "val_annotations.txt").read_text().replace("\t62\n", "\tx\n", 1)
    (root / "val" / "val_annotations.txt").write_text(lines)


def png_named_jpeg(folder):
    root = written.tiny_imagenet(folder, ["n01443537", "n01629819"])
    name = root / "train" / "n01443537" / "images" / "n01443537_0.JPEG"
    written.picture(name, 1, kind="PNG")


def image_bomb(folder):
    written.eurosat(folder, EUROSAT)
    Image.new("1", (5_000, 4_000)).save(folder / "Forest" / "Forest_1.png", "PNG")
    for number in range(1, 4):
        (folder / "Forest" / f"Forest_{number}.jpg").unlink()


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload-ran",)


def pickle_with_payload(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        (folder / part).write_bytes(pickle.dumps({"data": Payload()}, 2))


CASES = {
    truncated_record: "train.bin holds 6048 bytes, which is no whole number of records",
    wrong_length: "train-images-idx3-ubyte declares shape (3, 28, 28), but holds more bytes",
    bad_annotation: "val_annotations.txt, line 1: expected a file, a class and 4 numbers",
    png_named_jpeg: "n01443537_0.JPEG is a PNG file, but its name says JPEG",
    image_bomb: "Forest_1.png",
    pickle_with_payload: "holds more than data",
}


@pytest.mark.parametrize(
    ("write", "said"), CASES.items(), ids=lambda case: getattr(case, "__name__", "")
)
def test_a_wrong_file_is_one_clear_paragraph(tmp_path, monkeypatch, capsys, write, said):
    write(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", None)
    options = ["data", "check", "set", "--sheet", "sheet.png"]
    monkeypatch.setattr(sys, "argv", ["relaxcert", *options])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "sheet.png").exists()
    assert not (tmp_path / "payload-ran").exists()
