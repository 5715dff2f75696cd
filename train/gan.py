"""Train the plain GAN: two MLPs.

`genjax train gan` is the same from the installed package: genjax/cli/train/gan.py.
"""

from genjax.cli.train.gan import main

if __name__ == "__main__":
    main()
