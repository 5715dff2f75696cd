"""The runs that quality.py trains and measures.

Each takes minutes to half an hour of one CPU core. The presets of train/ are GPU-sized.
"""

SHORT = "--log-every 100 --sample-every 500 --save-every 500"
VAE = f"vae.py --resolution 32 --model.network conv {SHORT}"
GREY = f"stylegan2.py --resolution 32 --model.channel-base 512 --model.channel-max 64 {SHORT}"
# name: (data set, extractor of the features, script of train/ and its options)
RUNS = {
    "vae-mnist": ("mnist", "lenet", f"{VAE} --steps 3000 --model.decay-steps 3000"),
    "dcgan-mnist": (
        "mnist",
        "lenet",
        f"dcgan.py --preset mnist --steps 3000 --model.decay-steps 3000 {SHORT}",
    ),
    "stylegan2-mnist": ("mnist", "lenet", f"{GREY} --steps 4500"),
    "vae-fashion": (
        "fashion_mnist",
        "lenet",
        f"{VAE} --model.likelihood logistic --steps 2000 --model.decay-steps 2000",
    ),
    "dcgan-fashion": (
        "fashion_mnist",
        "lenet",
        f"dcgan.py --preset fashion --steps 3000 --model.decay-steps 3000 {SHORT}",
    ),
    "stylegan2-fashion": ("fashion_mnist", "lenet", f"{GREY} --steps 2500"),
    "vae-emoji": (
        "noto_emoji_128.zip",
        "resnet20",
        f"{VAE} --channels 3 --model.likelihood logistic --steps 3000 --model.decay-steps 3000",
    ),
    "dcgan-emoji": (
        "noto_emoji_128.zip",
        "resnet20",
        f"dcgan.py --preset emoji64 --resolution 32 --steps 4000 --model.decay-steps 4000 {SHORT}",
    ),
    "stylegan2-emoji": (
        "noto_emoji_128.zip",
        "resnet20",
        "stylegan2.py --preset tiny --resolution 32 --channels 3 --model.channel-base 512 "
        f"--model.channel-max 64 --model.ada-kimg 100 --steps 6000 {SHORT}",
    ),
    "vae-cats": (
        "cats_64.zip",
        "resnet20",
        f"{VAE} --flip --model.likelihood logistic --steps 2000 --model.decay-steps 2000",
    ),
    "dcgan-cats": (
        "cats_64.zip",
        "resnet20",
        "dcgan.py --preset emoji64 --resolution 32 --flip --steps 2500 "
        f"--model.decay-steps 2500 {SHORT}",
    ),
    "stylegan2-cats": (
        "cats_64.zip",
        "resnet20",
        "stylegan2.py --preset tiny --resolution 32 --flip --model.channel-base 1024 "
        f"--model.channel-max 64 --model.r1-gamma 0.01 --model.ada-kimg 100 --steps 4000 {SHORT}",
    ),
}
