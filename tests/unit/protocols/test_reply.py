"""What ``/predict`` carries out: forms, datatypes, text, NaN, NPY; every value exactly."""

import json
from io import BytesIO

import ml_dtypes
import numpy as np
import pytest

from inferd.core.errors import ExecutionFailed, NotAcceptable
from inferd.core.tensors import Signature, TensorSpec
from inferd.protocols.native.codec import NativeCodec
from inferd.protocols.shared.json_reply import JsonReply
from inferd.protocols.shared.json_write import NAN_HEADER

X = TensorSpec("x", "FP32", (-1,))


def reply(outputs: dict[str, np.ndarray], form: str = "rows", nan: str = "error") -> object:
    body, extra = JsonReply(tuple(outputs), form, nan).encode(outputs)  # type: ignore[arg-type]
    assert extra == b""
    return json.loads(body, parse_constant=pytest.fail)


def chosen(outputs: tuple[TensorSpec, ...], body: bytes, accept: bytes = b"*/*", **options):
    codec = NativeCodec(Signature((X,), outputs), nan="error", **{"batchable": True, **options})
    return codec.decode(body, {b"accept": accept})[1]


@pytest.mark.parametrize("rank", range(1, 9))
def test_one_output_is_bare(rank: int) -> None:
    array = np.arange(2**rank, dtype=np.float32).reshape((2,) * rank)
    assert reply({"y": array}) == {"predictions": array.tolist()}
    assert reply({"y": array}, "columns") == {"outputs": array.tolist()}
    assert reply({"y": array}, "one") == {"predictions": [array.tolist()]}


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize("tail", [(), (1,), (3,), (2, 2), (2, 1, 2), (0,), (2, 0)])
def test_several_outputs_are_one_object_per_row(rows: int, tail: tuple[int, ...]) -> None:
    scores = np.arange(rows * int(np.prod(tail)), dtype=np.float32).reshape(rows, *tail)
    labels = np.array(["a,b", "],[", 'c"', "", "null"][:rows], dtype=object)
    want = [{"score 100%": s, "label": n} for s, n in zip(scores.tolist(), labels.tolist(), strict=True)]
    assert reply({"score 100%": scores, "label": labels}) == {"predictions": want}


def test_several_outputs_in_other_forms_are_whole_tensors_by_name() -> None:
    outputs = {"a": np.array([1, 2]), "b": np.array([[1.5], [2.5]])}
    assert reply(outputs, "columns") == {"outputs": {"a": [1, 2], "b": [[1.5], [2.5]]}}
    assert reply(outputs, "one") == {"predictions": [{"a": [1, 2], "b": [[1.5], [2.5]]}]}


@pytest.mark.parametrize(
    "array",
    [
        np.array([2**63 - 1, -(2**63)]),
        np.array([2**64 - 1], np.uint64),
        np.array([0.1, 5e-324, 1.7976931348623157e308]),
        np.array([[True, False]]),
        np.array([1.5, 65504], np.float16),
        np.array([1.5, 2.5], ">f4"),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(8.0)[::2],
        np.array([0.5, -3], ml_dtypes.bfloat16),
        np.array(["é", "b"]),
        np.float64(2.5),
        np.array(7),
        np.array(True),
        np.array("text", dtype=object),
    ],
)
def test_each_kind_of_array_is_written_exactly(array: np.ndarray) -> None:
    assert reply({"y": array}, "columns") == {"outputs": array.tolist()}


def test_float32_is_written_in_its_own_digits() -> None:
    assert JsonReply(("y",), "rows", "error").encode({"y": np.array([0.1], np.float32)})[0] == b'{"predictions":[0.1]}'


def test_bytes_that_are_no_text_are_base64() -> None:
    array = np.array([[b"ok", b"\xff"]], dtype=object)
    assert reply({"y": array}) == {"predictions": [["ok", {"b64": "/w=="}]]}


