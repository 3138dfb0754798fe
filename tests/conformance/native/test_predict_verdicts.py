"""What ``/predict`` answers to each kind of mistake: the status, where it stands, and an example that works."""

import orjson
import pytest

from inferd.core.errors import InferdError
from inferd.core.tensors import Signature, TensorSpec
from inferd.protocols.native.codec import NativeCodec
from inferd.protocols.shared.status import http_status


def codec(*inputs: TensorSpec, batchable: bool = True, nan: str = "error") -> NativeCodec:
    outputs = (TensorSpec("label", "INT64", (-1,)), TensorSpec("score", "FP32", (-1, 3)))
    return NativeCodec(Signature(inputs, outputs), batchable=batchable, nan=nan)  # type: ignore[arg-type]


FP32 = codec(TensorSpec("x", "FP32", (-1, 4)))
PAIR = codec(TensorSpec("x", "FP32", (-1, 2)))
INT64 = codec(TensorSpec("x", "INT64", (-1, 2)))
INT8 = codec(TensorSpec("x", "INT8", (-1, 2)))
UINT64 = codec(TensorSpec("x", "UINT64", (-1, 2)))
FP64 = codec(TensorSpec("x", "FP64", (-1, 2)))
FREE = codec(TensorSpec("x", "FP32", (-1, -1)))
BOOL = codec(TensorSpec("x", "BOOL", (-1,)))
TEXT = codec(TensorSpec("text", "BYTES", (-1,)))
TWO = codec(TensorSpec("age", "FP32", (-1,)), TensorSpec("pixels", "FP32", (-1, 2)))
SOME = codec(TensorSpec("age", "FP32", (-1,)), TensorSpec("weight", "FP32", (-1,), optional=True))
WHOLE = codec(TensorSpec("x", "FP32", (2, 2)), batchable=False)

