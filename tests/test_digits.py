"""benchmarks/digits.py: the published LeNet gives its own outputs, and the distance is that of normal laws."""

import jax
import numpy as np
import pytest

from genjax import core, data

digits = pytest.importorskip("benchmarks.digits")


def test_frechet_is_the_distance_of_normal_laws():
    """For whitened samples moved by m and stretched by s: |m|^2 + sum (1 - s)^2."""
    random = np.random.default_rng(0)
    x = random.standard_normal((500, 4))
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    move, stretch = np.array([1.0, 0, -2, 0.5]), np.array([2.0, 1, 0.5, 0])
    expected = np.square(move).sum() + np.square(1 - stretch).sum()
    turn, _ = np.linalg.qr(random.standard_normal((4, 4)))
    first, second = x @ turn, (x * stretch + move) @ turn
    assert digits.frechet(first, second) == pytest.approx(expected, abs=1e-6)
    assert digits.frechet(second, first) == pytest.approx(expected, abs=1e-6)
    assert digits.frechet(second, second) == pytest.approx(0, abs=1e-6)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(core.InputError, match="no checkpoints"):
        digits.kept_steps(tmp_path)
    with pytest.raises(core.InputError, match="--n 1234"):
        digits.main(digits.Arguments(runs=(tmp_path,), lenet=tmp_path / "none", n=1234))


@pytest.mark.reference
def test_lenet_is_the_published_one(shared):
    weights = digits.read_lenet(shared / "weights/lenet_mnist.pth")
    reference = np.load(shared / "weights/reference/csinva_lenet.npz")
    _, ours = jax.jit(digits.lenet)(weights, reference["rand_in"].transpose(0, 2, 3, 1))
    np.testing.assert_allclose(ours, reference["rand_out"], atol=1e-4)


@pytest.mark.reference
def test_enlarge_is_as_pytorch_does_it():
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(1).integers(0, 256, (3, 28, 28, 1), np.uint8)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(images / np.float32(255)).permute(0, 3, 1, 2), (32, 32), mode="bilinear"
    )
    np.testing.assert_allclose(digits.enlarge(images), theirs.permute(0, 2, 3, 1), atol=1e-6)


@pytest.mark.reference
def test_lenet_reads_the_test_set_as_it_was_published_to(shared):
    """99.1 % right."""
    read = digits.reader(digits.read_lenet(shared / "weights/lenet_mnist.pth"))
    arrays = data.load(str(shared / "mnist"), split="test").arrays
    _, probabilities = read(digits.chunks_of(arrays["images"]))
    assert (probabilities.argmax(axis=1) == arrays["labels"]).mean() == pytest.approx(0.991, abs=0.001)
