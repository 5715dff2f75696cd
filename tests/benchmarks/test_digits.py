"""benchmarks/digits.py: the published LeNet reads the test set as it was published to."""

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
def test_lenet_reads_the_test_set_as_it_was_published_to(shared):
    """99.1 % right."""
    read = digits.reader(shared / "weights/lenet_mnist.pth")
    arrays = data.load(str(shared / "mnist"), split="test").arrays
    _, probabilities = read(digits.chunks_of(arrays["images"]))
    assert (probabilities.argmax(axis=1) == arrays["labels"]).mean() == pytest.approx(
        0.991, abs=0.001
    )
