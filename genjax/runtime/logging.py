"""Other libraries' logging, held back where we say the same in one line of our own."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def absl() -> Iterator[None]:
    """Of what TensorFlow Datasets and Orbax log, only errors."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
