"""The fuzz campaign of benchmarks/fuzz.py at the size of a test: nothing breaks, hangs, swells, lies, runs or is written over."""

import pickle
import time
from collections import Counter

import numpy as np
import pytest

from benchmarks import fuzz, fuzz_commands, fuzz_files
from genjax.errors import InputError

FILES, LINES = 320, 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENJAX_CACHE", str(folder / "cache"))
        fuzz_files.make(folder / "whole")
        yield folder / "whole"


@pytest.mark.filterwarnings("ignore")  # what Pillow, Orbax and numpy say of damaged files
def test_damaged_files_are_refused_or_repaired(whole):
    results = list(fuzz.file_cases(whole, 1, range(FILES)))
    assert not [result for result in results if result.outcome in fuzz.FAULTS]
    counted = Counter(result.outcome for result in results)
    assert counted["refused"] > FILES / 3  # or the damage is none
    assert counted["same"]
    assert {result.what for result in results} == set(fuzz_files.kinds())


def test_workers_share_the_cases(whole):
    results = list(fuzz.from_workers(whole, 1, 8, "^(png|zip|idx)$", 2))
    assert sorted(result.case for result in results) == list(range(8))
    expected = {
        result.case: result.outcome
        for result in fuzz.file_cases(whole, 1, range(8), "^(png|zip|idx)$")
    }
    assert {result.case: result.outcome for result in results} == expected


@pytest.mark.filterwarnings("ignore")
def test_wrong_command_lines_end_in_a_line(whole, tmp_path):
    results = list(fuzz_commands.cases(tmp_path / "lines", 1, range(LINES), inside=True))
    assert len(results) == LINES
    assert not [result for result in results if result.outcome in fuzz.FAULTS]


def test_a_command_that_says_nothing_hangs(tmp_path):
    assert fuzz_commands.run_process("sample", ["nowhere"], tmp_path, 0.01) == ("hang", "")
    code, line = fuzz_commands.run_process("sample", ["nowhere"], tmp_path, 60)
    assert code == 2
    assert "nowhere" in line


def fails(target):
    raise KeyError("x")


def writes(target):
    target.write_bytes(b"other")
    return 1.0


def refuses(target):
    raise InputError("no")


SEEN = {
    "traceback": fails,
    "refused": refuses,
    "same": lambda target: 1.0,
    "silent": lambda target: 2.0,
    "overwrite": writes,
    "execution": lambda target: pickle.loads(b"cmath\nsqrt\n.") and 1.0,
    "hang": lambda target: time.sleep(5),
    "memory": lambda target: np.ones(4 * 10**7).sum(),  # 320 MB
}


@pytest.mark.parametrize("outcome", SEEN)
def test_the_campaign_sees_what_it_counts(whole, monkeypatch, outcome):
    """A reader that breaks, lies, writes over its input, runs a program, hangs or takes memory is found out."""
    intact = (whole / "npz/set.npz").stat().st_size

    def read(folder, target):
        return {"x": 1.0 if target.stat().st_size == intact else SEEN[outcome](target)}, []

    kind = fuzz_files.kinds()["npz"]._replace(read=read)
    monkeypatch.setattr(fuzz_files, "kinds", lambda: {"npz": kind})
    monkeypatch.setattr(fuzz_files, "damaged", lambda rng, path: ("cut", path.read_bytes()[:-1]))
    monkeypatch.setattr(fuzz, "SECONDS", 5.0 if outcome == "memory" else 0.2)
    monkeypatch.setattr(fuzz, "GROWTH", 2 * 10**8)
    assert next(fuzz.file_cases(whole, 0, range(1, 2))).outcome == outcome


def test_weights_that_are_not_finite_are_silent_errors_if_they_are_accepted():
    kind = fuzz_files.kinds()["weights"]
    assert (
        fuzz.judged(kind, "odd_arrays", {"x": np.float32("nan")}, [], {"x": np.float32(1)}, [])
        == "silent"
    )
    assert (
        fuzz.judged(kind, "odd_arrays", {"x": np.float32(2)}, [], {"x": np.float32(1)}, [])
        == "other"
    )
    assert fuzz.judged(kind, "cut", {"x": np.float32(2)}, [], {"x": np.float32(1)}, []) == "silent"
    assert (
        fuzz.judged(
            kind, "cut", {"x": np.float32(2)}, ["a line about it"], {"x": np.float32(1)}, []
        )
        == "refused"
    )
