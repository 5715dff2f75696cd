"""How good images are: definitions in the papers' terms, each with its own in its docstring."""
