"""The conformance table: what every recipe promises, asked of each at toy size.

A new model adds one row to CASES.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skeleton
from jax.sharding import NamedSharding, PartitionSpec

from genjax import core, data
from genjax.models import cyclegan, dcgan, gan, stylegan2, vae
from genjax.training import checkpoint, hooks, run_folder, trainer

BATCH = 8
TINY = {
    "shape": (8, 8, 1),
    "hidden": (16,),
    "z_dim": 4,
    "batch_size": BATCH,
    "ema_half_life_images": 64.0,
}

SMALL = {"shape": (8, 8, 1), "z_dim": 4, "batch_size": BATCH, "ema_half_life_images": 64.0}

PATCHES = {
    "shape": (8, 8, 1),
    "channels": 4,
    "disc_channels": 4,
    "disc_layers": 1,
    "batch_size": BATCH,
    "pool_size": 40,  # half full where the run is cut in two
    "learning_rate": 2e-5,  # at 2e-4 Adam makes of gradients that are rounding noise steps that show
}


STYLED = {
    "shape": (8, 8, 1),
    "z_dim": 4,
    "w_dim": 4,
    "mapping_layers": 1,
    "channel_base": 32,
    "r1_interval": 2,
    "pl_interval": 2,
    "augment": "color",
    "ada_kimg": 0.1,
    "batch_size": BATCH,
    "ema_half_life_images": 64.0,
    "learning_rate": 2e-4,
}


def style_verbs(m, w, k, x):
    labels = jnp.arange(x.shape[0]) % 3 if m.config.conditional != "none" else None
    first, second = jax.random.normal(k, (2, 2, 4))
    rows = m.mapping(w, first, None if labels is None else labels[:2])
    return {
        "sample": m.sample(w, k, 5, truncation=0.7, truncation_cutoff=2, noise="random"),
        "logits": m.discriminate(w, x, labels),
        "interpolate": m.interpolate(
            w, first, second, 3, None if labels is None else labels[:2], space="w"
        ),
        "mix": m.style_mix(w, rows, rows, slice(2, 4)),
    }


def gan_verbs(m, w, k, x):
    labels = None if m.config.conditional == "none" else jnp.arange(x.shape[0]) % 3
    first, second = jax.random.normal(k, (2, 2, 4))
    between = m.interpolate(w, first, second, 3, None if labels is None else labels[:2])
    return {
        "sample": m.sample(w, k, 5, truncation=0.7),
        "logits": m.discriminate(w, x, labels),
        "interpolate": between,
    }


# name -> (recipe, verbs to try: (model, weights, key, images) -> arrays)
CASES = {
    "skeleton": (
        skeleton.recipe(skeleton.Config(shape=(8, 8, 1), batch_size=BATCH)),
        lambda m, w, k, x: {"sample": m.sample(w, k, 5)},
    ),
    "vae": (
        vae.recipe(vae.Config(**TINY)),
        lambda m, w, k, x: {
            "sample": m.sample(w, k, 5),
            "reconstruct": m.reconstruct(w, x),
            "elbo": m.elbo(w, k, x),
        },
    ),
    "vae-iwae": (
        vae.recipe(vae.Config(**TINY, importance_samples=3, binarize="dynamic")),
        lambda m, w, k, x: {
            "likelihood": m.iw_log_likelihood(w, k, x, 7, chunk=4),
            "interpolate": m.interpolate(w, x, x[::-1], 3),
        },
    ),
    "gan": (
        gan.recipe(
            gan.Config(
                **SMALL,
                hidden=(16, 8),
                augment=("color", "translation", "cutout"),
                label_smoothing=0.1,
            )
        ),
        gan_verbs,
    ),
    "gan-wasserstein": (
        gan.recipe(
            gan.Config(
                **SMALL,
                hidden=(16,),
                loss="wasserstein",
                gradient_penalty=10.0,
                disc_steps=2,
                conditional="concat",
                num_labels=3,
            )
        ),
        gan_verbs,
    ),
    "dcgan": (dcgan.recipe(dcgan.Config(**SMALL, channels=8)), gan_verbs),
    "dcgan-spectral": (
        dcgan.recipe(
            dcgan.Config(
                **SMALL,
                channels=8,
                loss="hinge",
                disc_norm="none",
                spectral=True,
                r1_gamma=1.0,
                penalty_interval=2,
                conditional="projection",
                num_labels=3,
                decay_steps=100,
            )
        ),
        gan_verbs,
    ),
    "dcgan-r3gan": (
        dcgan.recipe(
            dcgan.Config(
                **SMALL,
                network="r3gan",
                channels=8,
                group_width=4,
                loss="relativistic",
                r1_gamma=1.0,
                r2_gamma=1.0,
                adam_b1=0.0,
            )
        ),
        gan_verbs,
    ),
    "cyclegan": (
        cyclegan.recipe(
            cyclegan.Config(
                **PATCHES, blocks=1, identity_weight=0.5, decay_steps=50, constant_steps=2
            )
        ),
        lambda m, w, k, x: {
            "there": m.translate(w, x[:, :7, :6]),
            "back": m.cycle(w, x, "b2a"),
            "logits": m.discriminate(w, x),
        },
    ),
    "cyclegan-unet": (
        cyclegan.recipe(
            cyclegan.Config(
                **PATCHES,
                network="unet",
                depth=3,
                identity_weight=0.0,
                loss="wasserstein",
                gradient_penalty=10.0,
            )
        ),
        lambda m, w, k, x: {
            "there": m.translate(w, x[:, :7, :6]),
            "logits": m.discriminate(w, x, "a"),
        },
    ),
    "stylegan2": (stylegan2.recipe(stylegan2.Config(**STYLED)), style_verbs),
    "vae-conv": (
        vae.recipe(
            vae.Config(
                **TINY,
                network="conv",
                channels=(4, 8),
                likelihood="logistic",
                conditional="concat",
                num_labels=3,
                accumulate=2,
            )
        ),
        lambda m, w, k, x: {
            "sample": m.sample(w, k, 5),
            "bits": m.bits_per_dim(w, k, x, 2, jnp.arange(x.shape[0]) % 3),
        },
    ),
}


# One worker has all of the file (--dist loadfile), so that what two tests of a model
# need is compiled, and trained, once.
@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return CASES[name][0]


@functools.cache
def init(name):
    """The compiled `init`: its results are what `trainer.first_state` returns."""
    return jax.jit(CASES[name][0].init)


def trained(name, mesh, **how):
    """The last state of a run on the devices of `mesh`."""
    root, everywhere = jax.random.key(0), NamedSharding(mesh, PartitionSpec())
    how.setdefault("state", jax.device_put(jax.device_get(init(name)(root)), everywhere))
    return trainer.fit(CASES[name][0], noise(), mesh=mesh, **how).state


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """What a part of a step compiles to for the same devices, through all runs of this
    file.
    """
    with pytest.MonkeyPatch.context() as patch:
        repeated, made = trainer.repeated, {}

        def once(program, seed, prepare, split, resident):  # every source here is prepared alike
            case = program, seed, split, resident
            return made.setdefault(case, repeated(program, seed, prepare, split, resident))

        patch.setattr(trainer, "repeated", once)
        programs = {}
        compiled = trainer.compiled
        patch.setattr(
            trainer,
            "compiled",
            lambda run, arguments, plan, *_: (
                programs.get(run) or programs.setdefault(run, compiled(run, arguments, plan))
            ),
        )
        yield programs


@pytest.fixture(autouse=True)
def quick(request):
    """To compile faster; XLA's own grouped convolutions are not split over devices."""
    if "r3gan" not in request.node.name:
        request.getfixturevalue("plain_convolutions")


