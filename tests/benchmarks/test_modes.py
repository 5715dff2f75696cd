"""benchmarks/modes.py: its counts on samples with a known answer, and a few steps."""

import dataclasses
import functools
import gzip
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# modes.py imports a module that lies beside it, as a script does.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from benchmarks import modes
from genjax import core
from genjax.errors import InputError
from genjax.models import dcgan, gan

GRID = modes.MIXTURES["grid"]


def mixture_samples(name: str, n: int) -> np.ndarray:
    """n points [n, 2] of a mixture."""
    mixture = modes.MIXTURES[name]
    images = modes.drawer(mixture)(jax.random.key(0), n)
    return np.asarray(images, np.float64).reshape(n, 2) * mixture.scale


@pytest.mark.parametrize(("name", "count"), [("ring", 8), ("grid", 25)])
def test_samples_of_the_mixture_are_perfect(name, count):
    n = 20_000
    row = modes.count_modes(mixture_samples(name, n), modes.MIXTURES[name])
    assert row["modes"] == row["fair_modes"] == count
    # A Gaussian in the plane is within 3 deviations with this probability.
    assert abs(row["high_quality"] - (1 - np.exp(-4.5))) < 0.004
    assert abs(row["spread"] - 1) < 0.02
    assert 0 <= row["reverse_kl"] < 3 * (count - 1) / (2 * n)


def test_mixtures_are_those_of_the_papers():
    distances = np.linalg.norm(GRID.means[:, None] - GRID.means[None], axis=-1) + 100 * np.eye(25)
    assert GRID.means.shape == (25, 2)
    assert distances.min() == 2
    assert np.abs(GRID.means).max() == 4
    np.testing.assert_allclose(np.linalg.norm(modes.MIXTURES["ring"].means, axis=-1), 2)
    assert all(
        np.abs(mixture.means).max() / mixture.scale == 0.8 for mixture in modes.MIXTURES.values()
    )


def test_lost_narrowed_and_missed_modes_are_detected():
    one = np.tile(GRID.means[:1], (1000, 1))
    row = modes.count_modes(one, GRID)
    assert (row["modes"], row["fair_modes"], row["high_quality"], row["spread"]) == (1, 1, 1.0, 0.0)
    assert row["reverse_kl"] == pytest.approx(np.log(25))
    # One sample of each of the other modes covers them, but not with a fair share.
    row = modes.count_modes(np.concatenate([one, GRID.means[1:]]), GRID)
    assert (row["modes"], row["fair_modes"]) == (25, 1)
    between = np.tile(GRID.means[:1] + 1.0, (10, 1))
    row = modes.count_modes(between, GRID)
    assert (row["modes"], row["high_quality"], row["spread"]) == (0, 0.0, None)
    at_the_edge = GRID.means[:2] + np.array([[0.149, 0], [0.151, 0]])
    assert modes.count_modes(at_the_edge, GRID)["high_quality"] == 0.5


def test_a_diverged_run_covers_nothing():
    row = modes.count_modes(np.full((10, 2), np.nan), GRID)
    expected = {"modes": 0, "fair_modes": 0, "high_quality": 0.0}
    assert row == expected | {"spread": None, "reverse_kl": None}
    half = np.concatenate([GRID.means[:5], np.full((5, 2), np.inf)])
    assert modes.count_modes(half, GRID)["high_quality"] == 0.5
    means = {"modes": 2.0, "fair_modes": 0.0, "high_quality": 0.0}
    worst = {"modes_min": 0, "fair_modes_min": 0, "high_quality_min": 0.0}
    summary = modes.summary([row, {**row, "modes": 4, "reverse_kl": 1.0}])
    assert summary == means | {"spread": None, "reverse_kl": None} | worst


def test_reverse_kl_is_the_definition():
    counts, p = np.array([3, 0, 1]), np.array([0.25, 0.25, 0.5])
    assert modes.reverse_kl(counts, p) == pytest.approx(0.75 * np.log(3) + 0.25 * np.log(0.5))
    assert modes.reverse_kl(np.array([1, 1, 2]), p) == pytest.approx(0)


def test_stacked_digits_are_counted_against_the_datas_frequencies():
    frequencies = np.linspace(1, 2, 10) / 15
    rng = np.random.default_rng(0)
    row = modes.count_stacked(rng.choice(10, (26_000, 3), p=frequencies), frequencies)
    assert row["modes"] == 1000
    assert abs(row["reverse_kl"] - 999 / 52_000) < 0.004
    assert modes.count_stacked(rng.choice(10, (26_000, 3)), frequencies)["reverse_kl"] > 0.06
    same = np.repeat(np.arange(10)[:, None], 3, axis=1)
    row = modes.count_stacked(same, np.full(10, 0.1))
    assert row["modes"] == 10
    assert row["reverse_kl"] == pytest.approx(np.log(100))
    # The order of channels matters.
    assert modes.count_stacked(np.array([[1, 2, 3], [3, 2, 1]]), frequencies)["modes"] == 2


def test_stacks_are_three_independent_digits():
    values = jnp.arange(0, 250, 25, dtype=jnp.uint8)
    digits = jnp.broadcast_to(values[:, None, None, None], (10, 2, 3, 1))
    images = np.asarray(modes.stack(digits, jax.random.key(0), 5000))
    assert images.shape == (5000, 2, 3, 3)
    which = np.rint((images[:, 0, 0] + 1) * 127.5 / 25).astype(int)
    expected = np.broadcast_to(which[:, None, None] * 25 / 127.5 - 1, images.shape)
    np.testing.assert_allclose(images, expected, atol=1e-6)
    assert modes.count_stacked(which, np.full(10, 0.1))["modes"] > 980
    assert np.abs(np.corrcoef(which.T) - np.eye(3)).max() < 0.06


