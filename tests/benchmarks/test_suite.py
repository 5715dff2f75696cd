"""The benchmark suite: running cases and keeping their rows, writing the tables,
comparing files."""

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as suite
from benchmarks import report

ROOT = Path(suite.__file__).parent.parent
FACTS = {"command": "python benchmarks/step_time.py vae", "date": "2026-01-02"}
FACTS |= {"commit": "abc", "python": "3.11", "line": 0}
STEP = FACTS | {
    "part": "step",
    "model": "vae",
    "config": "mlp",
    "device": "cpu: X, 2 cores",
    "dtype": "float32",
    "batch_size": 128,
    "ms_per_step": 1.4234,
    "images_per_sec": 90000.0,
    "ratio": 1.69,
    "ratio_spread": [1.6, 1.72],
    "share_of_peak": 0.375,
    "versions": {"jax": "0.10.2"},
    "load": 0.1,
}


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """The suite with two other cases: one prints two lines, one fails."""
    row = "{'metric': sys.argv[1], 'images': n, 'seconds': n / 7, 'device': 'cpu: X'}"
    (tmp_path / "good.py").write_text(
        "import json, sys\n"
        "print('words that are not JSON')\n"
        f"for n in (1, 2): print(json.dumps({row}))"
    )
    (tmp_path / "bad.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(suite, "HERE", tmp_path)
    monkeypatch.setattr(suite, "QUICK", [("distances", "good.py fd"), ("distances", "bad.py")])
    return tmp_path


def ran(monkeypatch, *arguments):
    """The exit code of the suite with these arguments."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
    return suite.main()


def test_cases_are_run_and_kept(scripts, monkeypatch, capsys):
    out = scripts / "out.jsonl"
    for _ in range(2):  # the second time replaces the rows of the first
        assert ran(monkeypatch, "--out", out, "--only", "good") == 0
    first, second = report.read(out)
    assert (first["images"], second["images"], second["line"]) == (1, 2, 1)
    assert first["command"] == "python benchmarks/good.py fd"
    assert {"date", "commit", "python"} <= first.keys()
    assert "| fd | 2 | 0.286 |" in capsys.readouterr().out


def test_folders_are_substituted_but_not_recorded(scripts, monkeypatch, capsys):
    monkeypatch.setattr(suite, "QUALITY", [("distances", "good.py RUNS DATA")])
    folders = ["--runs", scripts / "my runs", "--data", scripts]
    assert ran(monkeypatch, "--out", scripts / "out.jsonl", "--only", "RUNS", *folders) == 0
    rows = report.read(scripts / "out.jsonl")
    assert [row["metric"] for row in rows] == [str(scripts / "my runs")] * 2
    assert {row["command"] for row in rows} == {"python benchmarks/good.py RUNS DATA"}


def test_a_case_that_fails_is_named_and_the_others_run(scripts, monkeypatch, capsys):
    assert ran(monkeypatch, "--out", scripts / "out.jsonl") == 1
    assert len(report.read(scripts / "out.jsonl")) == 2
    assert "failed: bad.py" in capsys.readouterr().err


def test_every_case_has_a_script_and_a_table():
    for part, command in suite.QUICK + suite.FULL + suite.QUALITY:
        assert part in report.TABLES
        assert (ROOT / "benchmarks" / command.split()[0]).exists()
    assert len(set(suite.QUICK + suite.FULL)) == len(suite.QUICK + suite.FULL)


def test_a_table_says_what_on_and_when():
    text = report.render([STEP])
    assert "cpu: X, 2 cores; Python 3.11, jax 0.10.2; 2026-01-02, abc" in text
    assert "| vae mlp | float32 | 128 | 1.42 | **1.69** (1.60 to 1.72) | 38 % |" in text
    assert "compile" not in text  # columns that are empty in all rows are left out
    assert "step_time" in report.render([STEP], commands=True)


def test_tables_go_between_their_marks(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    marks = "\n".join(f"<!-- {part} -->old<!-- /{part} -->" for part in report.TABLES)
    for path in (tmp_path / "README.md", tmp_path / "benchmarks" / "RESULTS.md"):
        path.write_text(f"before\n{marks}\nafter")
    for _ in range(2):
        report.write([STEP], tmp_path)
    text = (tmp_path / "benchmarks" / "RESULTS.md").read_text()
    assert text.startswith("before\n<!-- step -->\n\n*step*")
    assert text.endswith("after")
    assert text.count("vae mlp") == 1
    (tmp_path / "README.md").write_text("none")
    with pytest.raises(ValueError, match="no <!-- step -->"):
        report.write([STEP], tmp_path)


def test_the_projects_tables_are_what_the_report_writes(tmp_path):
    """No figure in them is typed by hand or outdated."""
    (tmp_path / "benchmarks").mkdir()
    for name in ("README.md", "benchmarks/RESULTS.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    report.write(report.read(suite.RESULTS), tmp_path)
    for name in ("README.md", "benchmarks/RESULTS.md"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), (
            "run python -m benchmarks report"
        )


@pytest.mark.parametrize(
    ("change", "cells"),
    [
        ({}, "| 1.69 | 1.69 |  |"),
        ({"ratio": 1.2, "ratio_spread": [1.1, 1.3]}, "| 1.69 | 1.2 | **0.71 times** |"),
        ({"ratio": 1.65, "ratio_spread": [1.5, 1.7]}, "| 1.69 | 1.65 |  |"),
        ({"command": "another"}, None),
    ],
)
def test_a_change_is_what_spreads_do_not_explain(change, cells):
    lines = report.compared([STEP], [STEP | change]).splitlines()[2:]
    assert [line.split("ratio ", 1)[1] for line in lines] == ([cells] if cells else [])


def test_on_a_gpu_images_per_second_are_compared():
    before = STEP | {"device": "gpu: Y"}
    after = {"images_per_sec": 180_000.0, "ratio": 0.1, "ratio_spread": [0.1, 0.1]}
    text = report.compared([before], [before | after])
    assert "| images_per_sec | 90,000 | 180,000 | **2.00 times** |" in text
