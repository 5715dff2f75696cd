"""Sphinx extension: docstrings are plain text with `code` in backticks.

What reStructuredText would read as other markup (|x|, x_, *x) is escaped, and indented
blocks are shown as they are.
"""

import re
from typing import Any

SECTIONS = ("Args:", "Attributes:", "Example:", "Examples:", "Raises:", "Returns:", "Yields:")


def escaped(line: str) -> str:
    """Return a line with its code as literals and other markup characters escaped."""
    pieces = re.split(r"(`+[^`]*`+)", line)
    pieces[::2] = [re.sub(r"([\\|*]|_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
    pieces[1::2] = [f"``{piece.strip('`')}``" for piece in pieces[1::2]]
    # The end of a literal is only seen before punctuation or a space.
    return re.sub(r"(?<=\w)(?=``\w[^`]*``)|(?<=\w``)(?=\w)", r"\\ ", "".join(pieces))


def plain(lines: list[str]) -> list[str]:
    """Return a docstring's lines as reStructuredText."""
    converted: list[str] = []
    section = block = False
    for line in lines:
        indented = line.startswith("  ")
        if line and not indented:
            section = line in SECTIONS
            if block:
                converted.append("")
            block = False
        elif indented and not section and not block and not is_item(converted):
            converted += ["", "::", ""]
            block = True
        converted.append(line if block or line in SECTIONS else escaped(line))
    return converted


def is_item(lines: list[str]) -> bool:
    """Return whether the last paragraph is an entry of a list, which goes on indented."""
    for line in reversed(lines):
        if not line.startswith("  "):
            return line.startswith(("- ", "1. "))
    return False


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Convert the docstring of an object in place."""
    lines[:] = plain(lines)


def setup(app: Any) -> dict[str, bool]:
    """Connect before napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True}
