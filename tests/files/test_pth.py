"""Weights are read as torch.load reads them; hostile files execute nothing."""

import os
import pickle
import time
import zipfile

import numpy as np
import pytest
import toys

from genjax.errors import InputError
from genjax.files import pth


def instructions(*lines: bytes) -> bytes:
    """A pickle of protocol 2, by hand."""
    return b"\x80\x02" + b"".join(lines) + b"."


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def tensor(
    key="0", kind="FloatStorage", size=6, offset=0, shape=(2, 3), strides=(3, 1), module="torch"
) -> bytes:
    numbers = lambda values: b"(" + b"".join(map(number, values)) + b"t"
    storage = (
        b"("
        + text("storage")
        + f"c{module}\n{kind}\n".encode()
        + text(key)
        + text("cpu")
        + number(size)
        + b"tQ"
    )
    arguments = (
        b"("
        + storage
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89"
        + b"ccollections\nOrderedDict\n)R"
        + b"t"
    )
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def ordered(**values: bytes) -> bytes:
    return (
        b"ccollections\nOrderedDict\n)R("
        + b"".join(text(name) + value for name, value in values.items())
        + b"u"
    )


VALUES = np.arange(6, dtype=np.float32)


def save(path, description: bytes, *, data: bytes = VALUES.tobytes(), key="0", extra=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", description)
        archive.writestr(f"archive/data/{key}", data)
        for name, content in extra:
            archive.writestr(name, content)
    return path


def test_a_state_dict_is_read(tmp_path):
    description = instructions(
        ordered(
            **{
                "module.w": tensor(),
                "t": tensor(shape=(3, 2), strides=(1, 3)),
                "b": tensor(shape=(2,), strides=(1,), offset=4),
            }
        )
    )
    got = pth.state_dict(
        save(tmp_path / "w.pth", description, extra=[("archive/byteorder", "little")])
    )
    assert list(got) == ["w", "t", "b"]
    np.testing.assert_array_equal(got["w"], VALUES.reshape(2, 3))
    np.testing.assert_array_equal(got["t"], VALUES.reshape(2, 3).T)
    np.testing.assert_array_equal(got["b"], [4, 5])
    assert got["t"].flags.c_contiguous
    got["w"][0, 0] = 7  # it can be written to
    assert got["b"].dtype == np.float32


def test_keys_are_texts_numbers_and_names_of_classes(tmp_path):
    """As in states of optimizers (64-bit ids) and of Lightning (callback classes)."""
    keys = (
        number(3)
        + b"N"
        + b"\x8a\x07"
        + (140234567890123).to_bytes(7, "little")
        + b"N"
        + b"cmodule\nCallback\n"
        + b"N"
    )
    description = instructions(b"}(" + keys + text("w") + tensor() + b"u")
    assert list(pth.state_dict(save(tmp_path / "w.pth", description))) == ["w"]


def test_a_checkpoint_that_keeps_the_weights_under_a_key_is_read(tmp_path):
    description = instructions(
        b"}(" + text("epoch") + number(3) + text("state_dict") + ordered(w=tensor()) + b"u"
    )
    assert list(pth.state_dict(save(tmp_path / "w.pth", description))) == ["w"]


def test_the_layout_before_the_zip_is_read(tmp_path):
    parts = [
        pickle.dumps(pth.LEGACY_MAGIC, 2),
        pickle.dumps(1001, 2),
        pickle.dumps(
            {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2
        ),
        instructions(ordered(w=tensor())),
        pickle.dumps(["0"], 2),
        (6).to_bytes(8, "little"),
        VALUES.tobytes(),
    ]
    (tmp_path / "w.pth").write_bytes(b"".join(parts))
    np.testing.assert_array_equal(pth.state_dict(tmp_path / "w.pth")["w"], VALUES.reshape(2, 3))
    for cut in range(1, len(b"".join(parts)), 7):
        (tmp_path / "cut.pth").write_bytes(b"".join(parts)[:-cut])
        with pytest.raises(InputError, match=r"cut\.pth"):
            pth.state_dict(tmp_path / "cut.pth")


def legacy(keys: bytes) -> bytes:
    head = (pth.LEGACY_MAGIC, 1001, {"little_endian": True})
    return (
        b"".join(pickle.dumps(part, 2) for part in head) + instructions(ordered(w=tensor())) + keys
    )


DEEP = b"K\x01" + b"\x85" * 200_000  # a tuple in a tuple in a tuple ..., whose hash is as deep


class Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)


STORAGE = (
    b"("
    + text("storage")
    + b"ctorch\nFloatStorage\n"
    + text("0")
    + text("cpu")
    + number(6)
    + b"tQq\x00"
)
HOSTILE = {
    "a system call": pickle.dumps({"w": Hostile()}, 2),
    "a system call, protocol 5": pickle.dumps({"w": Hostile()}, 5),
    "builtins.eval": instructions(b"c__builtin__\neval\n", b"(" + text("1") + b"tR"),
    "an object": instructions(b"ccollections\nOrderedDict\n)\x81"),
    "an instance by name": instructions(b"(ios\nsystem\n"),
    "an extension": instructions(b"\x82\x01"),
    "attributes of a list": instructions(b"]}b"),
    "nothing by name": instructions(b"]"),
    "a number": instructions(number(3)),
    "an unknown storage": instructions(ordered(w=tensor(kind="QInt8Storage"))),
    "a storage of another module": instructions(ordered(w=tensor(module="os"))),
    "a shape beyond the storage": instructions(ordered(w=tensor(shape=(3, 3)))),
    "strides beyond the storage": instructions(ordered(w=tensor(strides=(5, 1)))),
    "an offset beyond the storage": instructions(ordered(w=tensor(offset=1))),
    "a negative stride": instructions(ordered(w=tensor(strides=(-3, 1)))),
    "a negative offset": instructions(ordered(w=tensor(offset=-1))),
    "a huge shape of stride 0": instructions(
        ordered(w=tensor(shape=(2**30, 2**30), strides=(0, 0)))
    ),
    "another member's data": instructions(ordered(w=tensor(key="../data.pkl"))),
    "more values than there are": instructions(ordered(w=tensor(size=7))),
    "fewer values than there are": instructions(
        ordered(w=tensor(size=5, shape=(5,), strides=(1,)))
    ),
    "an empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02t.",
    "a missing memo": b"\x80\x02h\x05.",
    "an odd dict": instructions(b"}(" + text("a") + b"u"),
    "an unhashable key": instructions(b"}(]" + number(1) + b"u"),
    "a deep key": instructions(b"}" + DEEP + b"Ns"),
    "deep keys": instructions(b"}(" + DEEP + b"Nu"),
    "a deep name": instructions(b"}" + DEEP + text("x") + b"\x93Ns"),
    "a storage of a deep type": instructions(
        b"("
        + text("storage")
        + text("torch")
        + DEEP
        + b"\x93"
        + (text("0") + number(1)) * 2
        + b"tQ"
    ),
    "deep keys of storages": legacy(instructions(b"](" + DEEP + b"e")),
    "a key of many digits": instructions(b"}" + b"\x8a\x09" + bytes(8) + b"\x01" + b"Ns"),
    "a number of a megabyte": instructions(
        b"}" + text("a") + b"\x8b" + (2**20).to_bytes(4, "little") + b"\x7f" * 2**20 + b"s"
    ),
    "a shape of long numbers": instructions(
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + STORAGE
        + b"K\x00("
        + b"\x8a\xff"
        + b"\x7f" * 255
        + b"t(K\x01ttR"
    ),
    "a number in many figures": instructions(b"}" + text("a") + b"L" + b"9" * 100_000 + b"L\ns"),
    "a text that claims a terabyte": instructions(b"\x8d" + (2**40).to_bytes(8, "little") + b"x"),
    "a line without an end": instructions(b"c" + b"x" * 2**24),
    "two names for one": instructions(ordered(**{"module.w": tensor(), "w": tensor()})),
    "a memo of many digits": b"N" + b"p%d\n" % 2**64 + b"0}.",
    "a shape of many dimensions": instructions(
        ordered(w=tensor(shape=(1,) * 33, strides=(1,) * 33))
    ),
    "a mark that is gone": instructions(b"(tt"),
    "no end": b"\x80\x02}",
    "no pickle": b"\xff\xfe",
    "nothing": b"",
}


# Both layouts interpret instructions alike: the slow deep ones are run in one of them.
CASES = [("bare", case) for case in HOSTILE] + [
    ("zip", case) for case in HOSTILE if "deep" not in case
]


@pytest.mark.parametrize(("layout", "case"), CASES)
def test_hostile_and_damaged_files_are_refused_in_one_line(tmp_path, monkeypatch, case, layout):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    save(path, HOSTILE[case]) if layout == "zip" else path.write_bytes(HOSTILE[case])
    with pytest.raises(InputError) as refused:
        pth.state_dict(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "executed").exists()


def test_a_list_that_holds_itself_is_no_trouble(tmp_path):
    description = instructions(b"}q\x00(" + text("self") + b"h\x00" + text("w") + tensor() + b"u")
    assert list(pth.state_dict(save(tmp_path / "w.pth", description))) == ["w"]


def test_a_deflated_bomb_is_not_inflated(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", instructions(ordered(w=tensor())))
        archive.writestr("archive/data/0", bytes(2**26))
    with pytest.raises(InputError, match="larger than it may be"):
        pth.state_dict(tmp_path / "w.pth")


def test_values_that_a_file_is_too_small_for_are_not_inflated(tmp_path):
    size = pth.SMALL_BYTES + 2**26
    description = instructions(ordered(w=tensor(size=size // 4, shape=(size // 4,), strides=(1,))))
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", description)
        archive.writestr("archive/data/0", bytes(size))
    with toys.memory_below(2**23), pytest.raises(InputError, match=f"claims {size} bytes"):
        pth.state_dict(tmp_path / "w.pth")


def test_many_views_of_one_storage_do_not_become_many_copies(tmp_path):
    views = {
        f"w{i}": tensor(size=2**20, shape=(2**10, 2**10), strides=(1, 2**10)) for i in range(100)
    }
    save(tmp_path / "w.pth", instructions(ordered(**views)), data=bytes(2**22))
    with pytest.raises(InputError, match=f"claims {100 * 2**22} bytes"):
        pth.state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_values_are_held_once(tmp_path, layout):
    size = 2**22
    values, description = (
        np.arange(size, dtype=np.float32),
        instructions(ordered(w=tensor(size=size, shape=(size,), strides=(1,)))),
    )
    path = save(tmp_path / "w.pth", description, data=values.tobytes())
    if layout == "legacy":
        head = [pickle.dumps(part, 2) for part in (pth.LEGACY_MAGIC, 1001, {"little_endian": True})]
        path.write_bytes(
            b"".join(
                [
                    *head,
                    description,
                    pickle.dumps(["0"], 2),
                    size.to_bytes(8, "little"),
                    values.tobytes(),
                ]
            )
        )
    with toys.memory_below(1.3 * values.nbytes):
        got = pth.state_dict(path)["w"]
    np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_nobody_writes_weights_with_are_refused(tmp_path, method):
    """Their decoders inflate without bounds."""
    with zipfile.ZipFile(tmp_path / "w.pth", "w", method) as archive:
        archive.writestr("archive/data.pkl", instructions(ordered(w=tensor())))
        archive.writestr("archive/data/0", VALUES.tobytes())
    with pytest.raises(InputError, match="neither stored nor deflated"):
        pth.state_dict(tmp_path / "w.pth")


PAIR = b"](" + text("a") + b"Ne"
SHAPE = b"(" + b"K\x01" * 20_000 + b"tq\x01"
SLOW = {
    "one shape for many tensors": STORAGE
    + SHAPE
    + b"ctorch._utils\n_rebuild_tensor_v2\n(h\x00K\x00h\x01h\x01tR0" * 10_000
    + b"}",
    "many marks over a deep stack": b"N" * 100_000 + b"(t0" * 100_000 + b"}",
    "one list for many dicts": b"]("
    + PAIR * 30_000
    + b"eq\x00"
    + b"ccollections\nOrderedDict\n(h\x00tR0" * 30_000
    + b"}",
}


def test_a_description_of_too_many_instructions_is_refused(tmp_path):
    save(tmp_path / "w.pth", instructions(b"N" * (pth.MAX_INSTRUCTIONS + 1) + b"}"))
    began = time.process_time()
    with pytest.raises(InputError, match="too long"):
        pth.state_dict(tmp_path / "w.pth")
    assert time.process_time() - began < 20


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "zeros.pth").symlink_to("/dev/zero")
    for name in ("pipe.pth", "zeros.pth"):
        with pytest.raises(InputError, match="not a regular file"):
            pth.state_dict(tmp_path / name)


@pytest.mark.parametrize("case", SLOW)
def test_no_description_takes_long(tmp_path, case):
    save(tmp_path / "w.pth", instructions(SLOW[case]))
    began = time.process_time()
    with pytest.raises(InputError, match=r"no tensors by name|a tensor's shape is not one"):
        pth.state_dict(tmp_path / "w.pth")
    assert time.process_time() - began < 4


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            pth.state_dict(path)


@pytest.mark.reference
def test_published_files_are_read_as_torch_reads_them(shared):
    torch = pytest.importorskip("torch")
    paths = [
        path
        for path in sorted((shared / "weights").iterdir())
        if path.suffix in (".pth", ".th", ".ckpt")
    ]
    assert paths
    for path in paths:
        theirs = torch.load(path, weights_only=True, map_location="cpu")
        theirs = {
            name.removeprefix("module."): value.numpy()
            for name, value in theirs.get("state_dict", theirs).items()
        }
        ours = pth.state_dict(path)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert value.dtype == theirs[name].dtype
            np.testing.assert_array_equal(value, theirs[name])
