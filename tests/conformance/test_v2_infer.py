"""V2 inference over both fronts: the bytes that go in and come out, and what callers get wrong."""

import gzip
import json
import struct
import threading
import zlib

import ml_dtypes
import numpy as np
import pytest
from backports import zstd
from fronts_support import Served, request

INFER = "/v2/models/double/infer"


class Many:
    """Gives back what it gets, in many types; ``scores`` are two per row."""

    inputs = {"x": "FP32[-1, 2]", "n": "INT64[-1]", "text": "BYTES[-1]", "half": "FP16[-1]", "brain": "BF16[-1]"}
    outputs = {**inputs, "scores": "FP32[-1, 2]"}
    batchable = True
    gate = threading.Event()

    def predict(self, x, n, text, half, brain):
        return {"x": x, "n": n, "text": text, "half": half, "brain": brain, "scores": x}


class Double:
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True
    gate = threading.Event()

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


class Text(Double):
    inputs = {"text": "BYTES[-1]"}
    outputs = {"back": "BYTES[-1]"}

    def predict(self, text):
        return text


@pytest.fixture(scope="module", params=["hot", "asgi"])
def double(request):
    served = Served(Double(), front=request.param)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def many():
    served = Served(Many())
    yield served
    served.stop()


def tensor(name, datatype, shape, data=None, **parameters):
    entry = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        entry["data"] = data
    return {**entry, "parameters": parameters} if parameters else entry


def infer(body, *headers, raw=b"", path=INFER):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"Inference-Header-Content-Length: {len(text)}",) if raw else ()
    return request(path, text + raw, headers=(*lines, *headers))


X = {"inputs": [tensor("x", "FP32", [2, 2], [1, 2, 3, 4])]}
GOLDEN = (
    b'{"model_name":"double","model_version":"1","id":"a",'
    b'"outputs":[{"name":"y","datatype":"FP32","shape":[2,2],"data":[2.0,4.0,6.0,8.0]}]}'
)


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[1.0, 2e0], [3, 4]]])
def test_json_flat_or_nested_gives_the_golden_answer(double, data):
    reply = double.ask(infer({"id": "a", "inputs": [tensor("x", "FP32", [2, 2], data)]}))
    assert (reply.status, reply.body) == (200, GOLDEN)
    assert reply.headers["content-type"] == "application/json"


def test_a_version_is_asked_by_its_path(double):
    assert double.ask(infer(X, path="/v2/models/double/versions/1/infer")).status == 200
    assert double.ask(infer(X, path="/v2/models/double/versions/2/infer")).status == 404


def test_the_same_text_twice_is_answered_the_same(double):
    assert len({double.ask(infer({"id": "a", **X})).body for _ in range(3)}) == 1


HEAD, TAIL = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":', b"}]}"


@pytest.mark.parametrize(
    "values",
    [
        b"", b"[]", b"[1]", b"[1,2,3]", b"[1,2]]", b"[[1,2]", b"[1,2],", b'"[1,2]"', b"1,2", b"[1,null]", b"[1,true]",
        b"{}", b"[NaN,1]", b"[1e39,1]", b'[1,2],"data":[3,4]', b'[1,2],"shape":[1,1]', b'[1,2]},{"name":"x"',
        b"[1,2] [3,4]",
    ],
)  # fmt: skip
def test_what_only_looks_like_the_text_before_is_read_anew(double, values):
    first, second = (
        json.loads(double.ask(infer(HEAD + text + TAIL)).body)["outputs"][0]["data"]
        for text in (b"[1,2]", b" [ [3, 4] ] ")
    )
    assert (first, second) == ([2, 4], [6, 8])
    assert double.ask(infer(HEAD + values + TAIL)).status == 400
    other = HEAD.replace(b"[1,2]", b"[2,2]") + b"[1,2,3,4]" + TAIL
    assert json.loads(double.ask(infer(other)).body)["outputs"][0]["shape"] == [2, 2]


