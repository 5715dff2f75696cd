"""Sphinx directive `config-table`: the fields of a dataclass with their defaults and the
comments that explain them in the source."""

import ast
import importlib
import inspect
import io
import textwrap
import tokenize
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive


def comments(source: str) -> dict[int, tuple[str, bool]]:
    """Return the comment of each line that has one, and whether it stands alone."""
    lines = source.splitlines()
    return {
        token.start[0]: (
            token.string.lstrip("# "),
            not lines[token.start[0] - 1][: token.start[1]].strip(),
        )
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }


def fields(kind: type) -> dict[str, tuple[str, str, str]]:
    """Return type, default and explanation of a dataclass's fields, inherited ones first."""
    rows: dict[str, tuple[str, str, str]] = {}
    for base in reversed(kind.__mro__[:-1]):
        source = textwrap.dedent(inspect.getsource(base))
        (body,) = ast.parse(source).body
        assert isinstance(body, ast.ClassDef)
        notes = comments(source)
        for entry in body.body:
            if not (isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name)):
                continue
            text = []
            line = entry.lineno - 1
            while line in notes and notes[line][1]:
                text.insert(0, notes[line][0])
                line -= 1
            last = entry.end_lineno or entry.lineno
            text += [notes[line][0] for line in range(entry.lineno, last + 1) if line in notes]
            default = ast.unparse(entry.value) if entry.value else ""
            rows[entry.target.id] = ast.unparse(entry.annotation), default, " ".join(text)
    return rows


class ConfigTable(Directive):
    """`.. config-table:: genjax.models.vae.Config`"""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Return a table with one row per field."""
        module, _, name = self.arguments[0].rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        head = ("field", "default", "meaning")
        table = nodes.table(classes=["config"])
        group = nodes.tgroup(cols=len(head))
        table += group
        group += [nodes.colspec(colwidth=width) for width in (20, 15, 65)]
        body = nodes.tbody()
        for field, (_, default, text) in fields(kind).items():
            body += self.row([nodes.literal(text=field), nodes.literal(text=default), text])
        top = nodes.thead()
        top += self.row(list(head))
        group += [top, body]
        return [table]

    def row(self, cells: list[Any]) -> nodes.row:
        """Return a row of literals and of texts with `code` in backticks."""
        row = nodes.row()
        for cell in cells:
            entry, paragraph = nodes.entry(), nodes.paragraph()
            if isinstance(cell, str):
                for index, piece in enumerate(cell.split("`")):
                    paragraph += nodes.literal(text=piece) if index % 2 else nodes.Text(piece)
            elif cell.astext():
                paragraph += cell
            entry += paragraph
            row += entry
        return row


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("config-table", ConfigTable)
    return {"parallel_read_safe": True}
