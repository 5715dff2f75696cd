"""Image generation and editing models in JAX. `genjax.load(DIR)` gives a trained model's functions and weights."""

__version__ = "0.1.0"


def load(directory, step=None):
    """The model of a run's folder, and its weights: `model, weights = genjax.load("runs/vae")`.

    Reads config.json and model.safetensors alone; or, given a step, the checkpoint of it, also while the run is going on.
    `model` is the tuple of pure functions of its kind, e.g. `models.vae.VAE`.
    Raises `errors.InputError`, which is a ValueError, if the folder holds no finished run, or no checkpoint of that step.
    """
    from pathlib import Path

    import jax

    from genjax import core, errors, models
    from genjax.training import checkpoint

    run = Path(directory)
    settings = checkpoint.read_config(run)
    try:
        model = models.build(settings["model"], settings["config"])
    except errors.InputError as error:
        versions = (
            f"written by genjax {settings.get('genjax', 'of no version')}, this is {__version__}"
        )
        raise errors.InputError(f"{run / checkpoint.CONFIG}: {error} ({versions})") from None
    like = jax.eval_shape(model.init, jax.random.key(0))
    if step is not None:
        return model, core.weights(checkpoint.read(run, like, step))
    return model, checkpoint.read_weights(run, core.weights(like))


def to_uint8(images):
    """Images in [-1, 1] as uint8: `ops.to_uint8`."""
    from genjax.nn import ops

    return ops.to_uint8(images)


def save_grid(images, path, **options):
    """Images in [-1, 1], or bytes, [n, height, width, channels], as one PNG: `images.save_grid`."""
    from genjax.files.grids import save_grid

    save_grid(images, path, **options)