def test_binary_in_and_out_is_the_golden_message(double):
    raw = struct.pack("<4f", 1, 2, 3, 4)
    body = {
        "inputs": [tensor("x", "FP32", [2, 2], binary_data_size=16)],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    reply = double.ask(infer(body, raw=raw))
    length = int(reply.headers["inference-header-content-length"])
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.body[:length] == (
        b'{"model_name":"double","model_version":"1","outputs":'
        b'[{"name":"y","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]}'
    )
    assert struct.unpack("<4f", reply.body[length:]) == (2, 4, 6, 8)


def test_binary_output_may_be_asked_for_all_outputs_at_once(double):
    reply = double.ask(infer({**X, "parameters": {"binary_data_output": True}}))
    assert "inference-header-content-length" in reply.headers


def test_a_body_may_be_the_one_tensor_and_nothing_else(double):
    no_json = "Inference-Header-Content-Length: 0"
    for rows in (1, 3, 0):
        raw = np.arange(2 * rows, dtype="<f4").tobytes()
        reply = double.ask(request(INFER, raw, headers=(no_json,)))
        length = int(reply.headers["inference-header-content-length"])
        assert json.loads(reply.body[:length])["outputs"][0]["shape"] == [rows, 2]
        assert reply.body[length:] == (2 * np.arange(2 * rows, dtype="<f4")).tobytes()
    for size in (1, 7, 9):
        reply = double.ask(request(INFER, b"x" * size, headers=(no_json,)))
        assert (reply.status, "binary_data_size" in reply.json["error"]) == (400, True)


def test_such_a_body_is_a_text_without_its_length_where_the_model_takes_one():
    served = Served(Text())
    try:
        reply = served.ask(request(INFER, b"\xffa text", headers=("Inference-Header-Content-Length: 0",)))
        assert reply.body.endswith(struct.pack("<I", 7) + b"\xffa text")
    finally:
        served.stop()


def test_such_a_body_is_refused_by_a_model_of_several_inputs(many):
    reply = many.ask(request(INFER, b"12345678", headers=("Inference-Header-Content-Length: 0",)))
    assert (reply.status, "has no JSON" in reply.json["error"]) == (400, True)


def test_generate_gives_the_golden_answer(double):
    reply = double.ask(request("/v2/models/double/generate", b'{"id":"a","x":[1,2]}'))
    golden = b'{"id":"a","model_name":"double","model_version":"1","y":[2.0,4.0]}'
    assert (reply.status, reply.body) == (200, golden)
    streamed = double.ask(request("/v2/models/double/generate_stream", b'{"id":"a","x":[1,2]}'))
    assert (streamed.status, streamed.body) == (200, b"data: " + golden + b"\n\n")


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd.compress)]
)
def test_bodies_may_be_compressed(double, encoding, pack):
    packed = pack(json.dumps({"id": "a", **X}).encode())
    reply = double.ask(infer(packed, f"Content-Encoding: {encoding}"))
    assert reply.body == GOLDEN


@pytest.mark.parametrize(
    ("encoding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress), ("zstd", zstd.decompress)]
)
def test_large_answers_are_compressed_when_asked(double, encoding, unpack):
    body = {"inputs": [tensor("x", "FP32", [500, 2], [1] * 1000)]}
    reply = double.ask(infer(body, f"Accept-Encoding: {encoding}"))
    assert reply.headers["content-encoding"] == encoding
    assert json.loads(unpack(reply.body))["outputs"][0]["data"] == [2.0] * 1000


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd.compress)]
)
def test_a_body_that_expands_beyond_the_limit_is_refused(double, encoding, pack):
    bomb = pack(b" " * (65 << 20))
    assert len(bomb) < 1 << 17
    assert double.ask(infer(bomb, f"Content-Encoding: {encoding}")).status == 413
    assert double.ask(infer(X)).status == 200


BIG = 2**63 - 1
ROW = [
    tensor("x", "FP32", [1, 2], [0.25, 0.75]),
    tensor("n", "INT64", [1], [BIG]),
    tensor("text", "BYTES", [1], ["ü"]),
    tensor("half", "FP16", [1], [0.5]),
    tensor("brain", "BF16", [1], binary_data_size=2),
]


