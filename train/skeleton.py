"""Train the skeleton.

`genjax train skeleton` is the same from the installed package: genjax/cli/train/skeleton.py.
"""

from genjax.cli.train.skeleton import main

if __name__ == "__main__":
    main()
