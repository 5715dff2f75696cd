"""Evaluation of arrays, folders and runs: the pass, its cache, and the result."""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save

import genjax.runtime.cache
from genjax import cli, data, sampling
from genjax.core import Sampler
from genjax.errors import InputError
from genjax.files import outputs
from genjax.metrics import evaluate, evaluation, extractors, features, frechet, kid, prdc, sets
from genjax.metrics.extractors import protocols
from genjax.models import dcgan
from genjax.training import run_folder

PROJECTION = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)


def project(images):
    return jnp.asarray(images, jnp.float32).reshape(len(images), -1) / 255 @ PROJECTION


TOY = extractors.wrap(project, "toy", digest="toy")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(genjax.runtime.cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Runs of equal Configs share a model, and so the program that draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dcgan, "recipe", functools.cache(dcgan.recipe))
        patch.setattr(sampling, "drawer", functools.cache(sampling.drawer))
        yield


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
    # Neither is a multiple of the batch or of 8 devices
    real, fake = pixels(37), pixels(29, 1, 20, 220)
    result = quiet(real, fake, ["fd", "kid", "prdc"], batch_size=16)
    a, b = np.asarray(project(real)), np.asarray(project(fake))
    assert result.values["fd_toy"] == pytest.approx(
        frechet.frechet_distance(frechet.moments(a), frechet.moments(b)), rel=1e-4
    )
    assert result.values["kd_toy"] == pytest.approx(kid.kernel_distance(a, b, 0).mean, rel=1e-4)
    scores = prdc.manifold_scores(a, b)._asdict()
    assert {name: result.values[name] for name in scores} == pytest.approx(scores)
    assert (result.real_count, result.fake_count, result.spread, result.digest) == (
        37,
        29,
        {},
        "toy",
    )
    written = json.loads(result.as_json())
    assert written["values"] == result.values
    assert written["subset_sizes"] == {"kd_toy": [18, 14]}
    assert written["genjax"] == genjax.__version__
    for name, images in (("real_fingerprint", real), ("fake_fingerprint", fake)):
        assert written[name] == f"{hashlib.sha256(images.tobytes()).hexdigest()} {images.shape}"
    assert (written["real_weights"], written["fake_weights"], written["step"]) == ("", "", None)


def test_json_has_no_numbers_that_json_lacks():
    result = quiet(pixels(9), pixels(9, 1), ["fd"])
    changed = dataclasses.replace(
        result, values={"a": np.inf, "b": np.nan, "c": -np.inf, "d": 1.5}
    ).as_json()
    refuse = lambda name: pytest.fail(name)
    assert json.loads(changed, parse_constant=refuse)["values"] == {
        "a": None,
        "b": None,
        "c": None,
        "d": 1.5,
    }


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


def test_fid_is_the_name_of_fd_with_the_published_inception():
    real, fake = pixels(40), pixels(40, 1)
    with pytest.warns(UserWarning, match="biased"):
        result = evaluate(real, fake, ["fid", "fd"], extractor=TOY._replace(frechet_name="fid"))
    assert result.values == {"fid": quiet(real, fake, ["fd"]).values["fd_toy"]}


def test_a_distance_of_many_wide_features_is_announced(monkeypatch):
    wide = extractors.wrap(lambda images: images.reshape(len(images), -1) / 255, "wide")
    monkeypatch.setattr(evaluation, "WIDE", 40)
    monkeypatch.setattr(evaluation, "FEW", 0)
    with pytest.warns(UserWarning, match="over 48 features per image takes many minutes"):
        evaluate(pixels(50), pixels(60, 1), ["fd"], extractor=wide)
    # Not with fewer images than features
    evaluate(pixels(47), pixels(60, 1), ["fd"], extractor=wide)


def test_the_protocol_of_an_extractor_takes_precedence():
    real, fake = pixels(40), pixels(40, 1)
    own = evaluate(real, fake, ["kid"], extractor=TOY._replace(protocol="nvidia"), protocol="clean")
    assert own.protocol == "nvidia"
    divided = [
        quiet(real, fake, ["fd"], protocol=name).values["fd_toy"] for name in ("nvidia", "clean")
    ]
    assert divided[0] < divided[1]  # by 40 and by 39


