"""NPY and NPZ bodies: shared memory where possible, exact values always, nothing executable ever."""

import pickle
import zipfile
from io import BytesIO

import ml_dtypes
import numpy as np
import pytest

from inferd.core.errors import InvalidRequest, MalformedRequest
from inferd.core.tensors import TensorSpec
from inferd.protocols.shared.npy import fit, read_npy, read_npz, write_npy, write_npz


def npy(array: np.ndarray, **options: bool) -> bytes:
    out = BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def with_header(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize("kind", ["?", "i1", "u2", "i8", "u8", "f2", "f4", "f8", "S3", "U2", ">f4", ">i8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4), (2, 0, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_each_plain_array_is_read(kind: str, shape: tuple[int, ...], order: str) -> None:
    array = np.asarray((np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(kind), order=order)  # type: ignore[call-overload]
    got = read_npy(npy(array))
    np.testing.assert_array_equal(got, array)
    assert got.dtype.isnative
    assert got.flags.c_contiguous


def test_an_aligned_array_shares_the_bodys_memory() -> None:
    body = npy(np.ones((1, 3, 8, 8), np.float32))
    assert np.shares_memory(read_npy(body), np.frombuffer(body, np.uint8))


def test_a_misaligned_array_is_copied() -> None:
    body = with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }" + " " * 3, np.float64(2.5).tobytes())
    got = read_npy(body)
    assert got.flags.aligned
    assert got.tolist() == [2.5]


def test_pickles_are_refused_unread() -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return pytest.fail, ("unpickled",)

    with pytest.raises(MalformedRequest, match="object"):
        read_npy(npy(np.array([Bomb()], dtype=object), allow_pickle=True))
    with pytest.raises(MalformedRequest, match="not an NPY"):
        read_npy(pickle.dumps(Bomb()))
    out = BytesIO()
    np.savez(out, x=np.array([Bomb()], dtype=object))
    with pytest.raises(MalformedRequest, match="object"):
        read_npz(out.getvalue())


GOOD = npy(np.ones(4, np.float32))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + GOOD[8:],
        b"\x93NUMPY\x01\x00\xff\xff" + GOOD[10:],
        GOOD[:20],
        GOOD[:-1],
        GOOD + b"x",
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8), }"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }", b"\0" * 4),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999999, 0), }"),
        with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"\0" * 4),
        with_header("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,), }", b"\0" * 8),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 40 + "), }", b"\0" * 4),
        with_header("{'descr': 'U0', 'fortran_order': False, 'shape': (4611686018427387904,), }"),
        with_header("__import__('os').getcwd()"),
        with_header("(" * 5000),
        with_header("{'descr': '\xff'}"),
    ],
)
def test_a_broken_file_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_npy(body)


def test_an_archive_that_expands_without_measure_is_refused() -> None:
    out = BytesIO()
    np.savez_compressed(out, x=np.zeros(1_000_000, np.float32))
    with pytest.raises(MalformedRequest, match="expands"):
        read_npz(out.getvalue())


def test_a_compressed_archive_is_read() -> None:
    out = BytesIO()
    np.savez_compressed(out, x=np.arange(1000.0))
    assert read_npz(out.getvalue())["x"].tolist() == list(range(1000))


def test_broken_archives_are_malformed() -> None:
    good = write_npz({"x": np.ones(3)})
    twice = BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("x.npy", GOOD)
        archive.writestr("x", GOOD)
    for body in (b"", b"PK\x05\x06", good[:-10], good.replace(b"NUMPY", b"NUMPX"), twice.getvalue()):
        with pytest.raises(MalformedRequest):
            read_npz(body)


def test_what_is_written_can_be_read() -> None:
    arrays = {
        "text": np.array([b"a", "é".encode()], dtype=object),
        "bytes": np.array([b"\xff", b"a"], dtype=object),
        "brain": np.array([1.5], ml_dtypes.bfloat16),
        "view": np.arange(6).reshape(2, 3).T,
    }
    got = read_npz(write_npz(arrays))
    assert got["text"].tolist() == ["a", "é"]
    assert got["bytes"].tolist() == [b"\xff", b"a"]
    assert got["brain"].tolist() == [1.5]
    np.testing.assert_array_equal(got["view"], arrays["view"])
    assert read_npy(write_npy(np.float32(2))).shape == ()


@pytest.mark.parametrize(
    ("array", "datatype", "want"),
    [
        (np.array([1.5]), "FP32", [1.5]),
        (np.array([np.nan, np.inf]), "FP32", [np.nan, np.inf]),
        (np.array([2]), "FP32", [2.0]),
        (np.array([1.5], np.float32), "FP64", [1.5]),
        (np.array([-128]), "INT8", [-128]),
        (np.array([2**63 - 1], np.uint64), "INT64", [2**63 - 1]),
        (np.array([1.5], np.float32), "BF16", [1.5]),
        (np.array([1.5], ml_dtypes.bfloat16).view("V2"), "BF16", [1.5]),
        (np.array(["é"]), "BYTES", ["é".encode()]),
        (np.array([b"\xff"]), "BYTES", [b"\xff"]),
        (np.array([True]), "BOOL", [True]),
    ],
)
def test_values_that_fit_are_converted(array: np.ndarray, datatype: str, want: list) -> None:
    spec = TensorSpec("x", datatype, (-1,))
    got = fit(array, spec)
    assert got.dtype == spec.dtype
    np.testing.assert_array_equal(got, np.array(want, dtype=spec.dtype))


@pytest.mark.parametrize(
    ("array", "datatype"),
    [
        (np.array([1e39]), "FP32"),
        (np.array([70000], np.float32), "FP16"),
        (np.array([128]), "INT8"),
        (np.array([2**63], np.uint64), "INT64"),
        (np.array([1.0]), "INT64"),
        (np.array([True]), "FP32"),
        (np.array([1]), "BOOL"),
        (np.array(["1"]), "FP32"),
        (np.array([1]), "BYTES"),
        (np.array([[1.0]]), "FP64"),
    ],
)
def test_values_that_do_not_fit_are_refused(array: np.ndarray, datatype: str) -> None:
    with pytest.raises(InvalidRequest, match="input 'x'") as caught:
        fit(array, TensorSpec("x", datatype, (-1,)))
    assert caught.value.details["tensor"] == "x"