MALFORMED = {
    "broken": (b'{"instances":[[1,2,3,4]', 23),
    "not JSON": (b"hello", 0),
    "empty": (b"", 0),
    "blank": (b" \n", 0),
    "NaN": (b'{"instances":[[1,2,NaN,4]]}', 19),
    "Infinity": (b'{"instances":[[1,2,3,Infinity]]}', 21),
    "minus Infinity": (b'{"instances":[[-Infinity,2,3,4]]}', 15),
    "repeated member": (b'{"instances":[[1,2,3,4]],"instances":[[1,2,3,4]]}', 25),
    "repeated name deep down": (b'{"instances":[[1,2,3,4]],"parameters":{"a":{"b":1,"b":1}}}', 50),
    "byte order mark": (b'\xef\xbb\xbf{"instances":[[1,2,3,4]]}', 0),
    "not UTF-8": (b'{"instances":[[1,2,3,4]],"parameters":{"a":"\xff"}}', 44),
    "half a surrogate pair": (b'{"instances":[[1,2,3,4]],"parameters":{"a":"\\ud800"}}', 43),
    "300 deep": (b'{"instances":' + b"[" * 300 + b"]" * 300 + b"}", 76),
    "100,000 deep": (b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 76),
    "65 deep in parameters": (b'{"instances":[[1,2,3,4]],"parameters":' + b'{"a":' * 64 + b"1" + b"}" * 65, 353),
    "4,301 digits": (b'{"instances":[[1,2,3,' + b"9" * 4301 + b"]]}", 21),
    "after a character of two bytes": ('{"é":[1,}'.encode(), 9),
    "rubbish at the end": (b'{"instances":[[1,2,3,4]]}x', 25),
    "zero at the end": (b'{"instances":[[1,2,3,4]]}\0', 25),
    "leading zero": (b'{"instances":[[01,2,3,4]]}', 16),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_json_is_400_with_its_byte(name: str) -> None:
    body, offset = MALFORMED[name]
    with pytest.raises(InferdError) as caught:
        FP32.decode(body, {})
    assert http_status(caught.value) == 400
    assert caught.value.details["offset"] == offset


INVALID = {
    "1e400": (FP32, b'{"instances":[[1,2,3,1e400]]}', "instances[0][3]", "1e400"),
    "1e400 for FP64": (FP64, b'{"instances":[[1,1e400]]}', "instances[0][1]", "1e400"),
    "beyond float32": (FP32, b'{"instances":[[1,2,3,4],[1,3.5e38,3,4]]}', "instances[1][1]", "3.5e+38"),
    "a 400-digit integer": (FP32, b'{"instances":[[1,2,3,' + b"1" * 400 + b"]]}", "instances[0][3]", "1" * 59 + "…"),
    "2^63 for INT64": (INT64, b'{"instances":[[1,9223372036854775808]]}', "instances[0][1]", "9223372036854775808"),
    "2^64 for UINT64": (UINT64, b'{"instances":[[1,18446744073709551616]]}', "instances[0][1]", "18446744073709551616"),
    "-1 for UINT64": (UINT64, b'{"instances":[[1,-1]]}', "instances[0][1]", "-1"),
    "128 for INT8": (INT8, b'{"instances":[[128,1]]}', "instances[0][0]", "128"),
    "true in a float column": (FP32, b'{"instances":[[1,2,true,4]]}', "instances[0][2]", "true"),
    "true in an integer column": (INT8, b'{"instances":[[1,true]]}', "instances[0][1]", "true"),
    "1.5 for INT64": (INT64, b'{"instances":[[1,1.5]]}', "instances[0][1]", "1.5"),
    "1.0 for INT64": (INT64, b'{"instances":[[1,1.0]]}', "instances[0][1]", "1.0"),
    "1 for BOOL": (BOOL, b'{"instances":[true,1]}', "instances[1]", "1"),
    "ragged to the same count": (PAIR, b'{"instances":[[1,2],[3],[4,5,6]]}', "instances[1]", "1 values"),
    "ragged in a free dimension": (FREE, b'{"instances":[[1,2],[3]]}', "instances[1]", "1 values"),
    "2 features for 4": (FP32, b'{"instances":[[1,2]]}', "instances[0]", "2 values"),
    "rank too low": (FP32, b'{"instances":[1,2,3,4]}', "instances[0]", "1"),
    "rank too high": (FP32, b'{"instances":[[[1],2,3,4]]}', "instances[0][0]", "an array of 1"),
    "string in a numeric column": (FP32, b'{"instances":[["1",2,3,4]]}', "instances[0][0]", '"1"'),
    "null": (FP32, b'{"instances":[[1,null,3,4]]}', "instances[0][1]", "null"),
    "number for text": (TEXT, b'{"instances":[1]}', "instances[0]", "1"),
    "b64 that is none": (TEXT, b'{"instances":["a",{"b64":"*"}]}', "instances[1]", "an object of 1"),
    "input missing": (TWO, b'{"instances":[{"age":1}]}', "instances[0]", None),
    "input missing later": (TWO, b'{"instances":[{"age":1,"pixels":[1,2]},{"age":1}]}', "instances[1]", None),
    "input unknown": (TWO, b'{"instances":[{"age":1,"pixel":[1,2]}]}', "instances[0].pixel", "pixel"),
    "input wrong": (
        TWO,
        b'{"instances":[{"age":1,"pixels":[1,2]},{"age":1,"pixels":[1]}]}',
        "instances[1].pixels",
        "1 values",
    ),
    "input wrong in columns": (TWO, b'{"inputs":{"age":[1],"pixels":[[1,"2"]]}}', "inputs.pixels[0][1]", '"2"'),
    "fewer rows in one column": (
        TWO,
        b'{"inputs":{"age":[1,2],"pixels":[[1,2]]}}',
        "inputs.pixels",
        "1 rows",
    ),
    "array for objects": (TWO, b'{"instances":[[1,2]]}', "instances[0]", "an array of 2"),
    "object then array": (TWO, b'{"instances":[{"age":1,"pixels":[1,2]},3]}', "instances[1]", "3"),
    "optional in one row": (SOME, b'{"instances":[{"age":1},{"age":1,"weight":2}]}', "instances[1]", ["age", "weight"]),
    "instances no array": (FP32, b'{"instances":5}', "instances", "5"),
    "body no object": (FP32, b"[[1,2,3,4]]", "", "an array of 1"),
    "unknown member": (FP32, b'{"instnces":[[1,2,3,4]]}', "instnces", "an array of 1"),
    "unknown output": (FP32, b'{"instances":[[1,2,3,4]],"outputs":["lable"]}', "outputs[0]", '"lable"'),
    "outputs no array": (FP32, b'{"instances":[[1,2,3,4]],"outputs":"label"}', "outputs", '"label"'),
    "parameters no object": (FP32, b'{"instances":[[1,2,3,4]],"parameters":3}', "parameters", "3"),
    "two instances, not batchable": (
        WHOLE,
        b'{"instances":[[[1,2],[3,4]],[[1,2],[3,4]]]}',
        "instances",
        "an array of 2",
    ),
    "no instance, not batchable": (WHOLE, b'{"instances":[]}', "instances", "an array of 0"),
    "wrong inside the one instance": (WHOLE, b'{"instances":[[[1,2],[3]]]}', "instances[0][1]", "1 values"),
}


@pytest.mark.parametrize("name", INVALID)
def test_what_does_not_fit_is_422_with_its_place_and_an_example_that_fits(name: str) -> None:
    model, body, path, got = INVALID[name]
    with pytest.raises(InferdError) as caught:
        model.decode(body, {})
    assert http_status(caught.value) == 422
    assert caught.value.details["path"] == path
    assert caught.value.details["got"] == got
    model.decode(orjson.dumps(caught.value.details["example"]), {})


def test_both_forms_at_once_are_refused() -> None:
    with pytest.raises(InferdError, match="either") as caught:
        FP32.decode(b'{"instances":[[1,2,3,4]],"inputs":[[1,2,3,4]]}', {})
    assert http_status(caught.value) == 422


def test_near_misses_are_named() -> None:
    with pytest.raises(InferdError, match="did you mean 'instances'"):
        FP32.decode(b'{"instance":[[1,2,3,4]]}', {})
    with pytest.raises(InferdError, match="did you mean 'pixels'"):
        TWO.decode(b'{"inputs":{"age":[1],"pixel":[[1,2]]}}', {})
    with pytest.raises(InferdError, match="did you mean 'label'"):
        FP32.decode(b'{"instances":[[1,2,3,4]],"outputs":["lable"]}', {})


@pytest.mark.parametrize(
    "content", [b"text/plain", b"application/x-www-form-urlencoded", b"application/json; charset=latin-1", b";;", b""]
)
def test_a_wrong_content_type_is_415_listing_the_right_ones(content: bytes) -> None:
    with pytest.raises(InferdError, match="application/json, application/x-npy, application/x-npz") as caught:
        FP32.decode(b'{"instances":[[1,2,3,4]]}', {b"content-type": content})
    assert http_status(caught.value) == 415
    assert ("hint" in caught.value.details) == (content == b"application/x-www-form-urlencoded")


def test_what_a_new_caller_gets_wrong_is_answered_with_the_way_out() -> None:
    form = {b"content-type": b"application/x-www-form-urlencoded"}
    mistakes = [
        (b'{"instances":[[1,2,3,4]]}', form, "-H 'Content-Type: application/json'"),
        (b'{"data":[[1,2,3,4]]}', {}, "known: 'instances', 'inputs'"),
        (b'{"instances":[[1,2,3,null]]}', {}, 'set nan = "null"'),
        (b'{"instances":[[1,2,3,"NaN"]]}', {}, 'set nan = "string"'),
    ]
    for body, headers, words in mistakes:
        with pytest.raises(InferdError) as caught:
            FP32.decode(body, headers)
        assert words in f"{caught.value.message} {caught.value.details.get('hint')}"


@pytest.mark.parametrize("accept", [b"text/html", b"application/json;q=0", b"image/*, text/*", b"application/x-npy"])
def test_an_accept_that_cannot_be_met_is_406(accept: bytes) -> None:
    with pytest.raises(InferdError, match="accept") as caught:
        FP32.decode(b'{"instances":[[1,2,3,4]]}', {b"accept": accept})
    assert http_status(caught.value) == 406


@pytest.mark.parametrize("content", [b"application/json", b"application/json; charset=utf-8", b"Application/JSON"])
def test_json_content_types_are_read(content: bytes) -> None:
    request, _ = FP32.decode(b'{"instances":[[1,2,3,4]]}', {b"content-type": content})
    assert request.inputs["x"].tolist() == [[1, 2, 3, 4]]
