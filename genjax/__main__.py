"""The command line: `python -m genjax`."""

from genjax.cli import main

main()
