"""The extractors by name: this module finds, verifies and reads their weights.

Distances are named after the extractor. No weights come with this package: a file is
given as an argument, or is in the folder that GENJAX_WEIGHTS names, under its published
name.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax import target
from genjax.errors import ConfigError, InputError
from genjax.files import tensors
from genjax.metrics import checks
from genjax.metrics.extractors import classifiers, inception, protocols, torchvision
from genjax.metrics.extractors.protocols import Protocol
from genjax.runtime import xla
from genjax.shapes import AnyArray, Array, Float, UInt8

VARIABLE = "GENJAX_WEIGHTS"  # of the environment: a folder of weights
Outputs = dict[str, AnyArray]
Apply = Callable[[Any, Any, tuple[str, ...]], Outputs]  # (params, images, taps)


class Resized(NamedTuple):
    """How an extractor that resizes accepts images of several sizes.

    Each image is resized on the host, so that they form one array.
    """

    # uint8 [1, h, w, c] -> float32 [1, *size, channels] in [0, 255]
    image: Callable[[np.ndarray], np.ndarray]
    apply: Apply  # as the extractor's `apply`, of such arrays


class Extractor(NamedTuple):
    """A pure function of parameters and images, and what a result reports of it.

    `apply(params, images uint8 [n, h, w, c], taps) -> {tap: [n, d]}` is what a feature
    pass compiles; it computes no more than the taps need.
    """

    name: str
    apply: Apply
    params: Any = ()
    taps: tuple[str, ...] = ("features",)  # names of all outputs
    protocol: str | None = None  # whose resizing and scaling `apply` does
    digest: str = ""  # SHA-256 of the file of weights, hexadecimal
    frechet_name: str = "fd"  # "fid" only for the Inception with the published weights
    resized: Resized | None = None  # of an extractor that resizes

    def outputs(
        self, images: UInt8[AnyArray, "n h w c"], taps: Sequence[str] = ("features",)
    ) -> dict[str, Array]:
        """Return {tap: float32 [n, d]} of images uint8; compiled once per shape.

        Raises:
            ValueError: an unknown tap, or images that are not 8-bit
        """
        if unknown := [tap for tap in taps if tap not in self.taps]:
            raise ValueError(f"{self.name} has no {unknown[0]!r}; it has {', '.join(self.taps)}")
        images = jnp.asarray(checks.image_bytes(images))
        return _compiled(target.platform())(self.apply, tuple(taps), self.params, images)

    def outputs_resized(
        self, images: Float[AnyArray, "n h w c"], taps: Sequence[str]
    ) -> dict[str, Array]:
        """Return the `outputs` of images that `resized.image` returned."""
        assert self.resized
        return _compiled(target.platform())(
            self.resized.apply, tuple(taps), self.params, jnp.asarray(images)
        )

    def features(self, images: UInt8[AnyArray, "n h w c"]) -> Float[Array, "n d"]:
        """Return the features [n, d] of images uint8, which distances compare."""
        return self.outputs(images)["features"]

    def logits(self, images: UInt8[AnyArray, "n h w c"]) -> Float[Array, "n classes"]:
        """Return the class logits of images uint8.

        Raises:
            ValueError: the extractor has no logits
        """
        return self.outputs(images, ("logits",))["logits"]


@functools.cache
def _compiled(platform: str) -> Callable[..., dict[str, Array]]:
    """A compiled function of (apply, taps, params, images)."""
    return jax.jit(
        lambda apply, taps, params, images: apply(params, images, taps),
        static_argnums=(0, 1),
        compiler_options=xla.options(platform, *xla.FEATURES),
    )


class File(NamedTuple):
    """A file of published weights."""

    names: tuple[str, ...]  # that the file is published under
    sha256: str  # hexadecimal; the first digits only, if no more are known
    url: str


class Network(NamedTuple):
    """A row of the table."""

    file: File
    params: Callable[[Mapping[str, np.ndarray]], Any]  # state dict -> parameters
    # (params, x [n, *size, channels] in [0, 255], taps, protocol) -> outputs
    apply: Callable[[Any, AnyArray, tuple[str, ...], Protocol], Any]
    taps: tuple[str, ...]
    size: tuple[int, int]  # height and width that images are resized to
    channels: int = 3


def _resnet(params, x, taps, protocol):
    return classifiers.resnet(params, _imagenet(x / 255), taps)


def _inception(params, x, taps, protocol):
    names = {tap: "2048" if tap == "features" else tap for tap in taps}
    unique = tuple(dict.fromkeys(names.values()))
    outputs = inception.apply(params, protocols.scaled(x, protocol), unique)
    return {tap: outputs[name] for tap, name in names.items()}


def _backbone(name):
    def apply(params, x, taps, protocol):
        return torchvision.apply(params, _imagenet(x / 255), name, taps)

    return apply


def _imagenet(x):
    """Values in [0, 1], normalised by ImageNet's mean and standard deviation."""
    mean, std = classifiers.IMAGENET_MEAN, classifiers.IMAGENET_STD
    return (x - mean[None, None, None]) / std[None, None, None]


