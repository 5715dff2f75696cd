"""The real sets beside the repository, where they are there."""

import numpy as np


def test_mnist(shared, load):
    source = load(shared / "mnist")
    assert (source.size, source.shape, source.num_labels) == (60000, (28, 28, 1), 10)
    assert source.arrays["labels"][:5].tolist() == [5, 0, 4, 1, 9]
    mean = source.arrays["images"][:1000].mean() / 255
    assert abs(mean - 0.1307) < 0.005  # the published mean of the set
    assert load(shared / "mnist", split="test").size == 10000


def test_emoji_lie_on_white(shared, load):
    source = load(shared / "noto_emoji_128.zip", resident_mb=0)
    assert (source.size, source.shape, source.num_labels) == (3280, (128, 128, 3), 0)
    assert (np.stack([source.read(i)["images"][0, 0] for i in range(0, 3280, 400)]) == 255).all()


def test_cats_have_breeds_and_some_are_grey(shared, load, said):
    source = load(shared / "cats_64.zip")
    np.testing.assert_array_equal(np.bincount(source.arrays["labels"]), [500, 500, 500])
    assert said == ["data: 24 of 1500 images converted: 24 grey to RGB"]


def test_photos_have_splits_and_two_orientations(shared, load, said):
    source = load(shared / "photos_bsds.zip", split="val", resolution=64)
    assert (source.size, source.shape, source.num_labels) == (100, (64, 64, 3), 0)
    assert load(shared / "photos_bsds.zip", resident_mb=0).shape == (321, 481, 3)
    assert any("2 sizes" in line for line in said)


def test_cifar_opens_quickly(shared, load):
    source = load(shared / "cifar10_jpeg_train.zip", resident_mb=0)
    assert (source.size, source.shape, source.num_labels) == (50000, (32, 32, 3), 10)
    assert source.read(49999)["labels"] == 9
