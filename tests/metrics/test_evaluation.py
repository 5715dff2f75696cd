"""Two sets measured against each other as a person asks for it: arrays, folders and runs; one pass, its cache, and what a result says of itself."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from PIL import Image

import genjax.cache
from genjax import checkpoint, cli, latents
from genjax.errors import InputError
from genjax.metrics import evaluate, evaluation, extractors, features, frechet, kernel, manifold, sets
from genjax.models import dcgan

PROJECTION = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)


def project(images):
    return jnp.asarray(images, jnp.float32).reshape(len(images), -1) / 255 @ PROJECTION


TOY = extractors.wrap(project, "toy", digest="toy")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(genjax.cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def pixels(n, seed=0, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (n, 4, 4, 3), dtype=np.uint8)


def folder(path, images):
    path.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(path / f"{index:04d}.png")
    return path


def quiet(*arguments, **options):
    """`evaluate`, with its warning of few images."""
    with pytest.warns(UserWarning, match="biased"):
        return evaluate(*arguments, extractor=TOY, **options)


def test_all_metrics_come_from_the_features_of_every_image():
    real, fake = pixels(37), pixels(29, 1, 20, 220)  # neither is a multiple of the batch or of 8 devices
    found = quiet(real, fake, ["fd", "kid", "prdc"], batch_size=16)
    a, b = np.asarray(project(real)), np.asarray(project(fake))
    assert found.values["fd_toy"] == pytest.approx(frechet.frechet_distance(frechet.moments(a), frechet.moments(b)), rel=1e-4)
    assert found.values["kd_toy"] == pytest.approx(kernel.kernel_distance(a, b, 0).mean, rel=1e-4)
    scores = manifold.manifold_scores(a, b)._asdict()
    assert {name: found.values[name] for name in scores} == pytest.approx(scores)
    assert (found.real_count, found.fake_count, found.spread, found.digest) == (37, 29, {}, "toy")
    assert json.loads(found.as_json())["values"] == found.values


def test_order_does_not_matter_but_collapse_and_copies_show():
    real, fake = pixels(300), pixels(300, 1)
    usual = quiet(real, fake, ["fd", "prdc"]).values
    assert quiet(real, fake[::-1], ["fd", "prdc"]).values == pytest.approx(usual, rel=1e-4)
    collapsed = quiet(real, np.repeat(real[:1], 300, 0), ["fd", "prdc"]).values
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.05
    assert usual["recall"] > 0.5
    assert collapsed["fd_toy"] > 5 * usual["fd_toy"]
    copied = quiet(real, real, ["fd", "nearest"]).values
    assert copied["fd_toy"] == pytest.approx(0, abs=1e-4)
    assert copied["nearest_ratio_lowest"] == 0


def test_an_extractors_own_protocol_is_the_results():
    real, fake = pixels(40), pixels(40, 1)
    own = evaluate(real, fake, ["kid"], extractor=TOY._replace(protocol="nvidia"), protocol="clean")
    assert own.protocol == "nvidia"
    divided = [quiet(real, fake, ["fd"], protocol=name).values["fd_toy"] for name in ("nvidia", "clean")]
    assert divided[0] < divided[1]  # by 40 and by 39


def test_floats_in_their_range_are_the_bytes_they_round_to():
    real, fake = pixels(40), pixels(40, 1)
    assert quiet(real, np.float32(fake) / 127.5 - 1, ["fd"]).values == quiet(real, fake, ["fd"]).values


def test_features_of_the_real_set_are_kept_and_made_anew_where_damaged(tmp_path, cache, monkeypatch):
    real, fake = folder(tmp_path / "real", pixels(20)), pixels(20, 1)
    first = quiet(str(real), fake, ["fd"])
    extracted = []
    extract = features.extract
    monkeypatch.setattr(features, "extract", lambda images, *a, **k: extracted.append(images.name) or extract(images, *a, **k))
    assert quiet(str(real), fake, ["fd"]).values == first.values
    assert extracted == ["array of 20 images"]
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert quiet(str(real), fake, ["fd"]).values == first.values
    assert len(extracted) == 3
    Image.fromarray(pixels(1, 7)[0]).save(real / "0000.png")  # another set
    assert quiet(str(real), fake, ["fd"]).values != first.values


def test_the_distance_that_training_measures_itself_by_is_the_same():
    real, fake = pixels(40), pixels(50, 1)
    measured = evaluation.distance_to(real, TOY)(iter([fake[:20], fake[20:]]), 50)
    assert measured == pytest.approx(quiet(real, fake, ["fd"]).values["fd_toy"], rel=1e-5)


def test_a_choice_of_images_is_one_of_the_seed():
    real = pixels(50)
    some = sets.open_set(real, 20, seed=1)
    (chosen,) = some.batches()
    assert len({image.tobytes() for image in chosen} & {image.tobytes() for image in real}) == 20
    assert some.fingerprint == sets.open_set(real, 20, seed=1).fingerprint != sets.open_set(real, 20, seed=2).fingerprint


def test_rebatching_keeps_all_images_in_order():
    parts = [np.arange(5), np.arange(5, 6), np.arange(6, 19)]
    batches = list(sets.rebatched(parts, 4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(batches), np.arange(19))


def test_a_run_is_drawn_from_three_times(tmp_path):
    config = dcgan.Config(shape=(8, 8, 3), latent_size=3, channels=4, norm="none")
    model, run = dcgan.recipe(config), tmp_path / "run"
    run.mkdir()
    checkpoint.write_config(run, {"model": "dcgan", "config": dataclasses.asdict(config)})
    weights = toys.weights(model, scale=0.5)
    checkpoint.export(run, weights)
    drawn = np.concatenate(list(latents.drawn(model, weights, latents.drawer(model), 70, 5)))
    sampled = np.asarray(jax.jit(model.sample, static_argnums=2)(weights, jax.random.key(5), 70))
    np.testing.assert_allclose(drawn, 127.5 * (sampled + 1), atol=0.51)
    toy = extractors.wrap(lambda images: project(images[:, ::2, ::2]), "toy")
    real = folder(tmp_path / "real", np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8))
    with pytest.warns(UserWarning, match="biased"):
        found = evaluate(str(real), run, ["fd"], extractor=toy, count=40)
    assert "40 images of 8x8x3" in found.real
    assert found.draws == 3
    assert found.spread["fd_toy"] > 0
    assert "seed 0" in found.fake
    for none in (0, -5):
        with pytest.raises(InputError, match=f"run: {none} images are asked for; at least 1"):
            evaluate(str(real), run, ["fd"], extractor=toy, count=none)


def test_a_spec_is_brought_to_the_size_that_a_run_draws(tmp_path):
    grey = folder(tmp_path / "real", np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8))
    assert sets.open_set(str(grey)).shape == (16, 16, 1)
    images = sets.open_set(str(grey), shape=(8, 6, 3))
    assert images.shape == (8, 6, 3)
    assert next(images.batches()).shape == (12, 8, 6, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metrics": ["fid"]}, "--metrics fid: of fd, "),
        ({"metrics": []}, "--metrics: some of"),
        ({"metrics": ["is"]}, "--extractor toy: has no logits"),
        ({"draws": 3}, "--draws 3"),
        ({"count": 99}, "fake: has 5 images, and 99"),
        ({"protocol": "none"}, "--protocol none: one of tf_legacy"),
        ({"metrics": ["prdc"]}, "--metrics prdc: .*at least 6"),
    ],
)
def test_what_cannot_be_measured_is_said(options, said):
    with pytest.raises(InputError, match=said):
        evaluate(pixels(9), pixels(5, 1), **({"metrics": ["kid"], "extractor": TOY} | options))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (pixels(9).astype(np.int64), "real: images are uint8, or float in .* not int64"),
        (pixels(9).astype(np.float32), r"real: float images are in \[-1, 1\], these in \[0, 255\]"),
        (np.where(np.arange(48).reshape(4, 4, 3) == 7, np.nan, pixels(9) / 255), r"these in \[nan, nan\]"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, said):
    """Clipped to bytes they would give a distance like any other."""
    with pytest.raises(InputError, match=said):
        evaluate(images, pixels(9), ["kid"], extractor=TOY)


def test_floats_are_the_bytes_that_they_stand_for():
    images = pixels(9)
    for dtype in (np.float32, np.float64, jnp.bfloat16):
        (seen,) = sets.open_set((images / 127.5 - 1).astype(dtype)).batches()
        np.testing.assert_allclose(seen, images, atol=1 if dtype == jnp.bfloat16 else 0)
    with pytest.warns(UserWarning, match="no value of these images is below 0"):
        sets.open_set(images / 255)


def test_several_sizes_are_refused(tmp_path):
    """A protocol resizes whole images: cut to the commonest size first, they would give another distance under its name."""
    mixed = folder(tmp_path / "mixed", [*pixels(5), np.zeros((4, 8, 3), np.uint8)])
    with pytest.raises(InputError, match=r"real '.*mixed': images of 2 sizes .*make them of one size first"):
        sets.open_set(str(mixed), option="real")
    assert sets.open_set(str(mixed), shape=(4, 4, 3)).count == 6  # as a run draws them


def test_each_set_has_its_own_split(tmp_path):
    (tmp_path / "real").mkdir()
    folder(tmp_path / "real/train", pixels(5))
    folder(tmp_path / "real/test", pixels(9, 1))
    fake = folder(tmp_path / "fake", pixels(7, 2))
    truth, [made] = sets.open_pair(str(tmp_path / "real"), str(fake), None, of_run=0, seeds=[0], split="test")
    assert (truth.count, made.count) == (9, 7)
    truth, [made] = sets.open_pair(str(fake), str(tmp_path / "real"), None, of_run=0, seeds=[0], fake_split="test")
    assert (truth.count, made.count) == (7, 9)


def test_a_conditional_run_draws_classes_as_often_as_real_images_have_them(tmp_path, monkeypatch):
    config = dcgan.Config(shape=(8, 8, 3), latent_size=3, channels=4, norm="none", conditional="concat", num_labels=2)
    (tmp_path / "run").mkdir()
    checkpoint.write_config(tmp_path / "run", {"model": "dcgan", "config": dataclasses.asdict(config)})
    checkpoint.export(tmp_path / "run", toys.weights(dcgan.recipe(config)))
    (tmp_path / "real").mkdir()
    for label, count in (("a", 18), ("b", 2)):
        folder(tmp_path / "real" / label, pixels(count))
    drawn = []
    monkeypatch.setattr(latents, "drawn", lambda *arguments: drawn.append(arguments[-1]) or iter([]))
    for real in (tmp_path / "real", tmp_path / "real/a"):
        _, [made] = sets.open_pair(str(real), tmp_path / "run", 2000, of_run=0, seeds=[3])
        list(made.batches())
        assert ("labels as often as real ones" in made.name) == (real.name == "real")
    assert drawn[0].mean() == pytest.approx(0.1, abs=0.02)
    assert drawn[1] is None  # without labels each class in turn


def test_images_that_the_extractor_refuses_are_named():
    def refuse(images):
        raise ValueError("only grey")

    with pytest.raises(InputError, match="array of 5 images: only grey"):
        evaluate(pixels(5), pixels(5), ["kid"], extractor=extractors.wrap(refuse))


def test_every_metric_of_the_table_can_be_asked_for():
    head = extractors.Extractor(
        "toy", lambda params, images, taps: {tap: project(images) for tap in taps}, taps=("features", "logits")
    )
    with pytest.warns(UserWarning, match="biased"):
        found = evaluate(pixels(64), pixels(64, 1), list(evaluation.METRICS), extractor=head)
    assert all(np.isfinite(value) for value in found.values.values())
    assert len(found.values) >= len(evaluation.METRICS)


def test_the_command_prints_and_writes(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(extractors.VARIABLE, str(shared / "weights"))
    monkeypatch.setattr(sys, "argv", [
        "genjax", "eval", str(folder(tmp_path / "real", pixels(12))), str(folder(tmp_path / "fake", pixels(12, 1))), "--extractor", "resnet20",
        "--metrics", "fd,kid", "--json", str(tmp_path / "out.json"),
    ])  # fmt: skip
    with pytest.raises(SystemExit) as end, pytest.warns(UserWarning, match="biased"):
        cli.main()
    assert end.value.code == 0
    printed = dict(line.split(" ")[:2] for line in capsys.readouterr().out.splitlines())
    written = json.loads((tmp_path / "out.json").read_text())
    assert {name: float(value) for name, value in printed.items()} == pytest.approx(written["values"], rel=1e-3)
    assert written["digest"].startswith("12fca82f")


def test_without_weights_the_command_says_where_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(extractors.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["genjax", "eval", "digits", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "https://github.com/mseitzer/pytorch-fid/releases" in said
    assert len(said.splitlines()) == 1