def _lenet(params, x, taps, protocol):
    return classifiers.lenet(params, x / 255, taps)


_INCEPTION = "inception-2015-12-05-6726825d.pth"
_PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"
_RESNETS = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models"
_LENET = "https://github.com/csinva/gan-vae-pretrained-pytorch/raw/master/mnist_classifier/weights"
TABLE: dict[str, Network] = {
    "inception": Network(
        File(
            # Both names are of the same bytes
            (f"pt_{_INCEPTION}", f"weights-{_INCEPTION}"),
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            f"{_PYTORCH_FID}/pt_{_INCEPTION}",
        ),
        inception.params,
        _inception,
        ("features", *inception.TAPS),
        inception.SIZE,
    ),
    "vgg16": Network(
        File(
            ("vgg16-397923af.pth",),
            "397923af",
            "https://download.pytorch.org/models/vgg16-397923af.pth",
        ),
        functools.partial(torchvision.params, name="vgg16"),
        _backbone("vgg16"),
        ("features", "logits"),
        torchvision.SIZE,
    ),
    "alexnet": Network(
        File(
            ("alexnet-owt-7be5be79.pth",),
            "7be5be79",
            "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        ),
        functools.partial(torchvision.params, name="alexnet"),
        _backbone("alexnet"),
        ("features", "logits"),
        torchvision.SIZE,
    ),
    "resnet20": Network(
        File(
            ("resnet20-12fca82f.th", "resnet20_cifar.th"),
            "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
            f"{_RESNETS}/resnet20-12fca82f.th",
        ),
        functools.partial(classifiers.resnet_params, depth=20),
        _resnet,
        ("features", "logits"),
        (32, 32),
    ),
    "resnet32": Network(
        File(
            ("resnet32-d509ac18.th", "resnet32_cifar.th"),
            "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850",
            f"{_RESNETS}/resnet32-d509ac18.th",
        ),
        functools.partial(classifiers.resnet_params, depth=32),
        _resnet,
        ("features", "logits"),
        (32, 32),
    ),
    "lenet": Network(
        File(
            ("lenet_epoch=12_test_acc=0.991.pth", "lenet_mnist.pth"),
            "7b3591ba5a63752a7e728d7f7e511266556a2ec66844810da9f475e07019b85e",
            f"{_LENET}/lenet_epoch=12_test_acc=0.991.pth",
        ),
        classifiers.lenet_params,
        _lenet,
        ("features", "logits"),
        (32, 32),
        channels=1,
    ),
}


def extractor(
    name: str,
    path: str | os.PathLike | None = None,
    *,
    protocol: str = "tf_legacy",
    checksum: str | bool = True,
) -> Extractor:
    """Return the extractor of this name, with its weights loaded.

    Args:
        name: a name in TABLE, or "pixels", which needs no weights and is PIXELS
        path: file of the weights; None: in the folder that GENJAX_WEIGHTS names
        protocol: name in protocols.PROTOCOLS
        checksum: SHA-256 that the file must have, or its first digits. True: that of
            the published file. False or "": any; without the published weights, even
            the distance of the Inception is not called FID

    Raises:
        ConfigError: an unknown name or protocol
        InputError: a file is missing, damaged, not the expected one, or holds the
            weights of another network
    """
    if name == "pixels":
        return PIXELS
    if name not in TABLE:
        names = f"pixels, {', '.join(TABLE)}"
        raise ConfigError(
            "extractor",
            name,
            f"must be one of {names}; extractors.wrap makes one of any function of images",
        )
    network, rules = TABLE[name], protocols.protocol(protocol)
    try:
        file = find(name, network.file, path)
    except InputError as error:
        hint = "the extractor pixels needs none, and its distance is fd_pixels"
        raise InputError(f"{error}; {hint}") from None
    params, digest = load(name, network.file, file, network.params, checksum)
    published = digest.startswith(network.file.sha256)
    return Extractor(
        name=name,
        apply=_bound(name, protocol),
        params=params,
        taps=network.taps,
        protocol=rules.name,
        digest=digest,
        frechet_name="fid" if name == "inception" and published else f"fd_{name}",
        resized=_resized(name, protocol),
    )


def wrap(
    function: Callable[[Any], AnyArray], name: str = "custom", *, digest: str = ""
) -> Extractor:
    """Make an extractor of a pure function of uint8 images [n, h, w, c] to [n, d].

    `digest` identifies its weights; without it, features are not cached.
    """
    return Extractor(
        name,
        lambda params, images, taps: {"features": function(images)},
        digest=digest,
        frechet_name=f"fd_{name}",
    )


# Pixel values in [0, 1]
PIXELS = wrap(lambda images: images.reshape(len(images), -1) / 255, "pixels")


def find(name: str, file: File, path: str | os.PathLike | None) -> Path:
    """Return `path`, or the file of a published name in the folder of GENJAX_WEIGHTS.

    Raises:
        InputError: there is no such file; the message says where to get it
    """
    folder = os.environ.get(VARIABLE, "")
    tried = [Path(folder) / each for each in file.names] if folder else []
    if path is not None:
        tried = [Path(path)]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    where = f"no file {tried[0]}" if tried else f"no path given and {VARIABLE} is not set"
    raise InputError(
        f"weights of {name}: {where}; put {file.names[0]} from {file.url} into a folder "
        f"and set {VARIABLE} to it"
    )


def load(
    name: str,
    file: File,
    path: Path,
    params: Callable[[Mapping[str, np.ndarray]], Any],
    checksum: str | bool,
) -> tuple[Any, str]:
    """Read a file of weights; return (parameters, SHA-256).

    Args:
        name: of the network, for messages
        file: the published file
        path: the file to read
        params: makes parameters of the state dict
        checksum: as in `extractor`

    Raises:
        InputError: the file is damaged, not the expected one, or holds the weights of
            another network
    """
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    wanted = file.sha256 if checksum is True else (checksum or "").lower()
    if not digest.startswith(wanted):
        raise InputError(
            f"{path}: its SHA-256 starts with {digest[:8]}, that of {name}'s published weights "
            f"with {wanted[:8]}; get {file.url}, or pass checksum=False for other weights"
        )
    try:
        return jax.tree.map(jnp.asarray, params(tensors.read(path))), digest
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None


@functools.cache
def _bound(name: str, protocol: str) -> Apply:
    """The `apply` of an extractor: one function per pair, so each compiles once."""
    rules = protocols.PROTOCOLS[protocol]

    def apply(params, images, taps):
        network = TABLE[name]
        x = protocols.resized(images, rules, network.size, network.channels)
        return network.apply(params, x, taps, rules)

    return apply


@functools.cache
def _resized(name: str, protocol: str) -> Resized:
    """The `resized` of an extractor."""
    rules = protocols.PROTOCOLS[protocol]

    def image(images):
        size, channels = TABLE[name].size, TABLE[name].channels
        return protocols.resized_on_host(images, rules, size, channels)

    def apply(params, x, taps):
        return TABLE[name].apply(params, x, taps, rules)

    return Resized(image, apply)
