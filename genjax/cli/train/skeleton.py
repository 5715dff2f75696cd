"""Train the skeleton."""

import dataclasses

from genjax.models import skeleton
from genjax.training import command_line, script
from genjax.training.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Train the skeleton."""

    batch_size: int = 64  # images per discriminator step, over all devices
    model: skeleton.Config = skeleton.Config()


def run(args: Arguments) -> int:
    """Train with these arguments; return the exit code."""
    return script.run(args, skeleton)


def main() -> None:
    """Parse the command line and train."""
    command_line.main("skeleton", Arguments, run)
