"""genjax sample, interpolate, style-mix, convert stylegan2 and export as a person calls
them, on weights that nobody trained.
"""

import dataclasses
import functools
import os
import pickle
import sys

import jax
import numpy as np
import pytest
import toys
from PIL import Image
from safetensors.numpy import load_file, save_file

import genjax
from genjax import cli, sampling
from genjax.errors import InputError
from genjax.files import outputs, videos
from genjax.models import cyclegan, dcgan, stylegan2, vae
from genjax.training import run_folder

STYLED = stylegan2.Config(
    shape=(8, 8, 3), z_dim=4, w_dim=5, mapping_layers=1, channel_base=32, mbstd_group_size=2
)
LABELLED = dcgan.Config(
    shape=(8, 8, 1), z_dim=3, channels=4, norm="none", conditional="concat", num_labels=3
)
CODED = vae.Config(shape=(8, 8, 1), hidden=(4,), z_dim=2)
TRANSLATING = cyclegan.Config(
    shape=(16, 16, 3), channels=4, blocks=1, disc_channels=4, disc_layers=1
)
CELL = 49  # pixels: an image of 8 made 48, and the gap to the next one


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a run a model: styled, labelled, coded, translating."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "styled": (stylegan2, STYLED, 1.0),
        "labelled": (dcgan, LABELLED, 0.3),
        "coded": (vae, CODED, 0.5),
    }
    for name, (module, config, scale) in (
        made | {"translating": (cyclegan, TRANSLATING, 0.02)}
    ).items():
        (folder / name).mkdir()
        kind = module.__name__.rsplit(".", 1)[-1]
        run_folder.write_config(
            folder / name, {"model": kind, "config": dataclasses.asdict(config)}
        )
        weights = jax.tree.map(
            lambda x: np.float32(x + 0.1), toys.weights(module.recipe(config), scale=scale)
        )
        if name == "styled":  # its weights are divided by its learning rate
            weights["params"]["gen"]["mapping"]["dense_0"]["kernel"] *= 100
        run_folder.export(folder / name, weights)
    return folder


