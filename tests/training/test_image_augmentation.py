"""Views of images: random, reproducible, in range, and the identity where nothing is drawn."""

from __future__ import annotations

import pytest
import torch

from relaxcert.errors import InvalidInput
from relaxcert.training import image_augmentation
from relaxcert.training.image_augmentation import augmented_images


def images(channels: int = 3, height: int = 12, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, channels, height, width, generator=generator)


@pytest.mark.parametrize("channels", [1, 3, 13])
def test_views_keep_shape_and_range_and_differ(channels):
    torch.manual_seed(1)
    given = images(channels)
    first, second = augmented_images(given), augmented_images(given)
    assert first.shape == given.shape
    assert float(first.min()) >= 0.0
    assert float(first.max()) <= 1.0
    assert not torch.allclose(first, second)
    torch.manual_seed(1)
    assert torch.equal(augmented_images(given), first)


def fixed(monkeypatch, value: float) -> None:
    """Every draw is ``value``: 0.5 turns, shifts and colours nothing."""
    monkeypatch.setattr(torch, "rand", lambda *size, **kwargs: torch.full(size, value))


def test_the_middle_draw_without_zoom_is_the_image_itself(monkeypatch):
    fixed(monkeypatch, 0.5)
    monkeypatch.setattr(image_augmentation, "ZOOM", 1.0)
    assert torch.allclose(augmented_images(images(), flip=False), images(), atol=1e-5)


def test_a_flip_mirrors_left_and_right(monkeypatch):
    monkeypatch.setattr(image_augmentation, "ZOOM", 1.0)
    monkeypatch.setattr(image_augmentation, "DEGREES", 0.0)
    monkeypatch.setattr(image_augmentation, "COLOUR", 0.0)
    fixed(monkeypatch, 0.25)
    assert torch.allclose(augmented_images(images()), images().flip(3), atol=1e-5)


def test_a_rotation_is_one_on_images_that_are_not_square(monkeypatch):
    """A disc about the centre stays where it is; with the wrong aspect it becomes an ellipse."""
    y, x = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(64.0) - 31.5, indexing="ij")
    # Smooth, so that interpolation is near exact.
    disc = torch.sigmoid((100.0 - x**2 - y**2) / 30.0)[None, None]
    monkeypatch.setattr(image_augmentation, "ZOOM", 1.0)
    monkeypatch.setattr(image_augmentation, "DEGREES", 45.0)
    monkeypatch.setattr(image_augmentation, "COLOUR", 0.0)
    fixed(monkeypatch, 1.0)
    assert float((augmented_images(disc, flip=False) - disc).abs().max()) < 0.05


def test_flat_inputs_are_refused():
    with pytest.raises(InvalidInput, match="expected \\(batch, channels, height, width\\)"):
        augmented_images(torch.zeros(2, 36))