def test_floats_in_their_range_are_the_bytes_they_round_to():
    real, fake = pixels(40), pixels(40, 1)
    assert (
        quiet(real, np.float32(fake) / 127.5 - 1, ["fd"]).values == quiet(real, fake, ["fd"]).values
    )


def test_features_of_the_real_set_are_cached_and_damaged_ones_replaced(
    tmp_path, cache, monkeypatch
):
    real, fake = folder(tmp_path / "real", pixels(20)), pixels(20, 1)
    first = quiet(str(real), fake, ["fd"])
    extracted = []
    extract = features.extract
    monkeypatch.setattr(
        features,
        "extract",
        lambda images, *a, **k: extracted.append(images.name) or extract(images, *a, **k),
    )
    assert quiet(str(real), fake, ["fd"]).values == first.values
    assert extracted == ["array of 20 images"]
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert quiet(str(real), fake, ["fd"]).values == first.values
    assert len(extracted) == 3
    Image.fromarray(pixels(1, 7)[0]).save(real / "0000.png")  # another set
    assert quiet(str(real), fake, ["fd"]).values != first.values


def test_changed_features_are_computed_again(tmp_path, cache):
    """A whole file with other numbers, or another set's file under this set's name."""
    real, other, fake = (
        folder(tmp_path / "real", pixels(20)),
        folder(tmp_path / "other", pixels(20, 5)),
        pixels(20, 1),
    )
    right, wrong = quiet(str(real), fake, ["fd"]).values, quiet(str(other), fake, ["fd"]).values
    assert right != wrong
    files = sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == 2  # the fake set's are not kept
    whole = files[0].read_bytes()
    with safe_open(files[0], "np") as file:
        metadata, result = file.metadata(), {"features": file.get_tensor("features")}
    hostile = [
        save({"features": 2 * result["features"] + 1}, metadata),
        save({"features": 2 * result["features"] + 1}),
        save({}, metadata),
        save({"features": result["features"].reshape(-1)}, metadata),
        files[1].read_bytes(),
        whole[:-1],
        b"",
    ]
    for content in hostile:
        files[0].write_bytes(content)
        assert quiet(str(real), fake, ["fd"]).values == right
        assert files[0].read_bytes() == whole


@pytest.mark.parametrize("of_run", [False, True])
def test_a_killed_pass_resumes(tmp_path, cache, monkeypatch, of_run):
    monkeypatch.setattr(features, "CHUNK", 16)
    toy = extractors.wrap(
        lambda images: project(images[:, ::2, ::2] if of_run else images), "toy", digest="toy"
    )
    real = sets.open_set(pixels(56))
    real = gan_run(tmp_path / "run").open(56, 3) if of_run else real
    read = []

    def counted(limit):
        def batches(start=0):
            read.append(start)
            for image in np.concatenate(list(real.batches(0)))[start:limit]:
                yield image[None]
            if limit:
                raise KeyboardInterrupt

        return real._replace(batches=batches)

    with pytest.raises(KeyboardInterrupt):
        features.kept(counted(45), toy, ("features",), batch_size=8)
    # The partial file of a killed process: no process has this number
    part = outputs._part("x").replace(f"-{os.getpid()}-", f"-{2**22 + 1}-")
    (cache / part).write_bytes(b"")
    assert len(list(cache.glob("*.safetensors"))) == 2
    result = features.kept(counted(None), toy, ("features",), batch_size=8)
    assert read == [0, 32]
    np.testing.assert_array_equal(
        result["features"], features.extract(real, toy, batch_size=8)["features"]
    )
    assert len(list(cache.iterdir())) == 4
    assert features.complete(real, toy, ("features",))
    np.testing.assert_array_equal(
        features.kept(counted(0), toy, ("features",))["features"], result["features"]
    )
    features.forget(real, toy, ("features",))
    assert not list(cache.iterdir())


