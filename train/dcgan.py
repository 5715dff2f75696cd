"""Train a convolutional GAN, with normalisation as DCGAN or without as R3GAN.

`genjax train dcgan` is the same from the installed package: genjax/cli/train/dcgan.py.
"""

from genjax.cli.train.dcgan import main

if __name__ == "__main__":
    main()
