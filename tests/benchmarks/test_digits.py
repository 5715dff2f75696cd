"""benchmarks/digits.py: the published LeNet reaches its published test accuracy."""

import pytest

from genjax import data
from genjax.errors import InputError

digits = pytest.importorskip("benchmarks.digits")


def test_bad_input_is_named(tmp_path):
    with pytest.raises(InputError, match="no checkpoints"):
        digits.kept_steps(tmp_path)
    with pytest.raises(InputError, match="--n 1234"):
        digits.main(digits.Arguments(runs=(tmp_path,), lenet=tmp_path / "none", n=1234))


@pytest.mark.reference
def test_lenet_reaches_its_published_accuracy(shared):
    """99.1 % of the test set."""
    read = digits.reader(shared / "weights/lenet_mnist.pth")
    arrays = data.load(str(shared / "mnist"), split="test").arrays
    assert arrays is not None
    _, probabilities = read(digits.chunks_of(arrays["images"]))
    accuracy = (probabilities.argmax(axis=1) == arrays["labels"]).mean()
    assert accuracy == pytest.approx(0.991, abs=0.001)