@functools.cache
def loaded(run):
    """genjax.load's, the verbs compiled."""
    model, weights = genjax.load(run)
    static = {"sample": 2, "interpolate": (3, 5)}  # n; count and space
    verbs = [
        name
        for name in ("sample", "generate", "synthesis", "style_mix", "mapping")
        if hasattr(model, name)
    ]
    verbs += ["interpolate"] if hasattr(model, "synthesis") else []
    return model._replace(
        **{
            name: jax.jit(getattr(model, name), static_argnums=static.get(name, ()))
            for name in verbs
        }
    ), weights


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs `genjax ...` in an empty folder -> (exit code, what it said on standard
    error).
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["genjax", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


def pixels(path):
    with Image.open(path) as image:
        return np.int32(image).reshape(image.height, image.width, -1)


def cells(path, columns, rows):
    """int32 [rows * columns, 8, 8, c] of a PNG of images of 8x8."""
    image = pixels(path)
    assert image.shape[:2] == (rows * CELL - 1, columns * CELL - 1)
    image = np.pad(image, ((0, 1), (0, 1), (0, 0)))
    image = image.reshape(rows, CELL, columns, CELL, -1)[:, :48:6, :, :48:6]
    return image.swapaxes(1, 2).reshape(rows * columns, 8, 8, -1)


def levels(images):
    return np.int32(genjax.to_uint8(images))


def assert_same(first, second):
    """Up to a level: in batches of another size, sums are rounded otherwise."""
    assert first.shape == second.shape
    assert np.abs(first - second).max() <= 1


# --- sample ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["styled", "labelled", "coded"])
def test_a_seeds_image_depends_on_the_seed_alone(runs, command, monkeypatch, name):
    assert (
        command("sample", runs / name, "--seeds", "0-3,7", "--grid", "3x2", "--out", "some.png")[0]
        == 0
    )
    assert command("sample", runs / name, "--seeds", "7", "--out", "one.png")[0] == 0
    some = cells("some.png", 3, 2)
    assert_same(some[4], pixels("one.png"))  # alone it is of its own size
    assert np.abs(some[0] - some[4]).max() > 1
    model, weights = loaded(runs / name)
    labels = np.int32([7 % 3]) if name == "labelled" else None
    assert_same(some[4:5], levels(model.sample(weights, jax.random.key(7), 1, labels)))
    monkeypatch.setattr(sampling, "BATCH", 2)
    assert (
        command("sample", runs / name, "--seeds", "0-3,7", "--grid", "3x2", "--out", "batched.png")[
            0
        ]
        == 0
    )
    assert_same(some, cells("batched.png", 3, 2))


def test_one_seed_for_all_gives_what_the_verb_gives(runs, command):
    assert (
        command(
            "sample",
            runs / "styled",
            "--seed",
            "3",
            "--grid",
            "3x1",
            "--truncation",
            "0.5",
            "--out",
            "x.png",
        )[0]
        == 0
    )
    model, weights = loaded(runs / "styled")
    assert_same(
        cells("x.png", 3, 1), levels(model.sample(weights, jax.random.key(3), 3, truncation=0.5))
    )


def test_truncation_to_nothing_gives_one_image(runs, command):
    assert (
        command(
            "sample",
            runs / "coded",
            "--seeds",
            "0-2",
            "--truncation",
            "1",
            "--grid",
            "3x1",
            "--out",
            "x.png",
        )[0]
        == 0
    )
    assert np.ptp(cells("x.png", 3, 1), axis=0).max() > 1
    options = ("--label", 0, "--truncation", "0", "--grid", "3x1", "--force")
    assert (
        command("sample", runs / "labelled", "--seeds", "0,5,2", *options, "--out", "x.png")[0] == 0
    )
    same = cells("x.png", 3, 1)
    assert_same(same, same[[0, 0, 0]])


def test_labels_are_each_class_in_turn_or_the_one_asked_for(runs, command):
    model, weights = loaded(runs / "labelled")
    for options, labels in (((), [0, 1, 2, 0]), (("--label", 1), [1] * 4)):
        assert (
            command(
                "sample",
                runs / "labelled",
                "--n",
                4,
                "--grid",
                "4x1",
                "--force",
                "--out",
                "x.png",
                *options,
            )[0]
            == 0
        )
        assert_same(
            cells("x.png", 4, 1),
            levels(model.sample(weights, jax.random.key(0), 4, np.int32(labels))),
        )


def test_large_images_are_drawn_fewer_at_once():
    assert [sampling.batch_size((side, side, 3)) for side in (32, 256, 1024, 8192)] == [
        64,
        64,
        4,
        1,
    ]


def test_numbers_are_ranges_and_lists():
    assert sampling.numbers("--seeds", "0-3,7, 9-10,7") == [0, 1, 2, 3, 7, 9, 10, 7]
    for text in ("", "a", "3-1", "1,,2", "-1", "1-", "4294967296", "0-99999999"):
        with pytest.raises(InputError, match="--seeds"):
            sampling.numbers("--seeds", text)


# --- interpolate ----------------------------------------------------------------------


def frames_of(folder):
    return np.stack([pixels(path)[::6, ::6] for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize(("space", "truncation"), [("z", 1.0), ("w", 0.8)])
def test_a_walk_is_a_closed_loop_through_the_seeds(runs, command, tmp_path, space, truncation):
    options = (
        "--seeds",
        "1,5,9",
        "--seconds",
        "1",
        "--fps",
        "24",
        "--space",
        space,
        "--truncation",
        truncation,
    )
    code, said = command("interpolate", runs / "styled", *options, "--out", "walk")
    assert code == 0
    assert "24 frames" in said
    got = frames_of(tmp_path / "walk")
    assert got.shape == (24, 8, 8, 3)
    model, weights = loaded(runs / "styled")
    stops = sampling.of_seeds([1, 5, 9], 4)
    between = model.interpolate(
        weights, stops, stops[np.array([1, 2, 0])], 9, None, space, truncation
    )
    assert_same(
        got, levels(between[:, :8].reshape(24, 8, 8, 3))
    )  # each stretch's end is the next one's start
    steps = np.abs(got - np.roll(got, -1, axis=0)).mean(axis=(1, 2, 3))
    assert steps.min() > 0
    assert steps[-1] <= steps[:-1].max()


def test_a_labelled_walk_keeps_its_label(runs, command, tmp_path):
    options = ("--seeds", "1,2", "--seconds", "0.5", "--fps", "4")
    assert (
        command(
            "interpolate",
            runs / "labelled",
            *options,
            "--label",
            2,
            "--truncation",
            0.5,
            "--out",
            "walk",
        )[0]
        == 0
    )
    model, weights = loaded(runs / "labelled")
    stops = model.generate(weights, 0.5 * sampling.of_seeds([1, 2], 3), np.int32([2, 2]))
    assert_same(frames_of(tmp_path / "walk"), levels(stops))
    code, said = command("interpolate", runs / "labelled", *options, "--out", "other")
    assert code == 2
    assert "--label" in said


def test_a_gif_runs_for_the_seconds_asked_for_and_again(runs, command):
    assert (
        command(
            "interpolate",
            runs / "styled",
            "--seeds",
            "0,1",
            "--seconds",
            "1",
            "--fps",
            "30",
            "--out",
            "a.gif",
        )[0]
        == 0
    )
    with Image.open("a.gif") as image:
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info["duration"])
        assert (len(durations), sum(durations), image.size, image.info["loop"]) == (
            30,
            1000,
            (48, 48),
            0,
        )


@pytest.mark.parametrize("shape", [(47, 33, 3), (32, 48, 1), (16, 16, 4)])
def test_an_mp4_has_every_frame(tmp_path, shape):
    av = pytest.importorskip("av")
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8).repeat(10, axis=0)
    videos.write(tmp_path / "x.mp4", iter(images), 10, 25)
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate == 25
    assert len(decoded) == 10
    assert decoded[0].shape == (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


def test_a_walk_becomes_an_mp4(runs, command, tmp_path):
    pytest.importorskip("av")
    assert (
        command(
            "interpolate",
            runs / "labelled",
            "--label",
            0,
            "--seeds",
            "0,1",
            "--seconds",
            "0.2",
            "--out",
            "x.mp4",
        )[0]
        == 0
    )
    assert (tmp_path / "x.mp4").read_bytes()[4:8] == b"ftyp"
    assert outputs.ours(tmp_path / "x.mp4")


def test_without_an_encoder_the_extra_is_named(runs, command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    code, said = command("interpolate", runs / "styled", "--seeds", "0,1", "--out", "x.mp4")
    assert code == 2
    assert 'pip install "genjax-image[video]"' in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_written_over_with_force_alone(runs, command, tmp_path):
    walk = ("interpolate", runs / "labelled", "--label", 0, "--seeds", "0,1", "--fps", "2", "--out")
    for name in ("walk", "x.gif"):
        assert command(*walk, name, "--seconds", "2")[0] == 0
    (tmp_path / "walk/notes.txt").write_text("dear")
    for name in ("walk", "x.gif"):
        code, said = command(*walk, name, "--seconds", "3")
        assert code == 2
        assert "--force" in said
        assert command(*walk, name, "--seconds", "3", "--force")[0] == 0
    there = [f"{number:05}.png" for number in range(6)] + ["notes.txt"]
    assert sorted(path.name for path in (tmp_path / "walk").iterdir()) == there
    before = {path: path.read_bytes() for path in (tmp_path / "walk").iterdir()}
    code, said = command(
        *walk, "walk", "--seconds", "2", "--force"
    )  # its end would seem to be the longer walk's
    assert code == 2
    assert "holds frames beyond these 4 (00004.png, 2 in all)" in said
    assert "choose another folder" in said
    assert {path: path.read_bytes() for path in (tmp_path / "walk").iterdir()} == before


def test_a_walk_that_fails_leaves_what_was_there(tmp_path):
    def broken():
        yield np.zeros((48, 48, 3), np.uint8)
        raise RuntimeError

    (tmp_path / "x.gif").write_text("dear")
    with pytest.raises(RuntimeError):
        videos.write(tmp_path / "x.gif", broken(), 2, 10)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["dear"]


# --- style-mix ------------------------------------------------------------------------


def test_a_table_has_rows_columns_and_their_mixtures(runs, command):
    options = ("--rows", "8,10", "--columns", "5,8,2", "--layers", "0-1,3", "--truncation", "0.9")
    assert command("style-mix", runs / "styled", *options, "--out", "mix.png")[0] == 0
    got = cells("mix.png", 4, 3).reshape(3, 4, 8, 8, 3)
    model, weights = loaded(runs / "styled")
    rows, columns = (
        model.mapping(weights, sampling.of_seeds(seeds, 4), None, 0.9)
        for seeds in ([8, 10], [5, 8, 2])
    )
    assert (got[0, 0] == 255).all()
    assert_same(got[0, 1:], levels(model.synthesis(weights, columns)))
    assert_same(got[1:, 0], levels(model.synthesis(weights, rows)))
    assert_same(got[1:, 1:], levels(model.style_mix(weights, rows, columns, np.array([0, 1, 3]))))


# --- convert and export ---------------------------------------------------------------


def test_what_is_exported_is_converted_and_drawn_from(runs, command, tmp_path):
    assert command("export", runs / "styled", "--out", "x.safetensors")[0] == 0
    arrays = load_file("x.safetensors")
    assert {
        "G_ema.mapping.w_avg",
        "G_ema.synthesis.b8.conv0.resample_filter",
        "D.b4.out.weight",
    } <= arrays.keys()
    code, said = command("convert", "stylegan2", "x.safetensors", "--out", "run")
    assert code == 0
    assert "disc, gen" in said
    model, weights = genjax.load("run")
    assert dataclasses.replace(model.config, channel_max=512, mbstd_group_size=2) == STYLED
    jax.tree.map(np.testing.assert_array_equal, weights, genjax.load(runs / "styled")[1])
    for run in (runs / "styled", "run"):
        assert command("sample", run, "--seeds", "0-3", "--out", "a.png")[0] == 0
        os.rename("a.png", f"{tmp_path}/{len(os.listdir())}.png")
    assert len({path.read_bytes() for path in tmp_path.glob("*.png")}) == 1


def test_a_generator_alone_is_enough_in_any_of_the_files(runs, command):
    model, weights = loaded(runs / "styled")
    gen, disc = cli_arrays(model, weights)
    other = {f"G.{name}": 2 * x for name, x in gen.items()}  # the trained one, beside its average
    np.savez("plain.npz", **gen)
    toys.save_pth("one.pth", {f"G.{name}": x for name, x in gen.items()})
    toys.save_pth("both.pt", {f"G_ema.{name}": x for name, x in gen.items()} | other)
    for name in ("plain.npz", "one.pth", "both.pt"):
        assert command("convert", "stylegan2", name, "--out", f"run-{name}")[0] == 0
        _, got = genjax.load(f"run-{name}")
        assert list(got["params"]) == ["gen"]
        jax.tree.map(np.testing.assert_array_equal, got["params"]["gen"], weights["params"]["gen"])
        assert command("export", f"run-{name}", "--out", f"{name}.safetensors")[0] == 0
        assert all(key.startswith("G_ema.") for key in load_file(f"{name}.safetensors"))
    assert command("sample", "run-plain.npz", "--seeds", "1", "--out", "a.png")[0] == 0
    assert disc


def cli_arrays(model, weights):
    from genjax.convert import stylegan2 as convert

    return convert.arrays(model.config, weights)


def test_a_pickle_is_refused_and_not_run(runs, command, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-run"),)

    for name in ("network.pkl", "network.pth", "network.npz", "network.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Hostile()))
        code, said = command("convert", "stylegan2", name, "--out", "run")
        assert code == 2
        assert said.startswith(f"genjax: {name}: ")
        assert len(said.splitlines()) == 1
    np.savez("objects.npz", x=np.array([Hostile()], object))
    assert command("convert", "stylegan2", "objects.npz", "--out", "run")[0] == 2
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "run").exists()
    code, said = command("convert", "stylegan2", "network.pkl", "--out", "run")
    assert "never run here" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: arrays.pop("mapping.w_avg"), "mapping.w_avg"),
        (
            lambda arrays: arrays.pop("synthesis.b8.conv0.bias"),
            "'synthesis.b8.conv0.bias' is missing",
        ),
        (lambda arrays: arrays.update(extra=np.zeros(1, np.float32)), "'extra' is not expected"),
        (
            lambda arrays: arrays.update({"synthesis.b8.conv1.bias": np.zeros(3, np.float32)}),
            "conv_1/bias is [3]",
        ),
        (
            lambda arrays: arrays.update({"synthesis.b8.torgb.weight": np.ones((), np.float32)}),
            "no StyleGAN2 has",
        ),
        (
            lambda arrays: arrays.update(
                {"synthesis.b8.resample_filter": np.full((4, 4), 1 / 16, np.float32)}
            ),
            "another filter",
        ),
    ],
)
def test_other_arrays_are_refused(runs, command, tmp_path, change, said):
    gen, _ = cli_arrays(*loaded(runs / "styled"))
    change(gen)
    save_file(gen, "x.safetensors")
    code, line = command("convert", "stylegan2", "x.safetensors", "--out", "run")
    assert code == 2
    assert "x.safetensors: " in line
    assert said in line
    assert not (tmp_path / "run").exists()


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("sample styled --seeds 3-1", "--seeds 3-1"),
        ("sample styled --seeds a", "--seeds a"),
        ("sample styled --seeds 1 --n 3", "--seeds 1"),
        ("sample styled --seed 4294967296", "--seed"),
        ("sample styled --n 5 --grid 2x2", "--grid 2x2: holds 4"),
        ("sample styled --grid 0x4", "--grid 0x4"),
        ("sample styled --label 1", "--label 1"),
        ("sample labelled --label 3", "--label 3: from 0 to 2"),
        ("sample coded --truncation 0.7", "--truncation 0.7"),
        ("sample styled --truncation nan", "--truncation nan"),
        ("sample translating", "translate"),
        ("sample styled --out none/x.png", "--out"),
        ("interpolate translating --seeds 1,2", "draws no images of its own"),
        ("interpolate labelled --seeds 1,2 --space w", "--space w"),
        ("interpolate styled --seeds 1", "--seeds 1"),
        ("interpolate styled --seeds 1,2,1", "--seeds 1,2,1"),
        ("interpolate styled --seeds 1,2 --seconds 0.01", "--seconds 0.01"),
        ("interpolate styled --seeds 1,2 --seconds nan", "--seconds nan"),
        ("interpolate styled --seeds 1,2 --fps 60", "--fps 60: from 1 to 50"),
        ("interpolate styled --seeds 1,2 --out x.avi", "--out x.avi"),
        ("interpolate styled --seeds 1,2 --out none/x.gif", "--out none/x.gif"),
        ("style-mix labelled --rows 1 --columns 2 --layers 0", "labelled"),
        ("style-mix styled --rows 1 --columns b --layers 0", "--columns b"),
        ("style-mix styled --rows 1 --columns 2 --layers 0-4", "--layers 0-4: numbers from 0 to 3"),
        ("export labelled --out x.safetensors", "only a StyleGAN2"),
        ("export styled --out x.npz", "--out x.npz"),
        ("convert stylegan2 none.npz --out run", "none.npz"),
        ("convert stylegan2 none.txt --out run", "none.txt"),
    ],
)
def test_what_means_nothing_is_one_line_and_exit_code_2(runs, command, tmp_path, arguments, named):
    name, run, *options = arguments.split()
    code, said = command(name, run if name == "convert" else runs / run, *options)
    assert code == 2
    assert named in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
