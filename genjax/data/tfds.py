"""Prepared sets of TensorFlow Datasets, read without TensorFlow."""

import difflib
import hashlib
import importlib.util
import os
import socket
import stat
import time
import zlib
from typing import Any

from genjax.data.items import PROGRESS_SECONDS, Items
from genjax.data.source import Request, refuse
from genjax.errors import printable, reason
from genjax.files.bounded import CHUNK_BYTES, Malformed, open_regular
from genjax.files.decode import open_image
from genjax.runtime import logging

EXTRA = 'pip install "genjax-image[tfds]"'
HOST = ("storage.googleapis.com", 443)  # TensorFlow Datasets connects to it first
PROBE_SECONDS = 3.0
AGAIN = (
    "prepare it with file_format='array_record' in another folder "
    f"({EXTRA}) and set TFDS_DATA_DIR to that folder"
)


def read_tfds(name: str, request: Request) -> Items:
    """Items of the set `name`, which is prepared first if that is possible.

    Raises ConfigError: there is no such set or split, or it cannot be prepared or read.
    """
    with logging.absl():
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise refuse(
                request, f"TensorFlow Datasets cannot be imported ({reason(error)})", EXTRA
            ) from None
        builder = find_builder(tfds, name, request)
        if not builder.info.splits:
            prepare_set(tfds, builder, request)
        return read_builder(tfds, builder, name, request)


def find_builder(tfds: Any, name: str, request: Request) -> Any:
    """The builder of a set, for the file format that needs no TensorFlow.

    Raises ConfigError: there is no such set, or it is prepared in another format.
    """
    base = name.split("/")[0].split(":")[0]
    if base.isidentifier():
        refuse_irregular(
            os.path.join(os.path.expanduser(tfds.core.constants.DATA_DIR), base), request
        )
    try:
        return tfds.builder(name, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        near = difflib.get_close_matches(
            base, tfds.list_builders(with_community_datasets=False), n=3
        )
        instead = (
            f"did you mean {', '.join(near)}?"
            if near
            else "see https://www.tensorflow.org/datasets/catalog"
        )
        raise refuse(request, "TensorFlow Datasets has no set of this name", instead) from None
    # Unknown versions, configurations and file formats each raise another exception.
    except Exception as error:
        if "file format" in str(error).lower():
            wrong = "is prepared in a format that needs TensorFlow to read (tfrecord)"
            raise refuse(request, wrong, AGAIN) from None
        raise refuse(
            request, reason(error), "see https://www.tensorflow.org/datasets/catalog"
        ) from None


def refuse_irregular(folder: str, request: Request) -> None:
    """Check that the files of a set are regular: reading a pipe may block.

    Raises ConfigError: one is not.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                mode = os.stat(path).st_mode
            except OSError:
                continue
            if not stat.S_ISREG(mode):
                raise refuse(
                    request, f"{printable(path)} is not a regular file", "prepare the set again"
                )


def prepare_set(tfds: Any, builder: Any, request: Request) -> None:
    """Download and prepare a set.

    TensorFlow and the network are probed first, since TensorFlow Datasets retries for
    minutes.
    Raises ConfigError: one of them is missing, or the preparation failed.
    """
    folder = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    steps = (
        f"prepare it where there is a network: {EXTRA}, the same command, and copy {folder} over"
    )
    if importlib.util.find_spec("tensorflow") is None:
        raise refuse(
            request,
            f"is not prepared in {folder}, and preparing needs TensorFlow, which is not installed",
            steps,
        )
    request.say(f"data: {request.spec} is not prepared in {folder}; looking for a network")
    try:
        socket.create_connection(HOST, timeout=PROBE_SECONDS).close()
    except OSError as error:
        raise refuse(
            request, f"is not prepared in {folder}, and no network answers ({reason(error)})", steps
        ) from None
    request.say(f"data: preparing {request.spec} ({builder.info.download_size} to download)")
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        raise refuse(request, f"could not be prepared ({reason(error)})", steps) from error


def read_builder(tfds: Any, builder: Any, name: str, request: Request) -> Items:
    """Items of a prepared set: its first image feature and its first class label.

    Raises ConfigError: it has no images, no such split, or a format that needs
    TensorFlow.
    """
    features = builder.info.features

    def first(kind: type) -> str | None:
        return next((key for key, value in features.items() if isinstance(value, kind)), None)

    image, label = first(tfds.features.Image), first(tfds.features.ClassLabel)
    if image is None:
        raise refuse(
            request, f"holds no images but {', '.join(features)}", "choose a set of images"
        )
    splits = ", ".join(builder.info.splits)
    try:
        # Encoded bytes: the same decoder, limits and conversions as for a folder of
        # images.
        decoders = {image: tfds.decode.SkipDecoding()}
        records = builder.as_data_source(split=request.split, decoders=decoders)
        size = len(records)
    except NotImplementedError:
        wrong = f"is prepared as {builder.info.file_format}, which needs TensorFlow to read"
        raise refuse(request, wrong, AGAIN) from None
    except Exception as error:
        raise refuse(
            request,
            f"cannot be read as {request.split!r} ({reason(error)})",
            f"its splits are {splits}",
        ) from None

    # TensorFlow Datasets marks a split without labels by negative ones.
    if label and size and records[0][label] < 0:
        label = None
    num_bytes = builder.info.splits[request.split].num_bytes
    info = f"{builder.info.full_name} {request.split} {size} {num_bytes}"

    def digest() -> str:
        return hashlib.sha256(f"{info} {shard_sums(builder, request)}".encode()).hexdigest()

    return Items(
        name=f"tfds {printable(name)}, {request.split}",
        size=size,
        open=lambda index: open_image(records[index][image]),
        title=lambda index: f"record {index}",
        label=(lambda index: int(records[index][label])) if label else None,
        num_labels=features[label].num_classes if label else 0,
        digest=digest,
        earlier=lambda: hashlib.sha256(info.encode()).hexdigest(),
        classes=class_names(features[label]) if label else (),
    )


def class_names(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel's classes; () if they are just their numbers."""
    names = tuple(printable(str(name)) for name in feature.names or ())
    return () if names == tuple(map(str, range(len(names)))) else names


def shard_sums(builder: Any, request: Request) -> list[str]:
    """Name and CRC-32 of each file of the split. Raises ConfigError: unreadable."""
    sums, read, reported = [], 0, time.monotonic()
    for shard in builder.info.splits[request.split].file_instructions:
        path, crc = os.fspath(shard.filename), 0
        try:
            with open_regular(path) as file:
                while chunk := file.read(CHUNK_BYTES):
                    crc, read = zlib.crc32(chunk, crc), read + len(chunk)
                    if time.monotonic() - reported > PROGRESS_SECONDS:
                        reported = time.monotonic()
                        request.say(
                            f"data: checksums of {read >> 20} MB, to recognise these images"
                        )
        except (OSError, Malformed) as error:
            raise refuse(
                request,
                f"{printable(path)} cannot be read ({reason(error)})",
                "prepare the set again",
            ) from None
        sums.append(f"{os.path.basename(path)} {crc}")
    return sums
