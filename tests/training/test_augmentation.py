"""The 8 symmetries of a square patch, against turning the patch itself."""

from __future__ import annotations

import pytest
import torch

from relaxcert.errors import InvalidInput
from relaxcert.training.augmentation import patch_symmetries, symmetry_columns


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_the_symmetries_are_the_8_of_the_square_and_keep_pixels_whole(side):
    columns = symmetry_columns(side)
    patch = torch.arange(side * side * 4)
    assert columns.shape == (8, side * side * 4)
    assert all(row.sort().values.tolist() == patch.tolist() for row in columns)
    assert all(bool((row.view(-1, 4) % 4 == torch.arange(4)).all()) for row in columns)
    if side > 1:
        assert len({tuple(row.tolist()) for row in columns}) == 8


def test_the_centre_pixel_of_landsat_stays_where_it_is():
    assert bool((symmetry_columns(3)[:, 16:20] == torch.arange(16, 20)).all())


def test_neighbours_stay_neighbours():
    """Each symmetry of 3 x 3 maps the four edge pixels, which touch the centre, to edge pixels."""
    edges = {1, 3, 5, 7}
    for row in symmetry_columns(3):
        pixels = (row.view(9, 4)[:, 0] // 4).tolist()
        assert {pixels[place] for place in edges} == edges


def test_each_patch_becomes_one_of_its_symmetric_ones():
    torch.manual_seed(0)
    patches = torch.randn(640, 36)
    turned = patch_symmetries(patches)
    choices = patches[:, symmetry_columns(3)]  # (640, 8, 36)
    equal = (choices == turned[:, None]).all(2)
    assert bool((equal.sum(1) == 1).all())
    assert bool(equal.any(0).all())  # all 8 occur


@pytest.mark.parametrize("shape", [(2, 35), (2, 9, 4), (2, 8)])
def test_what_is_no_square_patch_of_4_bands_is_refused(shape):
    with pytest.raises(InvalidInput, match="patch-symmetries"):
        patch_symmetries(torch.zeros(shape))
