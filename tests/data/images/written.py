"""Small sets in the formats in which the real ones are published, written by the tests."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from relaxcert.data.images.cifar import COARSE_OF_FINE, class_names


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cifar_binary(folder: Path, fine: list[int], part: str = "train") -> np.ndarray:
    """Write cifar-100-binary/PART.bin; return the images."""
    images = noise(1, len(fine), 3072)
    labels = np.array([[COARSE_OF_FINE[label], label] for label in fine], dtype=np.uint8)
    place = folder / "cifar-100-binary"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{part}.bin").write_bytes(np.hstack([labels, images]).tobytes())
    (place / "fine_label_names.txt").write_text("\n".join(class_names()) + "\n")
    return images.reshape(-1, 3, 32, 32)


def idx(path: Path, array: np.ndarray, *, zipped: bool = False) -> None:
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
    content = header + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def picture(
    path: Path, seed: int, size: int = 64, *, mode: str = "RGB", kind: str = "JPEG"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = (3,) if mode == "RGB" else ()
    Image.fromarray(noise(seed, size, size, *channels), mode).save(path, kind)


def eurosat(folder: Path, names: tuple[str, ...], images: int = 3) -> None:
    for index, name in enumerate(names):
        for number in range(1, images + 1):
            picture(folder / name / f"{name}_{number}.jpg", 100 * index + number)


def tiny_imagenet(folder: Path, identifiers: list[str], images: int = 2) -> Path:
    root = folder / "tiny-imagenet-200"
    for index, identifier in enumerate(identifiers):
        for number in range(images):
            name = f"{identifier}_{number}.JPEG"
            grey = "L" if number == 0 else "RGB"
            picture(root / "train" / identifier / "images" / name, 9 * index + number, mode=grey)
        picture(root / "val" / "images" / f"val_{index}.JPEG", 500 + index)
    lines = [f"val_{i}.JPEG\t{name}\t0\t0\t62\t62" for i, name in enumerate(identifiers)]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(reversed(identifiers)) + "\n")
    (root / "words.txt").write_text(f"{identifiers[0]}\tgoldfish, Carassius auratus\n")
    return root