def test_types_mix_in_json_and_binary_and_stay_exact(many):
    raw = np.array([1.5], ml_dtypes.bfloat16).tobytes()
    wanted = [{"name": name} for name in ("n", "text", "half")]
    wanted += [{"name": "brain", "parameters": {"binary_data": True}}]
    reply = many.ask(infer({"inputs": ROW, "outputs": wanted}, raw=raw))
    assert reply.status == 200, reply.body
    length = int(reply.headers["inference-header-content-length"])
    outputs = {each["name"]: each for each in json.loads(reply.body[:length])["outputs"]}
    assert [outputs[name]["data"] for name in ("n", "text", "half")] == [[BIG], ["ü"], [0.5]]
    assert reply.body[length:] == raw
    assert set(outputs) == {"n", "text", "half", "brain"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_json_cannot_answer_is_the_callers_if_it_came_from_there(double, value):
    raw = np.float32([1, value]).tobytes()
    head = {"inputs": [tensor("x", "FP32", [1, 2], binary_data_size=8)]}
    reply = double.ask(infer(head, raw=raw))
    assert (reply.status, "Input 'x' holds such a value" in reply.json["error"]) == (400, True)
    binary = double.ask(infer({**head, "parameters": {"binary_data_output": True}}, raw=raw))
    assert (binary.status, binary.body[-8:]) == (200, np.float32([2, 2 * value]).tobytes())


def test_bytes_need_not_be_text(many):
    element = b"\xff\x00\xfe"
    inputs = [dict(entry) for entry in ROW]
    packed = struct.pack("<I", 3) + element
    inputs[2] = tensor("text", "BYTES", [1], binary_data_size=len(packed))
    wanted = [{"name": "text", "parameters": {"binary_data": True}}]
    raw = packed + b"\x00\x00"
    reply = many.ask(infer({"inputs": inputs, "outputs": wanted}, raw=raw))
    assert reply.status == 200, reply.body
    assert reply.body.endswith(packed)


def test_classes_come_instead_of_scores(many):
    wanted = [{"name": "scores", "parameters": {"classification": 1}}]
    reply = many.ask(infer({"inputs": ROW, "outputs": wanted}, raw=b"\x00\x00"))
    assert reply.json["outputs"][0]["data"] == ["0.750000:1"]
    assert reply.json["outputs"][0]["datatype"] == "BYTES"


def x(**changes):
    return {"inputs": [{**tensor("x", "FP32", [1, 2], [1, 2]), **changes}]}


def sized(size, raw, shape=(1, 2), datatype="FP32"):
    return {"inputs": [tensor("x", datatype, list(shape), binary_data_size=size)]}, raw


WRONG = {
    "no JSON": b"",
    "broken JSON": b'{"inputs": [',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "NaN": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[NaN,1]}]}',
    "Infinity": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,Infinity]}]}',
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(X).encode(),
    "bad UTF-8": b'{"id":"\xff","inputs":[]}',
    "deep nesting": b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "5,000 digits": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,' + b"9" * 5000 + b"]}]}",
    "duplicate members": b'{"inputs":[],"inputs":[]}',
    "no inputs": {},
    "inputs an object": {"inputs": {}},
    "inputs empty": {"inputs": []},
    "an input a number": {"inputs": [1]},
    "an unknown member": {**X, "instances": []},
    "an unknown member of an input": x(values=[1]),
    "another model than the path's": {**X, "model_name": "triple"},
    "model_name a number": {**X, "model_name": 5},
    "id a number": {**X, "id": 5},
    "no name": {"inputs": [{"datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]},
    "an unknown name": x(name="z"),
    "the same input twice": {"inputs": [x()["inputs"][0]] * 2},
    "another datatype": x(datatype="FP64"),
    "an unknown datatype": x(datatype="FP31"),
    "datatype a number": x(datatype=32),
    "shape a number": x(shape=2),
    "a negative size": x(shape=[-1, 2]),
    "a size that is no integer": x(shape=[1.0, 2]),
    "a size that is true": x(shape=[True, 2]),
    "a wrong rank": x(shape=[2]),
    "another width": x(shape=[1, 3], data=[1, 2, 3]),
    "too few values": x(data=[1]),
    "too many values": x(data=[1, 2, 3]),
    "ragged values": x(shape=[2, 2], data=[[1, 2], [3]]),
    "mixed nesting": x(shape=[2, 2], data=[[1, 2], 3, 4]),
    "a text for a number": x(data=["1", 2]),
    "null for a number": x(data=[None, 2]),
    "true for a number": x(data=[True, 2]),
    "data an object": x(data={}),
    "data null": x(data=None),
    "a number beyond FP32": x(data=[1e39, 2]),
    "a shape that overflows": x(shape=[2**62, 2**62]),
    "a shape that hides behind 0": x(shape=[0, 2**62, 2**62]),
    "a rank of 40": x(shape=[1] * 40),
    "an integer of 100 digits as a size": x(shape=[10**100, 2]),
    "outputs an object": {**X, "outputs": {}},
    "an unknown output": {**X, "outputs": [{"name": "z"}]},
    "an output twice": {**X, "outputs": [{"name": "y"}, {"name": "y"}]},
    "an output without a name": {**X, "outputs": [{}]},
    "binary_data a text": {**X, "outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]},
    "classification 0": {**X, "outputs": [{"name": "y", "parameters": {"classification": 0}}]},
    "classification a text": {**X, "outputs": [{"name": "y", "parameters": {"classification": "3"}}]},
    "parameters a list": {**X, "parameters": []},
    "timeout negative": {**X, "parameters": {"timeout": -1}},
    "timeout a text": {**X, "parameters": {"timeout": "1"}},
    "priority true": {**X, "parameters": {"priority": True}},
    "sequence_id too long": {**X, "parameters": {"sequence_id": "s" * 129}},
    "sequence_start 1": {**X, "parameters": {"sequence_start": 1}},
    "data and a binary size": x(parameters={"binary_data_size": 8}),
    "a size and no binary part": sized(8, b"")[0],
}
WRONG_BINARY = {
    "too few bytes": sized(8, b"\0" * 7),
    "too many bytes": sized(8, b"\0" * 9),
    "a size that is not the shape's": sized(4, b"\0" * 4),
    "a size beyond 64 bits": sized(2**70, b"\0" * 8),
    "a negative size": sized(-8, b"\0" * 8),
    "a size that is true": sized(True, b"\0"),
    "a size that is text": sized("8", b"\0" * 8),
    "a BYTES length past the end": sized(6, struct.pack("<I", 99) + b"ab", (1,), "BYTES"),
    "a BYTES tensor cut off": sized(3, b"\0\0\0", (1,), "BYTES"),
    "BYTES after the last element": sized(9, struct.pack("<I", 1) + b"abcde", (1,), "BYTES"),
    "a BYTES shape beyond memory": sized(8, b"\0" * 8, (2**40,), "BYTES"),
}


def test_the_models_name_may_be_repeated_in_the_body(double):
    assert double.ask(infer({"id": "a", "model_name": "double", **X})).body == GOLDEN


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_mistake_in_the_json_is_told_and_the_server_goes_on(double, body):
    reply = double.ask(infer(body))
    assert 400 <= reply.status < 500
    assert list(reply.json) == ["error"]
    assert double.ask(infer({"id": "a", **X})).body == GOLDEN


@pytest.mark.parametrize(("body", "raw"), WRONG_BINARY.values(), ids=WRONG_BINARY)
def test_a_mistake_in_the_binary_part_is_told_and_the_server_goes_on(double, body, raw):
    reply = double.ask(infer(body, raw=raw))
    assert reply.status == 400
    assert list(reply.json) == ["error"]
    assert double.ask(infer({"id": "a", **X})).body == GOLDEN


@pytest.mark.parametrize("length", ["-1", "9999999", "abc", "1e3", "", "9" * 30, "12"])
def test_a_wrong_length_of_the_json_is_told(double, length):
    text = json.dumps(X).encode()
    reply = double.ask(request(INFER, text, headers=(f"Inference-Header-Content-Length: {length}",)))
    assert (reply.status, list(reply.json)) == (400, ["error"])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_body_that_is_not_what_its_encoding_says_is_refused(double, encoding):
    assert double.ask(infer(b"plain text", f"Content-Encoding: {encoding}")).status == 400


def test_a_compressed_body_cut_off_or_followed_by_more_is_refused(double):
    for pack in (gzip.compress, zlib.compress, zstd.compress):
        name = {gzip.compress: "gzip", zlib.compress: "deflate"}.get(pack, "zstd")
        whole = pack(json.dumps(X).encode())
        assert double.ask(infer(whole[:-3], f"Content-Encoding: {name}")).status == 400
        assert double.ask(infer(whole + b"more", f"Content-Encoding: {name}")).status == 400


def test_an_unknown_encoding_is_415_and_says_which_are_read(double):
    reply = double.ask(infer(X, "Content-Encoding: br"))
    assert (reply.status, "gzip" in reply.json["error"]) == (415, True)


def test_unknown_models_are_404_in_the_protocols_own_words(double):
    reply = double.ask(infer(X, path="/v2/models/doubel/infer"))
    assert (reply.status, reply.headers["content-type"]) == (404, "application/json")
    assert "did you mean" in reply.json["error"] or "double" in reply.json["error"]
    assert double.get("/v2/nowhere").json["error"].startswith("there is no route")


def test_metadata_config_and_statistics_tell_of_the_model(double):
    for _ in range(2):
        double.ask(infer(X))
    assert double.get("/v2").json["name"] == "inferd"
    metadata = double.get("/v2/models/double").json
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert metadata["versions"] == ["1"]
    config = double.get("/v2/models/double/config").json
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}]
    (statistics,) = double.get("/v2/models/double/stats").json["model_stats"]
    assert statistics["inference_count"] >= 4
    assert statistics["last_inference"] > 10**12
    assert {each["batch_size"] for each in statistics["batch_stats"]} >= {2}
    assert double.get("/v2/models/stats").json["model_stats"][0]["name"] == "double"
    index = double.ask(request("/v2/repository/index", b"{}")).json
    assert index == [{"name": "double", "version": "1", "state": "READY"}]
    assert double.ask(request("/v2/repository/index", b"[1]")).status == 400
    assert double.get("/v2/health/live").json == {"live": True}
    assert double.get("/v2/health/ready").json == {"ready": True}
    assert double.get("/v2/models/double/ready").json == {"name": "double", "ready": True}


@pytest.mark.parametrize(
    "path", ["/v2/models/nobody", "/v2/models/nobody/config", "/v2/models/double/versions/9", "/v2/models/nobody/stats"]
)
def test_what_is_not_there_is_404(double, path):
    reply = double.get(path)
    assert (reply.status, list(reply.json)) == (404, ["error"])
