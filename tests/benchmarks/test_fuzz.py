"""The fuzz campaign of benchmarks/fuzz.py at the size of a test: no case is a fault."""

import pickle
import time
from collections import Counter

import numpy as np
import pytest

from benchmarks import fuzz, fuzz_commands, fuzz_files
from genjax.errors import InputError

FILES, LINES = 320, 40


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """The folder of intact files."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENJAX_CACHE", str(folder / "cache"))
        fuzz_files.make(folder / "intact")
        yield folder / "intact"


@pytest.mark.filterwarnings("ignore")  # Pillow, Orbax and NumPy warn of damaged files
def test_damaged_files_are_refused_or_repaired(intact):
    results = list(fuzz.file_cases(intact, 1, range(FILES)))
    assert not [result for result in results if result.outcome in fuzz.FAULTS]
    counts = Counter(result.outcome for result in results)
    assert counts["refused"] > FILES / 3  # otherwise the damage has no effect
    assert counts["same"]
    assert {result.what for result in results} == set(fuzz_files.kinds())


def test_workers_share_the_cases(intact):
    results = list(fuzz.from_workers(intact, 1, 8, "^(png|zip|idx)$", 2))
    assert sorted(result.case for result in results) == list(range(8))
    expected = {
        result.case: result.outcome
        for result in fuzz.file_cases(intact, 1, range(8), "^(png|zip|idx)$")
    }
    assert {result.case: result.outcome for result in results} == expected


@pytest.mark.usefixtures("intact")  # for its cache of features
@pytest.mark.filterwarnings("ignore")
def test_wrong_command_lines_end_in_a_line(tmp_path):
    results = list(fuzz_commands.cases(tmp_path / "lines", 1, range(LINES), inside=True))
    assert len(results) == LINES
    assert not [result for result in results if result.outcome in fuzz.FAULTS]


def test_a_command_that_says_nothing_hangs(tmp_path):
    assert fuzz_commands.run_process("sample", ["nowhere"], tmp_path, 0.01) == ("hang", "")
    code, line = fuzz_commands.run_process("sample", ["nowhere"], tmp_path, 60)
    assert code == 2
    assert "nowhere" in line


def fails(target):
    """A reader that breaks."""
    raise KeyError("x")


def writes(target):
    """A reader that changes its input."""
    target.write_bytes(b"other")
    return 1.0


def refuses(target):
    """A reader that refuses."""
    raise InputError("no")


# Readers of a damaged file, by the outcome that they have; 1.0 is the intact file's
# value.
READERS = {
    "traceback": fails,
    "refused": refuses,
    "same": lambda target: 1.0,
    "silent": lambda target: 2.0,
    "overwrite": writes,
    "execution": lambda target: pickle.loads(b"cmath\nsqrt\n.") and 1.0,
    "hang": lambda target: time.sleep(5),
    "memory": lambda target: np.ones(4 * 10**7).sum(),  # 320 MB
}


@pytest.mark.parametrize("outcome", READERS)
def test_the_campaign_detects_what_it_counts(intact, monkeypatch, outcome):
    size = (intact / "npz/set.npz").stat().st_size

    def read(folder, target):
        return {"x": 1.0 if target.stat().st_size == size else READERS[outcome](target)}, []

    kind = fuzz_files.kinds()["npz"]._replace(read=read)
    monkeypatch.setattr(fuzz_files, "kinds", lambda: {"npz": kind})
    monkeypatch.setattr(fuzz_files, "damaged", lambda rng, path: ("cut", path.read_bytes()[:-1]))
    monkeypatch.setattr(fuzz, "SECONDS", 5.0 if outcome == "memory" else 0.2)
    monkeypatch.setattr(fuzz, "GROWTH", 2 * 10**8)
    assert next(fuzz.file_cases(intact, 0, range(1, 2))).outcome == outcome


@pytest.mark.parametrize(
    ("damage", "value", "messages", "outcome"),
    [
        ("odd_arrays", "nan", [], "silent"),
        ("odd_arrays", 2, [], "other"),
        ("cut", 2, [], "silent"),
        ("cut", 2, ["a message about it"], "refused"),
    ],
)
def test_accepted_weights_that_are_not_finite_or_truncated_are_silent_errors(
    damage, value, messages, outcome
):
    kind = fuzz_files.kinds()["weights"]
    values, expected = {"x": np.float32(value)}, {"x": np.float32(1)}
    assert fuzz.judged(kind, damage, values, messages, expected, []) == outcome
