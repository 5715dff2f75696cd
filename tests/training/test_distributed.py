"""Two processes over loopback, joined by jax.distributed, against one: the same losses
and weights within rounding.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toys
from safetensors.numpy import load_file

from genjax.errors import InputError
from genjax.runtime import processes

ROOT = Path(__file__).parents[2]


def start(out, *arguments):
    small = [
        "--steps",
        "20",
        "--batch-size",
        "16",
        "--model.hidden",
        "16",
        "--log-every",
        "10",
        "--save-every",
        "10",
        "--sample-every",
        "20",
    ]
    command = [sys.executable, str(ROOT / "train/vae.py"), "--out", str(out), *small, *arguments]
    environment = {**os.environ, "XLA_FLAGS": toys.ONE_DEVICE, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train(out, *arguments, processes=1):
    if processes == 1:
        running = [start(out, *arguments)]
    else:
        address = f"127.0.0.1:{free_port()}"
        running = [
            start(out, *arguments, "--distributed", f"{address},{processes},{index}")
            for index in range(processes)
        ]
    for process in running:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return rows, load_file(out / "model.safetensors")


@pytest.mark.parametrize("streamed", [False, True], ids=["resident", "streamed"])
def test_two_processes_train_as_one(tmp_path, streamed):
    arguments = []
    if streamed:
        np.savez(
            tmp_path / "set.npz",
            images=np.random.default_rng(0).integers(0, 256, (40, 6, 6, 1), dtype=np.uint8),
        )
        arguments = ["--data", str(tmp_path / "set.npz"), "--resident-mb", "0"]
    one_rows, one = train(tmp_path / "one", *arguments)
    two_rows, two = train(tmp_path / "two", *arguments, processes=2)
    assert [row["step"] for row in two_rows] == [10, 20]
    for a, b in zip(one_rows, two_rows, strict=True):
        np.testing.assert_allclose(b["loss/objective"], a["loss/objective"], rtol=1e-4)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-2, atol=1e-4, err_msg=name)
    if not streamed:  # they resume what they saved, whatever the data come from
        rows, _ = train(tmp_path / "two", "--steps", "30", processes=2)
        assert [row["step"] for row in rows] == [10, 20, 30]


ALONE = """
import sys
from genjax.cli.train import vae
from genjax.runtime import processes
processes.JOIN_SECONDS = 2
sys.argv = ["vae.py", "--out", sys.argv[1], "--distributed", sys.argv[2]]
vae.main()
"""


@pytest.mark.parametrize(
    ("index", "whom"), [(0, "the other 1 processes at 127.0.0.1:"), (1, "process 0 at 127.0.0.1:")]
)
def test_who_waits_says_for_whom_and_gives_up(tmp_path, index, whom):
    command = [
        sys.executable,
        "-c",
        ALONE,
        str(tmp_path / "run"),
        f"127.0.0.1:{free_port()},2,{index}",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()
    assert said[0].startswith(f"waiting for {whom}")
    assert said[-1].startswith(f"vae.py: waited 2 s in vain for {whom}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("x", "not of that form"),
        ("localhost,2,0", "not of that form"),
        ("localhost:1,2,2", "INDEX 2 is not from 0 to 1"),
    ],
)
def test_what_names_no_process_is_refused(given, why):
    with pytest.raises(InputError, match=f"distributed {given}: {why}; auto under SLURM"):
        processes.join(given)
