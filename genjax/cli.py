"""The `genjax` command: what comes after training. Each subcommand is a thin typed function over the library."""

from pathlib import Path

from genjax import script


def sample(run: Path, /, n: int = 64, seed: int = 0, out: Path = Path("grid.png"), columns: int = 0, step: int = 0) -> int:
    """Draw images from a trained model into one PNG.

    Args:
        run: the folder of a finished training run
        n: how many images
        seed: of the latents
        out: the PNG to write
        columns: images a row; 0: about as many as rows
        step: take the checkpoint of this step, be it of a run that is going on; 0: the weights that training ended with
    """
    import jax

    import genjax
    from genjax.core import InputError

    if not 1 <= n <= 65_536:
        raise InputError(f"--n {n}: from 1 to 65536")
    if not 0 <= columns <= n:
        raise InputError(f"--columns {columns}: from 0 to {n}")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: not a file in a folder that exists")
    model, weights = genjax.load(run, step or None)
    pictures = jax.jit(model.sample, static_argnums=2)(weights, jax.random.key(seed), n)
    genjax.save_grid(pictures, out, columns=columns or None)
    script.say(f"{n} images of {'x'.join(map(str, pictures.shape[1:]))} in {out}")
    return 0


COMMANDS = {"sample": sample}


def main() -> None:
    """The command's entry: run a subcommand, print its one line if the input was bad, exit with its code."""
    import sys

    from tyro.extras import subcommand_cli_from_dict

    sys.argv[0] = "genjax"
    outcome = script.guarded(
        lambda: script.parsed(lambda: subcommand_cli_from_dict(COMMANDS, prog="genjax", description="Use trained models."))
    )
    raise SystemExit(outcome)
