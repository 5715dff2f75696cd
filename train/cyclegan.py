"""Train a CycleGAN: translation between two sets of images that are not paired.

`genjax train cyclegan` is the same from the installed package:
genjax/cli/train/cyclegan.py.
"""

from genjax.cli.train.cyclegan import main

if __name__ == "__main__":
    main()
