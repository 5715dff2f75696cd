"""A run as a person starts it: files, resuming, kill, SIGTERM, other settings, bad
input. Each command is a process of its own.
"""

import dataclasses
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import toys

import genjax
from genjax import cli, data
from genjax.errors import InputError, NotFinite
from genjax.metrics import evaluation, extractors
from genjax.models import cyclegan, dcgan, gan, stylegan2, vae
from genjax.runtime import shell
from genjax.training import command_line, run_folder, script
from genjax.training.options import Options

ROOT = Path(__file__).parents[2]
SMALL = [
    "--batch-size",
    "16",
    "--model.hidden",
    "16",
    "--model.z-dim",
    "4",
    "--log-every",
    "50",
    "--sample-every",
    "100",
    "--save-every",
    "50",
]


def start(out, *arguments, model="vae"):
    command = [
        sys.executable,
        str(ROOT / f"train/{model}.py"),
        "--out",
        str(out),
        *SMALL,
        *map(str, arguments),
    ]
    environment = {**os.environ, "XLA_FLAGS": toys.ONE_DEVICE, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def finish(process):
    _, said = process.communicate(timeout=120)
    return process.returncode, said


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 300 steps."""
    out = tmp_path_factory.mktemp("run") / "whole"
    code, said = finish(start(out, "--steps", 300))
    assert code == 0, said
    return out


def test_a_run_starts_from_the_weights_of_another_and_resumes(whole, tmp_path):
    code, said = finish(start(tmp_path / "new", "--steps", 50, "--transfer", whole))
    assert code == 0, said
    assert f"weights from {whole}\n" in said
    (first,) = rows(tmp_path / "new")
    assert first["loss/objective"] < rows(whole)[0]["loss/objective"]
    code, said = finish(start(tmp_path / "new", "--steps", 100, "--transfer", whole))
    assert code == 0, said
    assert "weights from" not in said
    code, said = finish(start(tmp_path / "none", "--transfer", tmp_path))
    assert code == 2
    assert "no model.safetensors there; give the folder of a finished run" in said
    assert not (tmp_path / "none").exists()


def test_a_run_leaves_what_the_readme_says(whole):
    assert {path.name for path in whole.iterdir() if path.name != ".lock"} == {
        "config.json",
        "metrics.jsonl",
        "samples",
        "checkpoints",
        "model.safetensors",
    }
    assert [row["step"] for row in rows(whole)] == [50, 100, 150, 200, 250, 300]
    assert rows(whole)[-1]["loss/objective"] < rows(whole)[0]["loss/objective"]
    assert sorted(path.name for path in (whole / "samples").iterdir())[:2] == [
        "reconstructions_00000100.png",
        "reconstructions_00000200.png",
    ]
    assert not list(whole.rglob("*.pkl"))
    model, weights = genjax.load(whole)
    pictures = model.sample(weights, jax.random.key(0), 16)
    assert pictures.shape == (16, 8, 8, 1)
    np.testing.assert_allclose(
        pictures, jax.jit(model.sample, static_argnums=2)(weights, jax.random.key(0), 16), atol=1e-5
    )


def test_a_finished_run_says_so(whole):
    before = {
        path: path.stat().st_mtime_ns
        for path in whole.rglob("*")
        if path.is_file() and path.name != "config.json"
    }
    code, said = finish(start(whole, "--steps", 300))
    assert code == 0
    assert "finished" in said
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_killed_at_any_moment_it_ends_in_the_same_weights(whole, tmp_path):
    out = tmp_path / "cut"
    for attempt in range(3):
        process = start(out, "--steps", 300)
        deadline = time.monotonic() + 60
        wanted = 50 * (2 * attempt + 1)  # die after this checkpoint, wherever the run is then
        while (
            process.poll() is None
            and time.monotonic() < deadline
            and not (out / "checkpoints" / str(wanted)).exists()
        ):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, said = finish(start(out, "--steps", 300))
    assert code == 0, said
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [row["step"] for row in rows(out)] == [50, 100, 150, 200, 250, 300]


def test_sigterm_saves_and_the_same_command_resumes(tmp_path):
    out = tmp_path / "stopped"
    process = start(out, "--steps", 1_000_000)
    while not (out / "checkpoints" / "50").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 143
    assert "the same command resumes" in said
    assert "Traceback" not in said
    step = max(int(path.name) for path in (out / "checkpoints").iterdir())
    assert f"at step {step} of 1000000" in said
    assert (out / "model.safetensors").exists()
    code, said = finish(start(out, "--steps", step + 10))
    assert code == 0
    assert f"step {step} of {step + 10}" in said
    assert rows(out)[-1]["step"] == step + 10


def test_other_settings_are_named_and_refused_unless_forked(whole, tmp_path):
    before = (whole / "config.json").read_bytes()
    code, said = finish(start(whole, "--steps", 310, "--model.beta", 2))
    assert code == 2
    assert "config.beta was 1.0, is 2.0" in said
    assert (whole / "config.json").read_bytes() == before
    code, said = finish(start(whole, "--steps", 310, "--model.network", "conv", "--fork"))
    assert code == 2
    assert "checkpoint 300 does not fit these settings: " in said
    assert f"--transfer {whole}" in said
    assert (whole / "config.json").read_bytes() == before
    copy = tmp_path / "fork"
    subprocess.run(["cp", "-r", str(whole), str(copy)], check=True)
    code, said = finish(start(copy, "--steps", 310, "--model.beta", 2, "--fork"))
    assert code == 0, said
    assert "step 300 of 310" in said
    settings = json.loads((copy / "config.json").read_text())
    assert settings["config"]["beta"] == 2
    assert settings["forked"] == [["config.beta was 1.0, is 2.0"]]


def test_what_is_not_finite_stops_with_a_line(tmp_path):
    code, said = finish(start(tmp_path / "run", "--steps", 300, "--model.learning-rate", "1e30"))
    assert code == 1
    assert "Traceback" not in said
    step = int(re.search(r"is (nan|inf|not finite) at step (\d+)", said)[2])
    if step > 1:  # what the message advises
        code, said = finish(
            start(tmp_path / "run", "--steps", step - 1, "--model.learning-rate", "1e30")
        )
        assert code == 0, said


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    first = start(tmp_path / "run", "--steps", 1_000_000)
    while not (tmp_path / "run" / "config.json").exists():
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.02)
    code, said = finish(start(tmp_path / "run", "--steps", 1_000_000))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert code == 2
    assert "another process" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("--steps", "-1"),
        ("--steps", "many"),
        ("--batch-size", "0"),
        ("--dtype", "float7"),
        ("--model.no-such-field", "1"),
        ("--data", "nowhere"),
        ("--seed", "-3"),
        ("--resolution", "0"),
        ("--model.binarize", "perhaps"),
        ("--model.shape", "3"),
        ("--model.num-labels", "7"),
    ],
)
def test_bad_options_end_in_one_line_and_code_2(tmp_path, arguments, monkeypatch, capsys):
    from genjax.cli.train import vae as train_vae

    monkeypatch.setattr(sys, "argv", ["vae.py", "--out", str(tmp_path / "run"), *arguments])
    with pytest.raises(SystemExit) as exit:
        train_vae.main()
    said = capsys.readouterr().err
    assert exit.value.code == 2
    assert len(said.strip().splitlines()) == 1
    assert arguments[0] in said
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not a run of genjax"):
        run_folder.open_run(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_sample_command(whole, tmp_path, monkeypatch, capsys):
    def genjax_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["genjax", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return exit.value.code, capsys.readouterr().err

    out = tmp_path / "grid.png"
    assert genjax_command("sample", whole, "--n", 9, "--grid", "3x3", "--out", out)[0] == 0
    first = out.read_bytes()
    assert (
        genjax_command("sample", whole, "--n", 9, "--grid", "3x3", "--out", out, "--force")[0] == 0
    )
    assert out.read_bytes() == first
    assert (
        genjax_command(
            "sample", whole, "--n", 9, "--grid", "3x3", "--seed", 1, "--out", out, "--force"
        )[0]
        == 0
    )
    assert out.read_bytes() != first
    assert (
        genjax_command(
            "sample", whole, "--n", 9, "--step", 300, "--grid", "3x3", "--out", out, "--force"
        )[0]
        == 0
    )
    assert out.read_bytes() == first
    for bad, option in [
        (("--step", 7), "--step 7: "),
        (("--n", 0), "--n 0"),
        (("--out", tmp_path / "none/grid.png"), "--out"),
        (("--grid", "3"), "--grid 3"),
        (("--huge", 1), "--huge"),
    ]:
        code, said = genjax_command("sample", whole, *bad)
        assert code == 2
        assert option in said
        assert len(said.strip().splitlines()) == 1
    code, said = genjax_command("sample", tmp_path / "nothing")
    assert code == 2
    assert "config.json" in said


def test_a_gan_trains_from_the_shell_and_resumes(tmp_path):
    out = tmp_path / "run"
    code, said = finish(start(out, "--steps", 100, model="gan"))
    assert code == 0, said
    assert {
        "loss/disc",
        "loss/gen",
        "health/diversity",
        "health/logit_gap",
        "health/saturated",
    } < set(rows(out)[-1])
    code, said = finish(start(out, "--steps", 150, model="gan"))
    assert code == 0, said
    assert "resuming" in said
    model, weights = genjax.load(out)
    assert model.sample(weights, jax.random.key(0), 2).shape == (2, 8, 8, 1)


def test_help_for_a_reader_that_has_enough_ends_in_silence():
    """`train/vae.py --help | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "train/vae.py"), "--help"]
    done = subprocess.run(
        command,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


PRESETS = {"": ["plain"], "small": ["of the preset"]}


@pytest.mark.parametrize(
    "settings", [Options, *(model.Config for model in (cyclegan, dcgan, gan, stylegan2, vae))]
)
def test_every_setting_has_its_help(settings):
    """It is the comment at the end of its line, or above it."""
    lines = [
        line for base in settings.__mro__[:-1] for line in inspect.getsource(base).splitlines()
    ]
    for field in dataclasses.fields(settings):
        index = next(i for i, line in enumerate(lines) if line.startswith(f"    {field.name}: "))
        above, own = lines[index - 1], lines[index]
        assert re.search(r"  # \S", own) or re.match(r"    # \S", above), field.name


@pytest.mark.parametrize(
    "argv", [["--preset", "small"], ["--steps", "3", "--preset=small", "--out", "x"]]
)
def test_a_preset_is_found_wherever_it_stands(argv):
    assert command_line.preset(PRESETS, argv) == ["of the preset"]


def test_without_a_preset_the_options_have_their_own_defaults():
    assert command_line.preset(PRESETS, ["--steps", "3"]) == ["plain"]
    assert command_line.preset({"": 1}, []) == 1


def test_an_unknown_preset_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        command_line.preset(PRESETS, ["--preset", "smal"])
    assert end.value.code == 2
    assert "--preset smal: one of small" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--data", "pictures"], True),
        (["--data-a", "pictures"], True),
        (["--data", "pictures", "--preset", "small"], False),
        ([], False),
    ],
)
def test_pictures_without_a_preset_are_told_of_larger_networks(argv, said, monkeypatch, capsys):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Arguments(Options):
        """Toy."""

        preset: str = ""  # a name
        data_a: str = ""  # side a
        model: gan.Config = gan.Config()

    monkeypatch.setattr("sys.argv", ["train.py", *argv])
    monkeypatch.setattr(command_line, "guarded", lambda run, option: run())
    with pytest.raises(SystemExit) as end:
        command_line.main(
            "gan",
            Arguments,
            lambda args: 0,
            {"": Arguments(), "small": Arguments(preset="small")},
            hint="--preset small",
        )
    assert end.value.code == 0
    assert (
        "sized for the embedded digits; for pictures use --preset small" in capsys.readouterr().err
    ) == said


def test_a_run_measures_itself_and_keeps_its_best(tmp_path, monkeypatch):
    distances = iter([3.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr(
        evaluation,
        "distance_to",
        lambda source, extractor, track: lambda batches, count: next(distances),
    )
    monkeypatch.setattr(
        extractors, "extractor", lambda name: extractors.wrap(lambda images: images, name)
    )
    options = Options(
        out=tmp_path / "run",
        steps=40,
        batch_size=8,
        log_every=10,
        save_every=10,
        eval_every=10,
        keep=1,
        eval_extractor="lenet",
    )
    config = vae.Config(shape=(8, 8, 1), hidden=(4,), z_dim=2, batch_size=8)
    assert script.train("vae", vae.recipe(config), script.load_data(options), options).step == 40
    assert [row["eval/fd_lenet"] for row in rows(tmp_path / "run")] == [3, 1, 2, 4]
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["20", "40"]


def test_a_finished_run_has_the_weights_of_its_last_step_whatever_lay_there(
    tmp_path, monkeypatch, capsys
):
    """It may have been killed between its last checkpoint and them, beside those of an
    earlier SIGTERM.
    """
    options = Options(out=tmp_path / "run", steps=4, batch_size=8, log_every=2, save_every=2)
    config = vae.Config(shape=(8, 8, 1), hidden=(4,), z_dim=2, batch_size=8, decay_steps=3)
    monkeypatch.setattr(run_folder, "lock", lambda run: None)  # of this process, until it ends
    train = lambda: script.train("vae", vae.recipe(config), script.load_data(options), options)
    assert train().step == 4
    assert (
        "rates are 0 from step 3 on: with --steps 4 give --model.decay-steps, too"
        in capsys.readouterr().err
    )
    path = tmp_path / "run" / "model.safetensors"
    whole = path.read_bytes()
    for stale in (lambda: path.write_bytes(b"of another step"), path.unlink):
        stale()
        assert train().step == 4
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "x.png"), "x.png: No space left on device"),
        (
            MemoryError("Unable to allocate 107. GiB"),
            "Unable to allocate 107. GiB; take fewer or smaller images",
        ),
        (InputError("--n 0: at least 1"), "--n 0: at least 1"),
    ],
)
def test_what_the_machine_lacks_is_said_in_a_line(error, said, capsys):
    def run():
        raise error

    assert shell.guarded(run) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f": {said}")


def test_an_os_error_that_says_nothing_keeps_its_traceback():
    def run():
        raise OSError("odd")

    with pytest.raises(OSError, match="odd"):
        shell.guarded(run)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eval_every": 50, "log_every": 20}, "eval_every 50: a multiple of `log_every`"),
        ({"eval_every": -1, "log_every": 1, "save_every": 1}, "eval_every -1"),
        ({"eval_images": 1}, "eval_images 1"),
        ({"resident_mb": float("nan")}, "resident_mb nan: must be at least 0"),
        ({"resident_mb": -1}, "resident_mb -1: must be at least 0"),
    ],
)
def test_measuring_that_means_nothing_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        script.begin(Options(**options))


def test_what_cannot_measure_itself_is_said():
    options, recipe = Options(eval_every=5), vae.recipe(vae.Config(shape=(8, 8, 1)))
    source = data.load("digits")
    with pytest.raises(InputError, match="eval_every 5: the model draws no images"):
        script.evaluation(recipe._replace(sampler=None), source, options)
    with pytest.raises(InputError, match="eval_every 5: not with `random_crop`"):
        script.evaluation(recipe, data.load("digits", random_crop=4), options)
    with pytest.raises(InputError, match="eval_extractor none: one of inception, "):
        script.evaluation(recipe, source, dataclasses.replace(options, eval_extractor="none"))


TOY = vae.Config(shape=(8, 8, 1), hidden=(4,), z_dim=2, batch_size=8)


def trained(out, steps, fork=False, config=TOY, **options):
    """What a toy run in this process returns, its lock left out."""
    options = Options(
        out=out,
        steps=steps,
        batch_size=8,
        **{"log_every": 2, "save_every": 2, "sample_every": 2, "fork": fork} | options,
    )
    return script.train("vae", vae.recipe(config), script.load_data(options), options)


def test_grids_that_a_kill_prevented_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "lock", lambda run: None)
    assert trained(tmp_path / "run", 4).step == 4
    grids = {path.name: path.read_bytes() for path in (tmp_path / "run/samples").glob("*4.png")}
    assert grids
    for steps in (4, 6):  # of a finished run, and of one that goes on
        for name in grids:
            (tmp_path / "run/samples" / name).unlink()
        assert trained(tmp_path / "run", steps).step == steps
        assert {name: (tmp_path / "run/samples" / name).read_bytes() for name in grids} == grids


def test_a_run_without_a_checkpoint_takes_other_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "lock", lambda run: None)
    bad = dataclasses.replace(TOY, learning_rate=1e38)
    with pytest.raises(NotFinite):
        trained(tmp_path / "run", 4, config=bad, log_every=1, save_every=1)
    for folder in (tmp_path / "run/checkpoints").iterdir():  # of a step that was finite still
        shutil.rmtree(folder)
    assert trained(tmp_path / "run", 4).step == 4
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert (settings["config"]["learning_rate"], settings.get("forked", [])) == (
        TOY.learning_rate,
        [],
    )
    with pytest.raises(InputError, match="holds a run of other settings"):
        trained(tmp_path / "run", 4, config=bad)


def test_a_damaged_config_is_replaced_by_a_fork(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "lock", lambda run: None)
    assert trained(tmp_path / "run", 2).step == 2
    (tmp_path / "run/config.json").write_bytes(b"{")
    with pytest.raises(InputError, match=r"config\.json.* `fork`"):
        trained(tmp_path / "run", 4)
    assert trained(tmp_path / "run", 4, fork=True).step == 4
    assert "config.json" in json.loads((tmp_path / "run/config.json").read_text())["forked"][0][0]


@pytest.mark.parametrize(
    "given",
    [
        ("--steps", "99999999999999999999"),
        ("--steps", "4294967296"),
        ("--seed", "-99999999999"),
        ("--steps", "9" * 5000),
        ("--keep", "1e3"),
        ("--model.z-dim", "99999999999999999999"),
        ("--resolution", "8", "99999999999999999999"),
        ("--resident-mb", "nan"),
        ("--max-bad", "inf"),
        ("--model.learning-rate", "1e39"),
        ("--model.beta", "nan"),
    ],
)
def test_numbers_out_of_range_are_rejected_by_the_parser(given, monkeypatch, capsys):
    from genjax.cli.train import vae as train_vae

    monkeypatch.setattr(sys, "argv", ["vae.py", *given])
    with pytest.raises(SystemExit) as exit:
        command_line.main("vae", train_vae.Arguments, lambda args: pytest.fail("was parsed"))
    (said,) = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2
    assert given[0] in said
    assert re.search(
        "a whole number|a finite number|find valid parse", said
    )  # the last of several values
    assert len(said) < 300


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"JAX_PLATFORMS": "cuda"}, "vae.py: JAX_PLATFORMS=cuda: no such device can be used"),
        ({"JAX_PLATFORMS": "foo"}, "vae.py: JAX_PLATFORMS=foo: no such device can be used"),
        ({"JAX_DISABLE_JIT": "1"}, "vae.py: JAX_DISABLE_JIT=1: does not work here"),
        (
            {"JAX_NUMPY_DTYPE_PROMOTION": "strict"},
            "vae.py: JAX_NUMPY_DTYPE_PROMOTION=strict: does not work here",
        ),
        (
            {"JAX_DEFAULT_MATMUL_PRECISION": "foo"},
            'vae.py: Invalid value "foo" for JAX flag jax_default_matmul_precision',
        ),
    ],
)
def test_an_environment_that_does_not_work_is_named(tmp_path, environment, said):
    command = [
        sys.executable,
        str(ROOT / "train/vae.py"),
        "--steps",
        "1",
        "--out",
        str(tmp_path / "run"),
        *SMALL,
    ]
    env = os.environ | {"XLA_FLAGS": toys.ONE_DEVICE, "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(said)
    assert "Traceback" not in done.stderr


def test_a_full_disk_ends_in_a_line_and_the_run_resumes(tmp_path):
    limit = ["sh", "-c", 'ulimit -f 64 && exec "$@"', "sh"]  # files of at most 32 KB
    command = [
        sys.executable,
        str(ROOT / "train/gan.py"),
        "--steps",
        "100",
        "--out",
        str(tmp_path / "run"),
        *SMALL,
        "--model.hidden",
        "128",
    ]
    env = os.environ | {
        "XLA_FLAGS": toys.ONE_DEVICE,
        "PYTHONPATH": str(ROOT),
        "JAX_ENABLE_COMPILATION_CACHE": "0",
    }
    done = subprocess.run([*limit, *command], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"gan.py: {tmp_path / 'run/checkpoints'}: File too large"
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr


def test_checkpoints_are_listed_with_the_best_marked(whole, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["genjax", "checkpoints", str(whole)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    head, *table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert exit.value.code == 0
    column = head.index("loss/objective") + 1  # a date is two words
    values = {int(row[0]): float(row[column]) for row in table}
    assert {row[0] for row in table} == {path.name for path in (whole / "checkpoints").iterdir()}
    (best,) = [int(row[0]) for row in table if row[-1] == "best"]
    assert values[best] == min(values.values())
    logged = {row["step"]: row["loss/objective"] for row in rows(whole)}
    assert all(values[step] == pytest.approx(logged[step], rel=1e-3) for step in values)
