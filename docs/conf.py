"""Sphinx configuration: `sphinx-build -W --keep-going -b html docs docs/_build`."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # modules are imported, nothing is computed

import genjax  # noqa: E402

project = "genjax"
author = "the genjax authors"
copyright = f"2026, {author}"
release = version = genjax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "docstrings",
    "config_table",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "pictures/README.md"]
html_theme = "furo"
html_title = f"genjax {release}"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
suppress_warnings = ["ref.python"]  # fields named like built-in types: bytes
default_role = "literal"  # docstrings quote code in single backticks