def test_features_of_a_run_are_cached_until_the_evaluation_is_done(tmp_path, cache, monkeypatch):
    run, made = gan_run(tmp_path / "run"), []
    toy = extractors.wrap(lambda images: project(images[:, ::2, ::2]), "toy", digest="toy")
    extract = features.extract
    monkeypatch.setattr(
        features,
        "extract",
        lambda images, *a, **k: made.append(images.name) or extract(images, *a, **k),
    )
    measure = frechet.frechet_distance
    fails = iter([False, True])  # in the second draw
    monkeypatch.setattr(
        frechet,
        "frechet_distance",
        lambda *a, **k: (next(fails, False) and 1 / 0) or measure(*a, **k),
    )
    ask = lambda: evaluate(
        np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8),
        run.path,
        ["fd"],
        extractor=toy,
        count=40,
    )
    with pytest.raises(ZeroDivisionError), pytest.warns(UserWarning, match="biased"):
        ask()
    made.clear()
    with pytest.warns(UserWarning, match="biased"):
        ask()
    assert [name.split(", ")[-1] for name in made] == ["seed 2"]
    assert len(list(cache.iterdir())) == 1  # of the real set


def test_the_distance_that_training_measures_itself_by_is_the_same():
    real, fake = pixels(40), pixels(50, 1)
    measured = evaluation.distance_to(real, TOY)(iter([fake[:20], fake[20:]]), 50)
    assert measured == pytest.approx(quiet(real, fake, ["fd"]).values["fd_toy"], rel=1e-5)


def test_a_choice_of_images_is_one_of_the_seed():
    real = pixels(50)
    some = sets.open_set(real, 20, seed=1)
    (chosen,) = some.batches()
    assert len({image.tobytes() for image in chosen} & {image.tobytes() for image in real}) == 20
    assert (
        some.fingerprint
        == sets.open_set(real, 20, seed=1).fingerprint
        != sets.open_set(real, 20, seed=2).fingerprint
    )


def test_rebatching_keeps_all_images_in_order():
    parts = [np.arange(5), np.arange(5, 6), np.arange(6, 19)]
    batches = list(sets.rebatched(parts, 4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(batches), np.arange(19))


class Run(NamedTuple):
    path: Path
    open: Callable  # (count, seed, real set) -> Images


def gan_run(path, seed=0, **options):
    """A run of a small network that draws 8x8x3."""
    config = dcgan.Config(shape=(8, 8, 3), z_dim=3, channels=4, norm="none", **options)
    path.mkdir()
    run_folder.write_config(path, {"model": "dcgan", "config": dataclasses.asdict(config)})
    weights = toys.weights(dcgan.recipe(config), scale=0.5)
    run_folder.export(path, jax.tree.map(lambda x: x + seed / 10, weights))
    return Run(path, sets.open_run(path)[1])


def test_two_runs_are_measured_as_what_both_draw(tmp_path):
    first, second = gan_run(tmp_path / "first"), gan_run(tmp_path / "second", seed=1)
    toy = extractors.wrap(lambda images: project(images[:, ::2, ::2]), "toy", digest="toy")
    few = {"extractor": toy, "count": 30, "real_count": 50}
    with pytest.warns(UserWarning, match="biased"):
        result, same = (
            evaluate(first.path, other.path, ["fd"], **few) for other in (first, second)[::-1]
        )
    assert (result.real_count, result.fake_count, result.draws) == (50, 30, 3)
    assert "first, seed 3" in result.real  # latents of its own: equal ones would be at distance 0
    images = [
        np.concatenate(list(run.open(n, seed).batches(0)))
        for run, n, seed in ((first, 50, 3), (second, 30, 0))
    ]
    a, b = (frechet.moments(toy.features(x)) for x in images)
    alone = result.values["fd_toy"] - 3 * result.spread["fd_toy"]
    assert (
        alone
        < frechet.frechet_distance(a, b)
        < result.values["fd_toy"] + 3 * result.spread["fd_toy"]
    )
    assert 0 < same.values["fd_toy"] < result.values["fd_toy"]
    assert result.real_weights != result.fake_weights
    assert same.real_weights == same.fake_weights == result.real_weights
    assert (
        result.real_weights
        == hashlib.sha256((first.path / "model.safetensors").read_bytes()).hexdigest()
    )


def test_a_run_is_drawn_from_three_times(tmp_path):
    config = dcgan.Config(shape=(8, 8, 3), z_dim=3, channels=4, norm="none")
    model, run = dcgan.recipe(config), tmp_path / "run"
    run.mkdir()
    run_folder.write_config(run, {"model": "dcgan", "config": dataclasses.asdict(config)})
    weights = toys.weights(model, scale=0.5)
    run_folder.export(run, weights)
    drawn = np.concatenate(
        list(sampling.drawn(model.sampler, weights, sampling.drawer(model.sampler), 70, 5))
    )
    sampled = np.asarray(jax.jit(model.sample, static_argnums=2)(weights, jax.random.key(5), 70))
    np.testing.assert_allclose(drawn, 127.5 * (sampled + 1), atol=0.51)
    toy = extractors.wrap(lambda images: project(images[:, ::2, ::2]), "toy")
    real = folder(
        tmp_path / "real", np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)
    )
    with pytest.warns(UserWarning, match="biased"):
        result = evaluate(str(real), run, ["fd"], extractor=toy, count=40)
    assert "40 images of 8x8x3" in result.real
    assert result.draws == 3
    assert result.spread["fd_toy"] > 0
    assert "seed 0" in result.fake
    for none in (0, -5):
        with pytest.raises(
            InputError, match=f"fake .*run: cannot draw {none} images; must be from 1"
        ):
            evaluate(str(real), run, ["fd"], extractor=toy, count=none)


