"""Arrays are read as their packages write them; hostile files are refused."""

import io
import zipfile

import numpy as np
import pytest
import toys

from genjax.errors import InputError
from genjax.files import pth, tensors

ARRAYS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.float32(3),
    "empty": np.zeros((0, 3), np.int64),
    "half": np.ones(3, np.float16),
    "yes": np.array([True, False]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, save):
    save(tmp_path / "w.npz", **ARRAYS)
    got = tensors.read(tmp_path / "w.npz")
    assert got.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert got[name].dtype == array.dtype
        assert got[name].flags.writeable
        np.testing.assert_array_equal(got[name], array, strict=True)


def npy(shape, values=b"", dtype="<f4") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue() + values


def archive(content: bytes, method=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("w.npy", content)
    return buffer.getvalue()


def patched(data: bytes, offset: int, value: bytes) -> bytes:
    """Change a field, at `offset` of the local header, in both of its headers."""
    central = data.index(b"PK\x01\x02") + 2 + offset
    data = data[:offset] + value + data[offset + len(value) :]
    return data[:central] + value + data[central + len(value) :]


def damaged(data: bytes) -> bytes:
    middle = data.index(b"w.npy") + 40
    return (
        data[:middle]
        + bytes(255 - byte for byte in data[middle : middle + 20])
        + data[middle + 20 :]
    )


WHOLE = npy((6,), np.arange(6, dtype=np.float32).tobytes())
HOSTILE = {
    "damaged deflate": damaged(
        archive(npy((2**10,), np.random.default_rng(0).bytes(2**12)), zipfile.ZIP_DEFLATED)
    ),
    "damaged values": damaged(archive(WHOLE)),
    "a header that claims 4 TiB": archive(npy((2**40,))),
    "a header that claims less than there is": archive(npy((3,), bytes(24))),
    "a negative shape": archive(npy((-6,), bytes(24))),
    "a directory that claims 3 GiB": patched(archive(WHOLE), 22, (3 * 2**30).to_bytes(4, "little")),
    "a directory that claims 1 MiB": patched(archive(WHOLE), 22, (2**20).to_bytes(4, "little")),
    "an encrypted member": patched(archive(WHOLE), 6, b"\x01\x00"),
    "an unknown method": patched(archive(WHOLE), 8, b"\x63\x00"),
    "bzip2, which inflates without bounds": archive(WHOLE, zipfile.ZIP_BZIP2),
    "a bomb": archive(npy((2**25,), bytes(2**27)), zipfile.ZIP_DEFLATED),
    "an unknown version": archive(WHOLE.replace(b"NUMPY\x01", b"NUMPY\x09")),
    "a header of brackets": archive(b"\x93NUMPY\x01\x00\xe0\x15" + b"(" * 5600),
    "objects": archive(npy((1,), b"\x80\x02N.", "|O")),
    "no array": archive(b"text"),
    "cut short": archive(WHOLE)[:-30],
    "nothing": b"",
    "no archive": b"text",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_damaged_archives_are_refused_in_one_line_and_little_memory(tmp_path, case):
    path = tmp_path / "w.npz"
    path.write_bytes(HOSTILE[case])
    with toys.memory_below(2**23), pytest.raises(InputError) as refused:
        tensors.read(path)
    assert str(refused.value).startswith(f"{path}: cannot be read (")
    assert str(refused.value).endswith("; give an intact .npz")
    assert "\n" not in str(refused.value)


def test_many_members_together_are_bounded(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(5):
            file.writestr(
                f"{number}.npy", npy((pth.SMALL_BYTES // 16,), bytes(pth.SMALL_BYTES // 4))
            )
    with pytest.raises(InputError, match="more than a file of its size holds"):
        tensors.read(tmp_path / "w.npz")


def test_zeros_shrink_and_are_no_bomb(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", bias=np.zeros(2**22, np.float32))
    assert tensors.read(tmp_path / "w.npz")["bias"].shape == (2**22,)


@pytest.mark.parametrize(
    "content", [b"", b"text", bytes(100), (2**40).to_bytes(8, "little") + b"{}"], ids=range(4)
)
def test_damaged_safetensors_are_refused(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(
        InputError, match=r"w\.safetensors: cannot be read \(.*; give an intact \.safetensors"
    ):
        tensors.read(tmp_path / "w.safetensors")


def safetensors(header: str, values: bytes = bytes(8)) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + values


def described(shape="[2]", offsets="[0, 8]", dtype='"F32"') -> str:
    return f'{{"dtype": {dtype}, "shape": {shape}, "data_offsets": {offsets}}}'


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint16, np.bool_]
)
def test_safetensors_are_read_as_their_package_writes_them(tmp_path, dtype):
    from safetensors.numpy import save_file

    arrays = {
        "w": np.arange(6).reshape(2, 3).astype(dtype),
        "scalar": np.asarray(3, dtype),
        "none": np.zeros((0, 2), dtype),
        "\u00e9": np.ones(5, np.float32),
    }
    save_file(arrays, tmp_path / "w.safetensors", metadata={"format": "x"})
    got = tensors.read(tmp_path / "w.safetensors")
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array, strict=True)
        assert got[name].flags.writeable


def named(**arrays: str) -> str:
    return "{" + ", ".join(f'"{name}": {entry}' for name, entry in arrays.items()) + "}"


LIES = {
    "one name twice": named(a=described("[1]", "[0, 4]"))[:-1]
    + ", "
    + named(a=described("[1]", "[4, 8]"))[1:],
    "overlapping values": named(a=described(), b=described()),
    "a gap": named(a=described("[1]", "[4, 8]")),
    "fewer values than there are": named(a=described("[1]", "[0, 4]")),
    "more values than there are": named(a=described("[4]", "[0, 16]")),
    "another shape": named(a=described("[3]")),
    "a negative shape": named(a=described("[-2]", "[0, -8]")),
    "a huge shape": named(a=described("[1099511627776, 1099511627776]")),
    "many dimensions": named(a=described(str([1] * 40 + [2]))),
    "texts as numbers": named(a=described('["2"]')),
    "an unknown dtype": named(a=described(dtype='"F8_E4M3"')),
    "no description": named(a="3"),
    "a list": "[]",
    "brackets": "[" * 5000,
}


@pytest.mark.parametrize("case", LIES)
def test_headers_of_safetensors_that_lie_are_refused(tmp_path, case):
    (tmp_path / "w.safetensors").write_bytes(safetensors(LIES[case]))
    with pytest.raises(InputError, match=r"w\.safetensors: cannot be read \("):
        tensors.read(tmp_path / "w.safetensors")


def test_one_member_twice_and_other_things_than_numbers_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as file:
        file.writestr("w.npy", npy((1,), bytes(4)))
        file.writestr("w", npy((1,), bytes(4)))
    with pytest.raises(InputError, match="two members of one name"):
        tensors.read(tmp_path / "w.npz")
    for array in (
        np.array(["text"]),
        np.zeros(3, np.complex64),
        np.zeros(3, "M8[s]"),
        np.zeros(3, [("a", "f4")]),
    ):
        np.savez(tmp_path / "w.npz", w=array)
        with pytest.raises(InputError, match="no numbers"):
            tensors.read(tmp_path / "w.npz")


def test_arrays_that_are_not_finite_are_named():
    tensors.check_finite(
        {"a": np.ones(3, np.float32), "b": np.arange(3), "c": np.zeros(0, np.float16)}
    )
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(InputError, match="'b' is not finite"):
            tensors.check_finite({"a": np.ones(3), "b": np.array([0, value])})
    with pytest.raises(InputError, match="'a' is not finite"):
        tensors.check_finite({"a": np.array([1e300])})  # infinite as float32, which weights become
