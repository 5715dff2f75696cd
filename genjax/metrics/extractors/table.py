"""What turns images into features, by name: its weights are found, checked and read here, and its distances named after it.

No weights come with this package. A file is an argument, or lies under its published name in the folder that GENJAX_WEIGHTS names.
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

from genjax.errors import InputError
from genjax.files import tensors
from genjax.metrics import checks
from genjax.metrics.extractors import classifiers, inception, protocols, torchvision
from genjax.metrics.extractors.protocols import Protocol
from genjax.runtime import xla
from genjax.shapes import AnyArray, Array, Float, UInt8

VARIABLE = "GENJAX_WEIGHTS"
Outputs = dict[str, AnyArray]


class Resized(NamedTuple):
    """How an extractor that resizes each image takes sets of several sizes: each is resized on the host, and all are one array then."""

    image: Callable[
        [np.ndarray], np.ndarray
    ]  # uint8 [1, h, w, c] -> float32 [1, *size, channels] in 0..255
    apply: Callable[[Any, Any, tuple[str, ...]], Outputs]  # the extractor's, of such arrays


class Extractor(NamedTuple):
    """A pure function of its parameters and of images, and what a result has to say of it.

    `apply(params, images uint8 [n, h, w, c], taps) -> {tap: [n, d]}` is what a feature pass compiles; it computes no more than the taps need.
    """

    name: str
    apply: Callable[[Any, Any, tuple[str, ...]], Outputs]
    params: Any = ()
    taps: tuple[str, ...] = ("features",)  # all that there are
    protocol: str | None = None  # whose resizing and scaling `apply` does
    digest: str = ""  # SHA-256 of the file of weights, hexadecimal
    frechet_name: str = "fd"  # "fid" for the Inception with the published weights and nothing else
    resized: Resized | None = None  # of an extractor that resizes

    def outputs(
        self, images: UInt8[AnyArray, "n h w c"], taps: Sequence[str] = ("features",)
    ) -> dict[str, Array]:
        """Images uint8 -> {tap: float32 [n, d]}, compiled once for each shape.

        Raises ValueError for a tap that there is not, and for other arrays than bytes.
        """
        if unknown := [tap for tap in taps if tap not in self.taps]:
            raise ValueError(f"{self.name} has no {unknown[0]!r}; it has {', '.join(self.taps)}")
        return _compiled()(
            self.apply, tuple(taps), self.params, jnp.asarray(checks.image_bytes(images))
        )

    def outputs_resized(
        self, images: Float[AnyArray, "n h w c"], taps: Sequence[str]
    ) -> dict[str, Array]:
        """`outputs` of images that `resized.image` gave."""
        assert self.resized
        return _compiled()(self.resized.apply, tuple(taps), self.params, jnp.asarray(images))

    def features(self, images: UInt8[AnyArray, "n h w c"]) -> Float[Array, "n d"]:
        """Images uint8 -> the features that distances are taken over."""
        return self.outputs(images)["features"]

    def logits(self, images: UInt8[AnyArray, "n h w c"]) -> Float[Array, "n classes"]:
        """Images uint8 -> logits of the classes. Raises ValueError where there are none."""
        return self.outputs(images, ("logits",))["logits"]


@functools.cache
def _compiled():
    """A function of (apply, taps, params, images)."""
    return jax.jit(
        lambda apply, taps, params, images: apply(params, images, taps),
        static_argnums=(0, 1),
        compiler_options=xla.options(*xla.FEATURES),
    )


class File(NamedTuple):
    """Published weights: names that the file goes by, the first digits of its SHA-256 (all, where known), its address."""

    names: tuple[str, ...]
    sha256: str
    url: str


class Network(NamedTuple):
    """A row of the table: the file, how its arrays become parameters, and a function of images resized by the protocol.

    (params, x [n, *size, channels] in 0..255, taps, protocol) -> outputs.
    """

    file: File
    params: Callable[[Mapping[str, np.ndarray]], Any]
    apply: Callable[[Any, AnyArray, tuple[str, ...], Protocol], Any]
    taps: tuple[str, ...]
    size: tuple[int, int]
    channels: int = 3


def _resnet(params, x, taps, protocol):
    return classifiers.resnet(params, _imagenet(x / 255), taps)


def _inception(params, x, taps, protocol):
    names = {tap: "2048" if tap == "features" else tap for tap in taps}
    outputs = inception.apply(
        params, protocols.scaled(x, protocol), tuple(dict.fromkeys(names.values()))
    )
    return {tap: outputs[name] for tap, name in names.items()}


def _backbone(name):
    def apply(params, x, taps, protocol):
        return torchvision.apply(params, _imagenet(x / 255), name, taps)

    return apply


def _imagenet(x):
    return (x - classifiers.IMAGENET_MEAN[None, None, None]) / classifiers.IMAGENET_STD[
        None, None, None
    ]


def _lenet(params, x, taps, protocol):
    return classifiers.lenet(params, x / 255, taps)


_RESNETS = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models"
TABLE: dict[str, Network] = {
    "inception": Network(
        File(
            (
                "pt_inception-2015-12-05-6726825d.pth",
                "weights-inception-2015-12-05-6726825d.pth",
            ),  # the same bytes
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
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
            "https://github.com/csinva/gan-vae-pretrained-pytorch/raw/master/mnist_classifier/weights/lenet_epoch=12_test_acc=0.991.pth",
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
    """The extractor of that name with its weights read: from `path`, else from the folder in GENJAX_WEIGHTS. "pixels" has none: it is PIXELS.

    `checksum` is the SHA-256 that the file has to have, or its first digits; True: that of the published file; False or "": any, and then even
    the Inception's distance is no FID. Raises InputError for a name that is none, a file that is absent, another, damaged or no such network's.
    """
    if name == "pixels":
        return PIXELS
    if name not in TABLE:
        raise InputError(
            f"--extractor {name}: one of pixels, {', '.join(TABLE)}, or any function of images through extractors.wrap"
        )
    network, rules = TABLE[name], protocols.protocol(protocol)
    try:
        file = find(name, network.file, path)
    except InputError as error:
        raise InputError(
            f"{error}; the extractor pixels needs none, and its distance is fd_pixels"
        ) from None
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
    """Any pure function of uint8 images [n, h, w, c] to features [n, d] as an extractor; `digest` is whatever tells its weights from others."""
    return Extractor(
        name,
        lambda params, images, taps: {"features": function(images)},
        digest=digest,
        frechet_name=f"fd_{name}",
    )


PIXELS = wrap(
    lambda images: images.reshape(len(images), -1) / 255, "pixels"
)  # their values from 0 to 1


def find(name: str, file: File, path: str | os.PathLike | None) -> Path:
    """`path`, or the file under one of its published names in the folder GENJAX_WEIGHTS. Raises InputError that says where to get it."""
    folder = os.environ.get(VARIABLE, "")
    tried = (
        [Path(path)]
        if path is not None
        else [Path(folder) / each for each in file.names]
        if folder
        else []
    )
    for candidate in tried:
        if candidate.is_file():
            return candidate
    where = f"no file {tried[0]}" if tried else f"no path given and {VARIABLE} is not set"
    raise InputError(
        f"weights of {name}: {where}; put {file.names[0]} from {file.url} into a folder and set {VARIABLE} to it"
    )


def load(
    name: str,
    file: File,
    path: Path,
    params: Callable[[Mapping[str, np.ndarray]], Any],
    checksum: str | bool,
) -> tuple[Any, str]:
    """(parameters, SHA-256) of a file of weights. Raises InputError."""
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    wanted = file.sha256 if checksum is True else (checksum or "").lower()
    if not digest.startswith(wanted):
        raise InputError(
            f"{path}: its SHA-256 starts with {digest[:8]}, that of {name}'s published weights with {wanted[:8]}; "
            f"get {file.url}, or pass checksum=False for other weights"
        )
    try:
        return jax.tree.map(jnp.asarray, params(tensors.read(path))), digest
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None


@functools.cache
def _bound(name: str, protocol: str) -> Callable[[Any, Any, tuple[str, ...]], Outputs]:
    """One function for each pair, so that each is compiled once."""
    rules = protocols.PROTOCOLS[protocol]

    def apply(params, images, taps):
        network = TABLE[name]
        return network.apply(
            params, protocols.resized(images, rules, network.size, network.channels), taps, rules
        )

    return apply


@functools.cache
def _resized(name: str, protocol: str) -> Resized:
    rules = protocols.PROTOCOLS[protocol]
    return Resized(
        lambda images: protocols.resized_on_host(
            images, rules, TABLE[name].size, TABLE[name].channels
        ),
        lambda params, x, taps: TABLE[name].apply(params, x, taps, rules),
    )
