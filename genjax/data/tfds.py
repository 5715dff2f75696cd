"""Sets of TensorFlow Datasets that lie prepared on the disk, read without TensorFlow."""

import difflib
import hashlib
import importlib.util
import os
import socket
import stat
import time
import zlib

from genjax.data.items import PROGRESS_SECONDS, Items
from genjax.data.source import Request, refuse
from genjax.errors import printable, reason
from genjax.files.bounded import CHUNK_BYTES, Malformed, open_regular
from genjax.files.decode import open_image
from genjax.runtime import logging

EXTRA = 'pip install "genjax-image[tfds]"'
HOST = ("storage.googleapis.com", 443)  # TensorFlow Datasets looks there before anything else
PROBE_SECONDS = 3.0
AGAIN = f"prepare it with file_format='array_record' into another folder ({EXTRA}), which TFDS_DATA_DIR then names"


def read_tfds(name: str, request: Request) -> Items:
    """Items of a prepared set; one that is not is prepared if TensorFlow and a network are there. Raises InputError."""
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


def find_builder(tfds, name: str, request: Request):
    """The builder of a set, set up to read and write the file format that needs no TensorFlow. Raises InputError."""
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
    except (
        Exception
    ) as error:  # versions, configurations and file formats that do not exist raise each their own
        if "file format" in str(error).lower():
            raise refuse(
                request, "lies prepared in a format that needs TensorFlow to read (tfrecord)", AGAIN
            ) from None
        raise refuse(
            request, reason(error), "see https://www.tensorflow.org/datasets/catalog"
        ) from None


def refuse_irregular(folder: str, request: Request) -> None:
    """Raises InputError if anything below the folder of a set is no regular file: reading a pipe would never end."""
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


def prepare_set(tfds, builder, request: Request) -> None:
    """Download and prepare a set, if a look says that it can work: by itself it retries for minutes. Raises InputError."""
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


def read_builder(tfds, builder, name: str, request: Request) -> Items:
    """Items of a prepared set: its first image feature and its first class label. Raises InputError."""
    features = builder.info.features
    image = next(
        (key for key, value in features.items() if isinstance(value, tfds.features.Image)), None
    )
    label = next(
        (key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel)),
        None,
    )
    if image is None:
        raise refuse(
            request, f"holds no images but {', '.join(features)}", "choose a set of images"
        )
    splits = ", ".join(builder.info.splits)
    try:
        # The encoded bytes, so that these images pass the same decoder, limits and conversions as those of a folder.
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

    if (
        label and size and records[0][label] < 0
    ):  # how TensorFlow Datasets marks a split without labels
        label = None
    info = f"{builder.info.full_name} {request.split} {size} {builder.info.splits[request.split].num_bytes}"
    return Items(
        name=f"tfds {printable(name)}, {request.split}",
        size=size,
        open=lambda index: open_image(records[index][image]),
        title=lambda index: f"record {index}",
        label=(lambda index: int(records[index][label])) if label else None,
        num_labels=features[label].num_classes if label else 0,
        digest=lambda: hashlib.sha256(
            f"{info} {shard_sums(builder, request)}".encode()
        ).hexdigest(),
        earlier=lambda: hashlib.sha256(info.encode()).hexdigest(),
        classes=class_names(features[label]) if label else (),
    )


def class_names(feature) -> tuple[str, ...]:
    """The names of a ClassLabel; () if it has numbers only."""
    names = tuple(printable(str(name)) for name in feature.names or ())
    return () if names == tuple(map(str, range(len(names)))) else names


def shard_sums(builder, request: Request) -> list[str]:
    """Name and CRC-32 of each file of the split. Raises InputError."""
    sums, read, told = [], 0, time.monotonic()
    for shard in builder.info.splits[request.split].file_instructions:
        path, crc = os.fspath(shard.filename), 0
        try:
            with open_regular(path) as file:
                while chunk := file.read(CHUNK_BYTES):
                    crc, read = zlib.crc32(chunk, crc), read + len(chunk)
                    if time.monotonic() - told > PROGRESS_SECONDS:
                        told = time.monotonic()
                        request.say(
                            f"data: checksums of {read >> 20} MB, to know these images again"
                        )
        except (OSError, Malformed) as error:
            raise refuse(
                request,
                f"{printable(path)} cannot be read ({reason(error)})",
                "prepare the set again",
            ) from None
        sums.append(f"{os.path.basename(path)} {crc}")
    return sums