def test_a_spec_is_brought_to_the_size_that_a_run_draws(tmp_path):
    grey = folder(
        tmp_path / "real", np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    )
    assert sets.open_set(str(grey)).shape == (16, 16, 1)
    images = sets.open_set(str(grey), shape=(8, 6, 3))
    assert images.shape == (8, 6, 3)
    assert next(images.batches()).shape == (12, 8, 6, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["fid"]}, "^metrics fid: must be one of fd, "),
        ({"metrics": []}, "^metrics: at least one of fd"),
        ({"metrics": ["is"]}, "^extractor toy: has no logits"),
        ({"draws": 3}, "^draws 3: must be from 1 to 1000, and above 1 only for a run"),
        ({"count": 99}, "fake: has 5 images, but 99"),
        ({"protocol": "none"}, "^protocol none: must be one of tf_legacy"),
        ({"seed": -1}, "^seed -1: must be from 0 to 4294967295"),
        ({"seed": 2**32}, "^seed 4294967296: must be from 0 to 4294967295"),
        ({"draws": 0}, "^draws 0: must be from 1 to"),
        ({"count": 0}, "fake: has 5 images, but 0 were requested"),
        ({"real_count": -3}, "real: has 9 images, but -3"),
        ({"batch_size": 0}, "batch_size 0: must be at least 1"),
        (
            {"metrics": ["fid"], "extractor": "resnet20"},
            "^metrics fid: .*fd is the Frechet distance of any extractor, fid that of the inc",
        ),
        (
            {"metrics": ["fid"], "extractor": "inception"},
            "weights of inception: .*the extractor pixels needs none.* fd_pixels",
        ),
        ({"metrics": ["prdc"]}, "^metrics prdc: .*at least 6"),
    ],
)
def test_invalid_arguments_are_named(options, message, monkeypatch):
    monkeypatch.delenv(extractors.VARIABLE, raising=False)
    with pytest.raises(InputError, match=message):
        evaluate(pixels(9), pixels(5, 1), **({"metrics": ["kid"], "extractor": TOY} | options))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pixels(9).astype(np.int64), "real: images are uint8, or float in .* not int64"),
        (pixels(9).astype(np.float32), r"real: float images are in \[-1, 1\], these in \[0, 255\]"),
        (
            np.where(np.arange(48).reshape(4, 4, 3) == 7, np.nan, pixels(9) / 255),
            r"these in \[nan, nan\]",
        ),
        (pixels(9).astype(np.float16) / 255, "not float16"),
        (pixels(9) > 99, "not bool"),
        (pixels(9)[0], r"real: images are \[n, height, width, channels\]"),
        (pixels(9)[:0], "none of them 0"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, message):
    """Clipped to bytes they would give a distance like any other."""
    with pytest.raises(InputError, match=message):
        evaluate(images, pixels(9), ["kid"], extractor=TOY)


