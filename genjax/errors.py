"""Errors that commands convert to one line, and functions that make text printable.

Imports nothing from genjax, so every other module may import it.
"""

import re
from collections.abc import Callable


class InputError(ValueError):
    """Invalid user input. The message is one printable line.

    It names the file or the argument, its value, and what would work. Text that comes
    from a file or a name is escaped here, so no message can disturb a terminal or a
    log.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


class ConfigError(InputError):
    """A field or an argument has a value that it cannot take.

    Names the field as Python knows it, never an option of a command line: commands
    translate it with `as_option`. Other fields in `advice` stand in backticks and are
    translated too.

    Args:
        field: name of the field or argument, such as "r1_gamma"
        value: the value it was given; None leaves it out of the message
        advice: what would work, such as "must be at least 1" or "needs `loss` hinge"
    """

    def __init__(self, field: str, value: object, advice: str):
        self.field, self.value, self.advice = field, value, advice
        super().__init__(self._text(field, advice))

    def as_option(self, option: Callable[[str], str]) -> str:
        """The message with `option(field)` in place of each field's name."""
        advice = re.sub(r"`(\w+)`", lambda match: option(match[1]), self.advice)
        return one_line(self._text(option(self.field), advice))

    def _text(self, name: str, advice: str) -> str:
        value = "" if self.value is None else f" {printable(str(self.value))}"
        return f"{name}{value}: {advice}"


class NotFinite(FloatingPointError):
    """A metric or an array became NaN or infinite.

    Args:
        name: name of the metric or the array
        value: its value, or a description of it
        step: the step that produced it
    """

    def __init__(self, name: str, value: float | str, step: int):
        super().__init__(one_line(f"{name} is {value} at step {step}"))
        self.step = step


def one_line(text: str) -> str:
    r"""Escape `text` so that any terminal shows it on one line.

    Line breaks, escape characters and undecodable bytes of file names are written as
    \n, \x1b, \udcff.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable(text: str, limit: int = 200) -> str:
    """Apply `one_line` and cut the middle out if over `limit` characters."""
    shown = one_line(text)
    return shown if len(shown) <= limit else f"{shown[: limit // 2]}...{shown[3 - limit // 2 :]}"


def reason(error: BaseException, limit: int = 200) -> str:
    """Say why an operation failed: the first line of the error's text, printable.

    An error without a text is described by the name of its type.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable((text.strip() or type(error).__name__).splitlines()[0], limit)