@functools.cache
def one_device_run(name):
    """Of 6 steps: the parameters and the metrics' row after each."""
    steps = []

    def note(event):
        row = {key: value for key, value in event.row.items() if "/" in key}
        steps.append((run_folder.flatten(jax.device_get(event.state.params)), row))

    state = trained(name, one_device(), steps=6, log_every=1, hooks=[hooks.every(1, note)])
    return jax.device_get(state), steps


@functools.cache
def noise():
    levels = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    arrays = {"images": levels, "labels": np.arange(50, dtype=np.int32) % 3}
    read = lambda index: {name: array[index] for name, array in arrays.items()}
    one = data.Source(
        name="noise",
        size=50,
        full_shape=(8, 8, 1),
        num_labels=3,
        fingerprint="noise",
        read=read,
        arrays=arrays,
    )
    return data.unpaired(
        one, data.mapped(one, "negative", lambda _, image: 255 - image)
    )  # most models take the first side alone


def batch(size=BATCH):
    levels = np.random.default_rng(1).integers(0, 256, (size, 8, 8, 1))
    images = jnp.float32(levels) / 127.5 - 1
    return {
        "images": images,
        "labels": jnp.arange(size, dtype=jnp.int32) % 3,
        "images_b": -images[::-1],
    }


def one_device():
    return jax.sharding.Mesh(
        np.array(jax.devices()[:1]), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )


