"""Suppress other libraries' logs where we report the same in one line."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def absl() -> Iterator[None]:
    """Context in which TensorFlow Datasets and Orbax log errors only."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
