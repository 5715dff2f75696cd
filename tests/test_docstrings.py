"""Docstrings: every public thing has one, and `Args:` lists exactly the arguments."""

import ast
import re
from pathlib import Path

import pytest

import genjax

PACKAGE = Path(genjax.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def documented(docstring: str) -> list[str]:
    """The names in the section `Args:` of a docstring."""
    section = re.split(r"\n(?=\S)", docstring.split("\nArgs:\n")[1])[0]
    lines = re.findall(r"^    (\*{0,2}\w+(?:, \w+)*): ", section, re.MULTILINE)
    return [name.lstrip("*") for line in lines for name in line.split(", ")]


def parameters(function: ast.FunctionDef) -> list[str]:
    """The names of a function's parameters, without self."""
    args = function.args
    rest = [arg for arg in (args.vararg, args.kwarg) if arg]
    names = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, *rest)]
    return [name for name in names if name not in ("self", "cls")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_are_complete(path):
    tree = ast.parse(path.read_text())
    public = [
        tree,
        *(node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)),
    ]
    for node in public:
        name = getattr(node, "name", "the module")
        docstring = ast.get_docstring(node)
        assert docstring or name.startswith("_"), f"{name} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "\nArgs:\n" in (ast.get_docstring(node) or ""):
            assert sorted(documented(ast.get_docstring(node))) == sorted(parameters(node)), (
                node.name
            )