def identical(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_init_is_abstract_and_deterministic(name, model):
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    state = init(name)(jax.random.key(0))
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    assert identical(state, init(name)(jax.random.key(0)))
    assert not identical(state, init(name)(jax.random.key(1)))
    assert set(state.ema) <= set(state.params)


def test_steps_keep_what_a_program_is_compiled_for(model):
    """So that there are as many programs as plans: shapes, dtypes and weak types stay,
    and metrics are float32 scalars.
    """
    describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    state = jax.eval_shape(model.init, jax.random.key(0))
    for plan in {model.plan(step) for step in range(5)}:
        step = lambda *arguments, plan=plan: model.step(*arguments, plan)
        after, metrics = jax.eval_shape(step, state, batch(plan.batch_size), jax.random.key(1))
        assert describe(state) == describe(after)
        for name, value in metrics.items():
            assert "/" in name
            assert (value.shape, value.dtype) == ((), jnp.float32), name


def test_steps_move_every_network(name, model):
    first = run_folder.flatten(init(name)(jax.random.key(0)).params)
    after, _ = one_device_run(name)[1][0]
    for network in {key.split("/")[0] for key in first}:
        assert any(
            not np.array_equal(first[key], after[key])
            for key in first
            if key.startswith(f"{network}/")
        ), network
    last = one_device_run(name)[0]
    assert int(last.step) == 6
    for leaf in jax.tree.leaves(last):
        assert np.all(np.isfinite(leaf))


def test_a_run_cut_in_two_is_bitwise_the_same(name, model, tmp_path):
    manager = checkpoint.manager(tmp_path)
    trained(name, one_device(), steps=3, log_every=2, hooks=[hooks.save(manager, 3)])
    manager.wait_until_finished()
    restored = checkpoint.restore(manager, trainer.abstract_state(model, 0, one_device()))
    assert int(restored.step) == 3
    cut = trained(name, one_device(), steps=6, log_every=6, state=restored)
    assert identical(one_device_run(name)[0], jax.device_get(cut))
    manager.close()


def test_8_devices_train_as_1(name, model, compiled_once):
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    steps = []
    note = hooks.every(
        1, lambda event: steps.append({k: v for k, v in event.row.items() if "/" in k})
    )
    state = trained(name, trainer.data_mesh(), steps=4, log_every=1, hooks=[note])
    params, _ = one_device_run(name)[1][3]
    pairs = [
        *zip(steps, (row for _, row in one_device_run(name)[1][:4]), strict=True),
        (run_folder.flatten(state.params), params),
    ]
    for eight, one in pairs:
        assert eight.keys() == one.keys()
        for key in one:
            np.testing.assert_allclose(eight[key], one[key], rtol=2e-3, atol=2e-4, err_msg=key)
    eight, one = (
        operations(compiled_once, model, mesh) for mesh in (trainer.data_mesh(), one_device())
    )
    assert one / eight > (
        1.4 if name.startswith("vae") else 3
    )  # what is whole on all, the optimizer, is most of so small a VAE


def operations(programs, model, mesh) -> float:
    """Of one device in a step without lazy terms, as XLA counts them."""
    step, split = (trainer.programs_of(model, 0)[-1], NamedSharding(mesh, PartitionSpec("data")))
    run = trainer.repeated(step, 0, noise().prepare, split, True)
    return programs[run].cost_analysis()["flops"]


def test_verbs_are_deterministic_and_pure(name):
    model, verbs = CASES[name]
    weights, images = core.weights(init(name)(jax.random.key(0))), batch()["images"]
    run = jax.jit(lambda w, k, x: verbs(model, w, k, x))
    first = run(weights, jax.random.key(0), images)
    assert identical(first, run(weights, jax.random.key(0), images))
    for verb, value in first.items():
        assert np.all(np.isfinite(value)), verb
    if "sample" in first:
        assert first["sample"].shape == (5, 8, 8, 1)
        assert first["sample"].dtype == jnp.float32
        assert np.max(np.abs(first["sample"])) <= 1
        assert not identical(first["sample"], run(weights, jax.random.key(1), images)["sample"])
    stacked = jax.jit(jax.vmap(lambda k: verbs(model, weights, k, images)))(
        jax.random.split(jax.random.key(0), 2)
    )
    for verb, value in stacked.items():
        assert value.shape == (2, *first[verb].shape)


def test_verbs_called_from_python_are_compiled(model):
    """Operation by operation they would take ten times as long.

    A style_mix is the exception: its work is synthesis.
    """
    for verb in set(model._fields) - {
        "config",
        "init",
        "step",
        "plan",
        "preview",
        "lazy",
        "sampler",
        "style_mix",
    }:
        function = getattr(model, verb)
        assert function is None or isinstance(function.__wrapped__, jax.stages.Wrapped), verb


def test_previews_are_images(name, model):
    weights = core.weights(init(name)(jax.random.key(0)))
    for title, pictures in jax.jit(model.preview)(weights, jax.random.key(0), batch()).items():
        assert pictures.ndim == 4, title
        assert pictures.dtype == jnp.float32
        assert np.max(np.abs(pictures)) <= 1
