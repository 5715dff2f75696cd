"""Tiles: what depends on single pixels comes out as if done at once, seams fade, memory is that of a tile."""

import numpy as np
import pytest

from genjax.edit.tiles import tiled


def picture(height, width):
    return np.random.default_rng(0).uniform(-1, 1, (height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [(40, 90), (33, 32), (32, 32), (10, 70), (5, 4), (97, 101)])
def test_a_function_of_single_pixels_is_done_exactly_and_in_tiles_of_one_size(size):
    shapes = set()

    def apply(images):
        shapes.add(images.shape)
        return 1 - 2 * images

    image = picture(*size)
    np.testing.assert_allclose(tiled(apply, image, tile=32, overlap=8), 1 - 2 * image, atol=1e-5)
    assert shapes == {(1, min(32, size[0]), min(32, size[1]), 3)}


def test_tiles_overlap_by_what_was_asked_and_fade_without_a_step():
    """Each tile painted in its own grey: neighbours differ by no more than one tile's step over the overlap."""
    calls = iter(range(100))
    painted = tiled(lambda images: np.full_like(images, next(calls) % 2), np.zeros((32, 120, 1), np.float32), tile=32, overlap=12)
    row = painted[16, :, 0]
    assert row.min() == 0
    assert row.max() == 1
    assert np.abs(np.diff(row)).max() < 1.5 / 12


def test_sizes_that_mean_nothing_are_refused():
    for tile, overlap in ((32, 17), (32, -1)):
        with pytest.raises(ValueError, match="overlap"):
            tiled(lambda images: images, picture(8, 8), tile, overlap)
