"""Training from Python, also in notebooks: `genjax.fit`."""

from collections.abc import Sequence
from pathlib import Path

import jax

from genjax import data
from genjax.core import Recipe, State
from genjax.errors import ConfigError
from genjax.training import hooks as library
from genjax.training import script, trainer
from genjax.training.options import Options
from genjax.training.trainer import Hook, Result


def fit(
    recipe: Recipe,
    source: data.Source | str,
    *,
    steps: int,
    out: str | Path | None = None,
    seed: int = 0,
    state: State | None = None,
    hooks: Sequence[Hook] = (),
    log_every: int = 100,
    save_every: int = 1000,
) -> Result:
    """Train a model, with a progress bar: `result = genjax.fit(recipe, "digits",
    steps=1000)`.

        source = data.load("photos.zip", resolution=64)
        model = dcgan.recipe(dcgan.Config(shape=source.shape))
        result = genjax.fit(model, source, steps=1000)
        images = model.sample(core.weights(result.state), jax.random.key(0), 16)

    Ctrl-C (interrupting the kernel) ends the training after the current steps and
    returns; with `out` the state is saved first. Calling it again continues: with `out`
    from the last checkpoint, else from the `state` that is given.

    Args:
        recipe: the model, of a Config whose `shape` is the source's
        source: the data, or a SPEC for `data.load`
        steps: number of optimizer steps in all, those done before included
        out: folder for checkpoints, log, sample grids and weights, as of a training
            script; None writes nothing
        seed: of the weights, the order of the data and all noise
        state: to start from, which is donated: do not use it afterwards; not with `out`
        hooks: more hooks (`training.hooks.every`), run after the progress bar's
        log_every: interval in steps of log rows
        save_every: interval in steps of checkpoints and sample grids, with `out`

    Returns the State and the signal that ended the training early, if any.

    Raises ConfigError for a Config that does not fit the data, and as `trainer.fit`
    does.
    """
    if isinstance(source, str):
        source = data.load(source)
    recipe_fits(recipe, source)
    if out is None:
        first = int(jax.device_get(state.step)) if state is not None else 0
        with library.progress(log_every, first, max(steps, first)) as shown:
            return trainer.fit(
                recipe,
                source,
                steps=steps,
                seed=seed,
                state=state,
                hooks=[*shown, *hooks],
                log_every=log_every,
            )
    if state is not None:
        raise ConfigError("state", None, "not with `out`, whose last checkpoint is resumed")
    options = Options(
        out=Path(out),
        steps=steps,
        seed=seed,
        batch_size=recipe.config.batch_size,
        log_every=log_every,
        save_every=save_every,
        sample_every=save_every,
    )
    script.begin(options)
    trained = script.train(model_name(recipe), recipe, source, options, hooks=hooks)
    return Result(trained.state, trained.stopped)


def recipe_fits(recipe: Recipe, source: data.Source) -> None:
    """Raise ConfigError where a recipe's Config does not fit the data."""
    shape = recipe.config.shape
    if tuple(shape) != tuple(source.shape):
        raise ConfigError("shape", shape, f"the data have {source.shape}")


def model_name(recipe: Recipe) -> str:
    """Return the name of a recipe's model, a key of `models.RECIPES`."""
    return type(recipe.config).__module__.split(".")[2]