class TestNanPolicies:
    STRANGE = np.array([[1, np.nan], [np.inf, -np.inf]], np.float32)

    def test_error_names_the_output_and_the_way_out(self) -> None:
        with pytest.raises(ExecutionFailed, match=r"output 'y' .*null.*string"):
            reply({"y": self.STRANGE})

    def test_null_is_announced_as_lossy(self) -> None:
        body, extra = JsonReply(("y",), "rows", "null").encode({"y": self.STRANGE})
        assert json.loads(body) == {"predictions": [[1, None], [None, None]]}
        assert extra == NAN_HEADER

    def test_string_spells_each_value(self) -> None:
        want = [[1, "NaN"], ["Infinity", "-Infinity"]]
        assert reply({"y": self.STRANGE}, nan="string") == {"predictions": want}
        assert reply({"n": np.array(["null", "b"]), "y": self.STRANGE}, nan="string") == {
            "predictions": [{"n": "null", "y": want[0]}, {"n": "b", "y": want[1]}]
        }

    def test_the_word_null_in_text_is_not_lossy(self) -> None:
        for policy in ("error", "null", "string"):
            assert reply({"y": np.array(["null"], dtype=object)}, nan=policy) == {"predictions": ["null"]}


def test_what_json_cannot_express_is_the_models_failure() -> None:
    with pytest.raises(ExecutionFailed, match="output 'y'"):
        reply({"y": np.array([1j])})
    with pytest.raises(ExecutionFailed, match="output 'y'"):
        reply({"y": np.array([object()], dtype=object)})
    with pytest.raises(ExecutionFailed, match="no output 'y'"):
        JsonReply(("y",), "rows", "error").encode({})


Y, Z = TensorSpec("y", "FP32", (-1,)), TensorSpec("z", "FP32", (-1,))
VALUES = {"y": np.array([1.5], np.float32), "z": np.array([2.5], np.float32)}


def test_the_form_of_the_answer_is_the_requests() -> None:
    assert chosen((Y,), b'{"instances":[1]}').encode(VALUES)[0] == b'{"predictions":[1.5]}'
    assert chosen((Y,), b'{"inputs":[1]}').encode(VALUES)[0] == b'{"outputs":[1.5]}'
    assert chosen((Y,), b'{"instances":[[1]]}', batchable=False).encode(VALUES)[0] == b'{"predictions":[[1.5]]}'


def test_the_outputs_are_those_asked_for() -> None:
    assert chosen((Y, Z), b'{"instances":[1]}').encode(VALUES)[0] == b'{"predictions":[{"y":1.5,"z":2.5}]}'
    assert chosen((Y, Z), b'{"instances":[1],"outputs":["z"]}').encode(VALUES)[0] == b'{"predictions":[2.5]}'
    only = chosen((Y, Z), b'{"instances":[1]}', select_outputs=("z",))
    assert only.encode(VALUES)[0] == b'{"predictions":[2.5]}'


def test_npy_carries_one_output_and_npz_several() -> None:
    one = chosen((Y,), b'{"instances":[1]}', b"application/x-npy")
    assert one.content_type == b"application/x-npy"
    assert np.load(BytesIO(one.encode(VALUES)[0])).tolist() == [1.5]
    several = chosen((Y, Z), b'{"instances":[1]}', b"application/x-npz")
    assert several.content_type == b"application/x-npz"
    assert np.load(BytesIO(several.encode(VALUES)[0]))["z"].tolist() == [2.5]
    with pytest.raises(NotAcceptable, match="carries one output"):
        chosen((Y, Z), b'{"instances":[1]}', b"application/x-npy")


@pytest.mark.parametrize(
    ("accept", "content"),
    [
        (b"*/*", b"application/json"),
        (b"application/*", b"application/json"),
        (b"text/html, application/x-npy;q=0.9, */*;q=0.1", b"application/x-npy"),
        (b"application/x-npz;q=0.2, application/json;q=0.3", b"application/json"),
        (b"application/x-npy, application/json", b"application/json"),
        (b"*/*, application/json;q=0", b"application/x-npy"),
        (b"", b"application/json"),
    ],
)
def test_the_accepted_type_of_most_weight_is_taken(accept: bytes, content: bytes) -> None:
    assert chosen((Y,), b'{"instances":[1]}', accept).content_type == content