def test_floats_are_the_bytes_that_they_stand_for():
    images = pixels(9)
    for dtype in (np.float32, np.float64, jnp.bfloat16):
        (seen,) = sets.open_set((images / 127.5 - 1).astype(dtype)).batches(0)
        np.testing.assert_allclose(seen, images, atol=1 if dtype == jnp.bfloat16 else 0)
    with pytest.raises(
        InputError, match=r"real: .*but no value of these is below 0: .* 2 \* x - 1, or give uint8"
    ):
        evaluate(images / 255, images, ["kid"], extractor=TOY)
    bright = np.full((9, 4, 4, 3), 200, np.uint8)  # as bytes there is no doubt
    assert next(sets.open_set(bright).batches(0)).min() == 200


RULES = protocols.protocol("clean")
MATRIX = np.random.default_rng(3).normal(size=(6 * 6 * 3, 5)).astype(np.float32)
SIZED = extractors.Extractor(
    "sized",
    lambda params, images, taps: of_resized(params, protocols.resized(images, RULES, (6, 6)), taps),
    protocol="clean",
    digest="1",
    frechet_name="fd_sized",
    resized=extractors.Resized(
        lambda images: protocols.resized_on_host(images, RULES, (6, 6)), lambda *a: of_resized(*a)
    ),
)


def of_resized(params, x, taps):
    return {"features": jnp.asarray(x, jnp.float32).reshape(len(x), -1) / 255 @ MATRIX}


