"""The fast readers accept a subset of what the exact reader accepts, with the same values; all else they leave."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inferd.core.errors import InferdError
from inferd.core.tensors import Signature, TensorSpec
from inferd.protocols.native.codec import NativeCodec
from inferd.protocols.shared.json_exact import read_exact
from inferd.protocols.shared.json_fast import compile_fast
from inferd.protocols.shared.json_tensors import Doubt, to_array

DATATYPES = ("FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
TOKENS = (
    *("0", "1", "-1", "-0", "1.0", "1.5", "-0.0", "1e2", "1E-400", "127", "128", "-129", "255", "256", "65519.99"),
    *("65520", "2147483648", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("18446744073709551615", "18446744073709551616", "3.4028235e38", "3.4028235677973366e38", "-1e39", "1e400"),
    *("true", "false", "null", '"1"', "NaN", "-Infinity", "[]", "[1]", "{}", "01", "1.", "+1", "1" * 400, "1" * 4301),
)
SHAPES = ((-1, 2), (-1, 1), (-1,), (-1, 2, 2), (-1, 200))

scalars = st.one_of(
    st.sampled_from(TOKENS),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**64), 2**65).map(str),
    st.integers(-3, 300).map(str),
)
ordinary = st.one_of(st.integers(0, 100).map(str), st.floats(-1e4, 1e4).map(repr))


@st.composite
def bodies(draw: st.DrawFn) -> tuple[TensorSpec, bytes]:
    """Mostly well-shaped bodies, with now and then a wrong width, a strange token or broken framing."""
    spec = TensorSpec("x", draw(st.sampled_from(DATATYPES)), draw(st.sampled_from(SHAPES)))
    leaf = draw(st.sampled_from((ordinary, ordinary, scalars)))
    integers = spec.datatype[0] in "IU"

    def tree(sizes: tuple[int, ...]) -> str:
        if not sizes:
            return draw(st.integers(0, 100).map(str) if integers and leaf is ordinary else leaf)
        size = sizes[0] if draw(st.integers(0, 25)) else draw(st.integers(0, 3))
        return "[" + draw(st.sampled_from((",", ", ", " ,\n"))).join(tree(sizes[1:]) for _ in range(size)) + "]"

    rows = tree((draw(st.integers(0, 3)), *spec.shape[1:]))
    key = draw(st.sampled_from(('"instances"',) * 8 + ('"\\u0069nstances"', '"inputs"', '"x"')))
    head = draw(st.sampled_from(("{",) * 8 + (" {", "\ufeff{", "{{", '{"instances":[[1,2]],')))
    tail = draw(st.sampled_from(("}",) * 8 + ("} \r\n", "}x", "}\0", "", ",}", ',"parameters":{}}', "}]")))
    return spec, f"{head}{key}:{rows}{tail}".encode()


def by_exact(spec: TensorSpec, body: bytes) -> np.ndarray | None:
    try:
        tree = read_exact(body, non_finite=False)
        return to_array(tree["instances"], spec, "error") if list(tree) == ["instances"] else None
    except (InferdError, Doubt, TypeError):
        return None


@given(bodies())
@example((TensorSpec("x", "FP32", (-1, 2)), b'{"instances":[[1,[2]],[3,4]]}'))
@example((TensorSpec("x", "FP32", (-1, 2)), b'{"instances":[[1,2],[3],[4,5,6]]}'))
@example((TensorSpec("x", "FP32", (-1, 2)), b'{"instances":[1,2,[[3,4]]]}'))
@example((TensorSpec("x", "FP32", (-1, 2)), b'{"instances":[{},{}]}'))
@example((TensorSpec("x", "FP32", (-1, 2)), b'\xef\xbb\xbf{"instances":[[1,2]]}'))
@example((TensorSpec("x", "FP32", (-1, 200)), b"{" + b'"instances":[[' + b"1," * 199 + b"true]]}"))
def test_fast_readers_agree_with_the_exact_one_or_pass(case: tuple[TensorSpec, bytes]) -> None:
    spec, body = case
    fast = compile_fast(spec, "instances")
    assert fast is not None
    exact = by_exact(spec, body)
    for padded in (body, body.replace(b":[", b":" + b" " * 1100 + b"[", 1)):
        got = fast(padded)
        if got is not None:
            assert exact is not None, padded
            assert got.dtype == exact.dtype
            assert got.shape == exact.shape
            assert got.tobytes() == exact.tobytes()


@given(bodies())
def test_the_codec_accepts_exactly_what_the_exact_reader_accepts(case: tuple[TensorSpec, bytes]) -> None:
    spec, body = case
    codec = NativeCodec(Signature((spec,), (TensorSpec("y", "FP32", (-1,)),)), batchable=True, nan="error")
    exact = by_exact(spec, body)
    if exact is None and b'"inputs"' not in body and b"parameters" not in body:
        with pytest.raises(InferdError):
            codec.decode(body, {})
    elif exact is not None:
        assert codec.decode(body, {})[0].inputs["x"].tobytes() == exact.tobytes()


@pytest.mark.parametrize("shape", [(-1,), (-1, 4), (-1, 200), (-1, 2, 3), (-1, 3, 4, 5)])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_plain_rows_are_read_fast(datatype: str, shape: tuple[int, ...]) -> None:
    spec = TensorSpec("x", datatype, shape)
    fast = compile_fast(spec, "instances")
    assert fast is not None
    want = (np.arange(3 * int(np.prod(shape[1:]))) % 100).reshape(3, *shape[1:]).astype(spec.dtype)
    got = fast(json.dumps({"instances": want.tolist()}).encode())
    assert got is not None
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "spec", [("BOOL", (-1, 2)), ("BYTES", (-1,)), ("FP32", (-1, -1)), ("FP32", (2, 2)), ("FP32", ())]
)
def test_other_tensors_have_no_fast_reader(spec: tuple[str, tuple[int, ...]]) -> None:
    assert compile_fast(TensorSpec("x", *spec), "instances") is None


def test_a_refused_body_does_not_hold_the_parser() -> None:
    fast = compile_fast(TensorSpec("x", "FP32", (-1, 200)), "instances")
    assert fast is not None
    good = json.dumps({"instances": [[1.0] * 200]}).encode()
    for bad in (
        good.replace(b"1.0]", b"true]"),
        good.replace(b"1.0]", b"1e39]"),
        good[:-1],
        good.replace(b"[1.0", b"[[1]"),
    ):
        assert fast(bad) is None
        assert fast(good) is not None


def test_threads_do_not_share_a_parser() -> None:
    fast = compile_fast(TensorSpec("x", "INT64", (-1, 500)), "instances")
    assert fast is not None
    bodies = [json.dumps({"instances": [[number] * 500] * 20}).encode() for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for number, got in enumerate(pool.map(fast, bodies * 20)):
            assert got is not None
            assert (got == number % 8).all()