def test_every_game_is_a_model():
    for game in modes.GAMES.values():
        gan.recipe(gan.Config(**modes.COMMON, **game))


def test_resumed_steps_are_the_same_and_penalties_come_at_their_interval():
    settings = {**modes.COMMON, "hidden": (8,), "batch_size": 4}
    model = gan.recipe(gan.Config(**settings, r1_gamma=1.0, penalty_interval=2))
    run = modes.trainer(model, modes.drawer(GRID))
    state, root = modes.start(model, 3)
    uninterrupted = run(state, root, 4)
    resumed = run(run(modes.start(model, 3)[0], root, 2), root, 2)
    assert int(uninterrupted.step) == 4
    jax.tree.map(np.testing.assert_array_equal, uninterrupted, resumed)
    state, _ = modes.start(model, 3)
    step, draw = jax.jit(model.step, static_argnums=3), modes.drawer(GRID)
    for i in range(2):
        data_key, key = jax.random.split(jax.random.fold_in(root, i))
        state, metrics = step(state, {"images": draw(data_key, 4)}, key, model.plan(i))
        assert ("penalty/r1" in metrics) == (i == 0)
    again = run(modes.start(model, 3)[0], root, 2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        state.params,
        again.params,
    )


@pytest.mark.parametrize("game", ["relativistic_r1_r2", "wasserstein_gp"])
def test_playing(game, tmp_path, capsys):
    args = modes.Ring(loss=game, seeds=2, steps=3, samples=100, out=tmp_path)
    assert modes.main(args) == 0
    first, second, both = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["seed"], second["seed"], both["seeds"]) == (0, 1, 2)
    assert first["reverse_kl"] != second["reverse_kl"]
    assert both["modes"] == (first["modes"] + second["modes"]) / 2
    assert (tmp_path / f"ring-{game}.png").stat().st_size > 1000


def test_a_picture_shows_samples_in_two_colours():
    image = modes.picture(np.array([[0.0, 0.0], [1.0, 1.0], [np.nan, 0.0]]), GRID)
    assert image.shape == (384, 384, 3)
    assert np.sum(np.all(image == -1, axis=-1)) == 1  # at a mode
    assert np.sum(np.all(image == (1, -1, -1), axis=-1)) == 1  # between modes


@pytest.mark.parametrize("wrong", [{"loss": "hing"}, {"steps": 0}, {"seeds": 0}])
def test_bad_input_is_named(wrong):
    with pytest.raises(InputError, match=f"--{next(iter(wrong))}"):
        modes.main(modes.Grid(**wrong))


@pytest.fixture
def mnist(tmp_path):
    """Files in MNIST's format, with digits of 8x8 that are easy to tell apart."""
    rng, patterns = np.random.default_rng(0), np.random.default_rng(1).integers(0, 2, (10, 8, 8))
    for prefix, n in (("train", 1000), ("t10k", 200)):
        labels = rng.integers(0, 10, n).astype(np.uint8)
        pixels = (200 * patterns[labels] + rng.integers(0, 40, (n, 8, 8))).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(
                gzip.compress(header + array.tobytes(), 1)
            )
    return tmp_path


@pytest.mark.slow
def test_a_run_on_stacked_digits_resumes(mnist, tmp_path, capsys, monkeypatch):
    # This process stands for several: no lock, and their programs are compiled once.
    monkeypatch.setattr(modes.run_folder, "lock", lambda run: None)
    monkeypatch.setattr(modes.dcgan, "recipe", functools.cache(dcgan.recipe))
    programs, trainer = {}, modes.trainer
    monkeypatch.setattr(modes, "trainer", lambda *args: programs.setdefault("run", trainer(*args)))
    defaults = modes.Stacked(mnist="")
    config = dataclasses.replace(defaults.model, channels=4, z_dim=8, batch_size=4)
    args = dataclasses.replace(
        defaults, mnist=str(mnist), out=tmp_path / "run", resolution=8, model=config
    )
    args = dataclasses.replace(args, steps=2, every=1, samples=1500)
    assert modes.main(args) == 0
    of_data, *rows = map(json.loads, capsys.readouterr().out.splitlines())
    assert of_data["classifier_accuracy"] > modes.mnist_classifier.WANTED
    assert of_data["modes"] > 700  # of 1500 draws from 1000
    assert [row["step"] for row in rows] == [1, 2]
    assert modes.main(args) == 0  # finished: nothing to do
    assert capsys.readouterr().out == ""
    assert modes.main(dataclasses.replace(args, steps=3)) == 0
    assert [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()] == [3]
    curve = [json.loads(line) for line in (args.out / "curve.jsonl").read_text().splitlines()]
    assert [row.get("step") for row in curve] == [None, 1, 2, 3]
    assert (args.out / "samples.png").exists()
    with pytest.raises(InputError, match="holds a run of other settings"):
        modes.main(dataclasses.replace(args, seed=1))


def test_penalty_intervals_must_fit(mnist):
    model = dcgan.Config(disc_norm="none", r1_gamma=1.0, penalty_interval=3)
    with pytest.raises(InputError, match="penalty-interval 3"):
        modes.main(modes.Stacked(mnist=str(mnist), every=4, steps=6, model=model))


def test_weights_are_those_of_the_average():
    model = gan.recipe(gan.Config(**{**modes.COMMON, "hidden": (8,)}))
    state, _ = modes.start(model, 0)
    assert core.weights(state)["params"]["gen"] is state.ema["gen"]
