"""Train a StyleGAN2.

`genjax train stylegan2` is the same from the installed package:
genjax/cli/train/stylegan2.py.
"""

from genjax.cli.train.stylegan2 import main

if __name__ == "__main__":
    main()