@pytest.mark.parametrize("zipped", [False, True])
def test_images_of_several_sizes_are_each_resized(tmp_path, zipped):
    """Each image is resized on its own by the rule of the protocol.

    There are rare sizes, a batch of one size, grey and colour.
    """
    random = np.random.default_rng(0)
    shapes = [(9, 7)] * 16 + [(5, 8), (6, 6), (30, 4)] + [(9, 7)] * 9 + [(12, 12)] * 4
    images = [random.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    path = folder(tmp_path / "mixed", images)
    Image.fromarray(images[3][:, :, 0]).save(path / "0003.png")
    images[3] = np.repeat(images[3][:, :, :1], 3, 2)
    if zipped:
        path = Path(shutil.make_archive(str(tmp_path / "mixed"), "zip", path))
    expected = np.concatenate([np.asarray(SIZED.features(image[None])) for image in images])
    seen = sets.open_set(str(path), own_sizes=True)
    assert seen.count == len(images)
    assert "32 images of their own sizes, 3 channels" in seen.name
    result = features.extract(seen, SIZED, batch_size=8)["features"]
    np.testing.assert_allclose(result, expected, atol=1e-4)
    fake = pixels(40, 1)
    result = evaluate(str(path), fake, ["kid"], extractor=SIZED, batch_size=8)
    truth = kid.kernel_distance(expected, np.asarray(SIZED.features(fake)), 0)
    assert result.values["kd_sized"] == pytest.approx(truth.mean, rel=1e-3)
    assert result.real_count == 32
    some = evaluate(str(path), fake, ["kid"], extractor=SIZED, real_count=20)
    assert some.real_count == 20


def test_unreadable_images_among_several_sizes_are_replaced_up_to_max_bad(tmp_path):
    path = folder(tmp_path / "mixed", [np.full((4 + i % 3, 5, 3), i, np.uint8) for i in range(20)])
    content = (path / "0007.png").read_bytes()
    (path / "0007.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"raise `max_bad` 0\.01"):
        evaluate(str(path), pixels(20), ["kid"], extractor=SIZED)
    assert evaluate(str(path), pixels(20), ["kid"], extractor=SIZED, max_bad=0.05).real_count == 20


def test_only_resizing_extractors_take_several_sizes(tmp_path):
    mixed = folder(tmp_path / "mixed", [*pixels(5), np.zeros((4, 8, 3), np.uint8)])
    with pytest.raises(InputError, match="make them of one size first"):
        evaluate(str(mixed), pixels(9), ["kid"], extractor="pixels")


def test_several_sizes_are_refused(tmp_path):
    """Cropped to the most common size first, they would give a wrong distance."""
    mixed = folder(tmp_path / "mixed", [*pixels(5), np.zeros((4, 8, 3), np.uint8)])
    with pytest.raises(
        InputError, match=r"real '.*mixed': images of 2 sizes .*make them of one size first"
    ):
        sets.open_set(str(mixed), field="real")
    assert sets.open_set(str(mixed), shape=(4, 4, 3)).count == 6  # as a run draws them


def test_each_set_has_its_own_split(tmp_path):
    (tmp_path / "real").mkdir()
    folder(tmp_path / "real/train", pixels(5))
    folder(tmp_path / "real/test", pixels(9, 1))
    fake = folder(tmp_path / "fake", pixels(7, 2))
    truth, [made] = sets.open_pair(
        str(tmp_path / "real"), str(fake), None, of_run=0, seeds=[0], split="test"
    )
    assert (truth.count, made.count) == (9, 7)
    truth, [made] = sets.open_pair(
        str(fake), str(tmp_path / "real"), None, of_run=0, seeds=[0], fake_split="test"
    )
    assert (truth.count, made.count) == (7, 9)


def test_a_conditional_run_draws_classes_as_often_as_real_images_have_them(tmp_path, monkeypatch):
    config = dcgan.Config(
        shape=(8, 8, 3), z_dim=3, channels=4, norm="none", conditional="concat", num_labels=2
    )
    (tmp_path / "run").mkdir()
    run_folder.write_config(
        tmp_path / "run", {"model": "dcgan", "config": dataclasses.asdict(config)}
    )
    run_folder.export(tmp_path / "run", toys.weights(dcgan.recipe(config)))
    (tmp_path / "real").mkdir()
    for label, count in (("a", 18), ("b", 2)):
        folder(tmp_path / "real" / label, pixels(count))
    drawn = []
    monkeypatch.setattr(
        sampling, "drawn", lambda *arguments: drawn.append(arguments[5]) or iter([])
    )
    for real in (tmp_path / "real", tmp_path / "real/a"):
        _, [made] = sets.open_pair(str(real), tmp_path / "run", 2000, of_run=0, seeds=[3])
        list(made.batches())
        assert ("labels as often as real ones" in made.name) == (real.name == "real")
    assert drawn[0].mean() == pytest.approx(0.1, abs=0.02)
    # Without labels, each class in turn
    np.testing.assert_array_equal(drawn[1], np.arange(2000) % 2)


@pytest.mark.parametrize("streamed", [False, True])
def test_labels_are_as_frequent_in_every_kind_of_source(tmp_path, streamed):
    """1 of 5 images has label 1, in the set and in a choice of it; none is decoded."""
    for label, count in (("a", 40), ("b", 10)):
        (tmp_path / "real").mkdir(exist_ok=True)
        folder(tmp_path / "real" / label, pixels(count))
    source = data.load(str(tmp_path / "real"), resident_mb=0 if streamed else 9)
    assert (source.arrays is None) == streamed
    real = sets.open_set(source._replace(read=None))
    expected = np.repeat([0, 1], [40, 10])
    np.testing.assert_array_equal(real.labels(np.arange(50)), expected)
    model = Sampler((4, 4, 3), 1, 2, lambda *_: None)
    drawn = sets.class_labels(model, 5000, 7, real)
    np.testing.assert_array_equal(drawn, np.random.default_rng(7).choice(expected, 5000))
    assert drawn.mean() == pytest.approx(0.2, abs=0.02)
    assert drawn.dtype == np.int32
    chosen = np.sort(np.random.default_rng(1).choice(50, 12, replace=False))
    np.testing.assert_array_equal(
        sets.open_set(source, 12, seed=1).labels(np.arange(12)), expected[chosen]
    )
    assert sets.class_labels(Sampler((4, 4, 3), 1, 0, lambda *_: None), 9, 0, real) is None
    few = Sampler((4, 4, 3), 1, 1, lambda *_: None)
    with pytest.raises(
        InputError,
        match=r"real: 50 images.*: has 2 classes, but the model draws 1; give the set that it was",
    ):
        sets.class_labels(few, 9, 0, real)


def test_images_that_the_extractor_refuses_are_named():
    def refuse(images):
        raise ValueError("only grey")

    with pytest.raises(InputError, match="array of 5 images: only grey"):
        evaluate(pixels(5), pixels(5), ["kid"], extractor=extractors.wrap(refuse))


def test_every_metric_of_the_table_can_be_asked_for():
    head = extractors.Extractor(
        "toy",
        lambda params, images, taps: {tap: project(images) for tap in taps},
        taps=("features", "logits"),
    )
    with pytest.warns(UserWarning, match="biased"):
        result = evaluate(pixels(64), pixels(64, 1), list(evaluation.METRICS), extractor=head)
    assert all(np.isfinite(value) for value in result.values.values())
    assert len(result.values) >= len(evaluation.METRICS)


def test_the_command_prints_and_writes(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(extractors.VARIABLE, str(shared / "weights"))
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "genjax",
            "eval",
            str(folder(tmp_path / "real", pixels(12))),
            str(folder(tmp_path / "fake", pixels(12, 1))),
            "--extractor",
            "resnet20",
            "--metrics",
            "fd,kid",
            "--json",
            str(tmp_path / "out.json"),
        ],
    )
    with pytest.raises(SystemExit) as end, pytest.warns(UserWarning, match="biased"):
        cli.main()
    assert end.value.code == 0
    printed = dict(line.split(" ")[:2] for line in capsys.readouterr().out.splitlines())
    written = json.loads((tmp_path / "out.json").read_text())
    assert {name: float(value) for name, value in printed.items()} == pytest.approx(
        written["values"], rel=1e-3
    )
    assert written["digest"].startswith("12fca82f")


def command(monkeypatch, *arguments):
    """(exit code) of `genjax eval` with the pixels."""
    monkeypatch.setattr(
        sys, "argv", ["genjax", "eval", *map(str, arguments), "--extractor", "pixels"]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.filterwarnings("ignore:.*biased")
def test_a_run_may_come_first_and_several_may_follow(tmp_path, monkeypatch, capsys):
    run, other = gan_run(tmp_path / "run"), gan_run(tmp_path / "other", seed=1)
    real = folder(
        tmp_path / "[red] real :cat:",
        np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8),
    )
    out = tmp_path / "out.json"
    results = {}
    for name, sets_, options in (
        ("turned", [run.path, real], ["--n", 16, "--real-n", 12]),
        ("table", [real, run.path, other.path], ["--n", 12, "--real-n", 16]),
    ):
        assert (
            command(
                monkeypatch,
                *sets_,
                "--metrics",
                "kid,fd",
                "--draws",
                2,
                "--json",
                out,
                "--force",
                *options,
            )
            == 0
        )
        results[name], message = json.loads(out.read_text()), capsys.readouterr()
        assert "[red] real :cat:" in message.err
        printed = [line.split() for line in message.out.splitlines()]
        assert [line[0] for line in printed] == ["kd_pixels", "kd_pixels_std", "fd_pixels"]
        assert len(printed[0]) == (7 if name == "table" else 4)
    assert results["turned"] == results["table"][0]
    assert results["turned"]["real_count"] == 16
    assert results["table"][1]["fake_weights"] != results["table"][0]["fake_weights"]
    assert (
        command(monkeypatch, run.path, other.path, "--metrics", "kid", "--n", 12, "--real-n", 12)
        == 0
    )
    message = capsys.readouterr()
    assert "against 12 images of" in message.err
    assert "genjax eval DATA RUN RUN" in message.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "none/x.json"], "--json none/x.json: not in a folder that exists"),
        (["--save-stats", "none/x.npz"], "--save-stats none/x.npz: not in a folder that exists"),
        (["--save-stats", "x.json"], "--save-stats x.json: give a NAME.npz"),
        (["--n", "-1"], "--n -1: 0 or more"),
        (["--real-n", "-1"], "--real-n -1: 0 or more"),
        (["--draws", "-1"], "--draws -1: 0 or more"),
        (["--step", "-1"], "--step -1: 0 or more"),
        (["--seed", "-1"], "--seed -1: must be from 0"),
        (["--n", "4000000000"], "fake: has 1797 images"),
        (["--max-bad", "2"], "--max-bad 2.0: cannot be used"),
    ],
)
def test_options_out_of_range_are_named(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "digits", "digits", *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_set_alone_is_asked_for_another(monkeypatch, capsys):
    assert command(monkeypatch, "digits") == 2
    assert "digits: against what?" in capsys.readouterr().err


def test_without_weights_the_command_says_where_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(extractors.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["genjax", "eval", "digits", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert "https://github.com/mseitzer/pytorch-fid/releases" in message
    assert len(message.splitlines()) == 1
