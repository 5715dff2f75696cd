"""Train a variational autoencoder.

`genjax train vae` is the same from the installed package: genjax/cli/train/vae.py.
"""

from genjax.cli.train.vae import main

if __name__ == "__main__":
    main()
