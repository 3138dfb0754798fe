"""TF Serving's REST API over both fronts: the bytes that go in and come out, and what callers get wrong."""

import gzip
import json
import threading

import numpy as np
import pytest
from fronts_support import Served, request

MODEL = "/v1/models/double"


class Double:
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True
    gate = threading.Event()

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


class Many:
    """Named columns of several types, and an output for each verb."""

    inputs = {"x": "FP32[-1, 2]", "n": "INT64[-1]", "text": "BYTES[-1]"}
    outputs = {"scores": "FP32[-1, 2]", "outputs": "FP64[-1, 1]", "text": "BYTES[-1]", "raw_bytes": "BYTES[-1]"}
    batchable = True
    gate = threading.Event()

    def predict(self, x, n, text):
        return {"scores": x, "outputs": n[:, None] / 2, "text": text, "raw_bytes": text}


class Whole:
    inputs = {"x": "FP32[2]"}
    outputs = {"y": "FP32[2]"}
    gate = threading.Event()

    def predict(self, x):
        return x * np.float32(np.inf) if x[0] == 1 else x


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


def ask(served, verb, body, path=MODEL, headers=()):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return served.ask(request(f"{path}:{verb}", text, headers=headers))


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [[1, 2], [3, 4]]}, b'{"predictions":[[2.0,4.0],[6.0,8.0]]}'),
        ({"signature_name": "serving_default", "instances": [[1, 2]]}, b'{"predictions":[[2.0,4.0]]}'),
        ({"signature_name": "", "instances": [{"x": [1, 2]}]}, b'{"predictions":[[2.0,4.0]]}'),
        ({"instances": []}, b'{"predictions":[]}'),
        ({"inputs": [[1, 2]]}, b'{"outputs":[[2.0,4.0]]}'),
        ({"inputs": {"x": [[1, 2]]}, "signature_name": "serving_default"}, b'{"outputs":[[2.0,4.0]]}'),
    ],
)
def test_predict_gives_the_golden_answer_in_row_and_column_form(double, body, answer):
    reply = ask(double, "predict", body)
    assert (reply.status, reply.body) == (200, answer)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["inferd-model-version"] == "1"


def test_the_content_type_is_not_looked_at_and_gzip_is_read(double):
    text = b'{"instances": [[1, 2]]}'
    assert ask(double, "predict", text, headers=("Content-Type: text/plain",)).status == 200
    assert ask(double, "predict", gzip.compress(text), headers=("Content-Encoding: gzip",)).status == 200


@pytest.mark.parametrize(("path", "status"), [("versions/1", 200), ("versions/2", 404), ("labels/stable", 404)])
def test_a_version_or_a_label_is_chosen_by_path(double, path, status):
    reply = ask(double, "predict", {"instances": [[1, 2]]}, path=f"{MODEL}/{path}")
    assert reply.status == status
    assert status == 200 or "no version" in reply.json["error"]


def test_rows_by_name_carry_text_and_bytes(many):
    row = {"x": [1, 2], "n": 9007199254740993, "text": {"b64": "/w=="}}
    reply = ask(many, "predict", {"instances": [row, {"x": [3, 4], "n": 1, "text": "é"}]})
    first, second = reply.json["predictions"]
    assert first == {
        "scores": [1.0, 2.0],
        "outputs": [4503599627370496.5],
        "text": {"b64": "/w=="},
        "raw_bytes": {"b64": "/w=="},
    }
    assert second["text"] == "é"
    assert second["raw_bytes"] == {"b64": "w6k="}


def test_examples_are_classified_with_their_context(many):
    body = {"context": {"n": 1, "text": "a"}, "examples": [{"x": [0.1, 2]}, {"x": [3, 4], "n": [7]}]}
    reply = ask(many, "classify", body)
    assert reply.body == b'{"results":[[["0",0.1],["1",2.0]],[["0",3.0],["1",4.0]]]}'


def test_one_value_may_stand_for_a_tensor_of_one(many):
    reply = ask(
        many, "regress", {"examples": [{"x": [1, 2], "n": 3, "text": "a"}, {"x": [1, 2], "n": [4], "text": ["b"]}]}
    )
    assert reply.body == b'{"results":[1.5,2.0]}'


def test_values_that_are_no_numbers_are_bare_words_where_the_model_allows_them():
    served = Served(Whole(), nan="null")
    try:
        reply = ask(served, "predict", {"inputs": [1, -1]})
        assert reply.body == b'{"outputs":[Infinity,-Infinity]}'
        assert "inferd-nan" not in reply.headers
        assert ask(served, "predict", b'{"inputs": [2, NaN]}').body == b'{"outputs":[2.0,NaN]}'
        assert ask(served, "predict", {"instances": [[2, 3]]}).body == b'{"predictions":[[2.0,3.0]]}'
        assert "takes no batches" in ask(served, "regress", {"examples": [{"x": [1, 2]}]}).json["error"]
    finally:
        served.stop()


def test_status_and_metadata_have_versions_and_sizes_as_text(double):
    status = double.get(MODEL).json
    assert status == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ],
        "name": "double",
        "ready": True,
    }
    assert double.get(f"{MODEL}/versions/1").json == status
    assert double.get(f"{MODEL}/versions/2").status == 404
    assert double.get(f"{MODEL}/labels/stable").status == 404
    metadata = double.get(f"{MODEL}/metadata").json
    assert metadata["model_spec"] == {"name": "double", "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"] == {
        "name": "x:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False},
    }


def test_the_models_are_listed_as_kserve_lists_them(double):
    assert double.get("/v1/models").json == {"models": ["double"]}
    assert double.get("/v1/models/other").status == 404


DEEP = b'{"instances":' + b"[" * 3000 + b"]" * 3000 + b"}"
DIGITS = b'{"instances": [[1, ' + b"9" * 5000 + b"]]}"


@pytest.mark.parametrize(
    ("verb", "body", "reason"),
    [
        ("predict", b"", "the body is empty"),
        ("predict", b"{", "not JSON"),
        ("predict", b"\xff", "not UTF-8"),
        ("predict", b"[]", "where an object"),
        ("predict", {}, "must have either"),
        ("predict", {"instances": [[1, 2]], "inputs": [[1, 2]]}, "must have either"),
        ("predict", {"instancs": [[1, 2]]}, "did you mean 'instances'"),
        ("predict", {"instances": [[1, 2]], "signature_name": "other"}, "signature_name is"),
        ("predict", {"instances": [[1, 2]], "signature_name": None}, "signature_name is null"),
        ("predict", {"instances": [[1, 2]], "signature_name": []}, "signature_name is"),
        ("predict", {"instances": {}}, "where an array"),
        ("predict", {"instances": 1}, "where an array"),
        ("predict", {"instances": [[1, 2], [3]]}, "has 1 value where the model takes 2"),
        ("predict", {"instances": [[1, 2], 3]}, "where an array is expected"),
        ("predict", {"instances": [[1, "a"]]}, "write the number without quotes"),
        ("predict", {"instances": [[1, None]]}, "null"),
        ("predict", {"instances": [[1, True]]}, "a boolean"),
        ("predict", {"instances": [[1, 1e39]]}, "out of the range of FP32"),
        ("predict", {"instances": [{"y": [1, 2]}]}, "unknown input"),
        ("predict", {"instances": [{}]}, "missing"),
        ("predict", {"inputs": {"x": [[1, 2]], "z": [1]}}, "unknown input"),
        ("predict", b'{"instances": [[1, NaN]]}', "NaN policy"),
        ("predict", b'{"instances": [[1, 2]], "instances": [[3, 4]]}', "twice"),
        ("predict", b'{"instances": [[1, "\\ud800"]]}', "surrogate"),
        ("predict", DEEP, "nests deeper"),
        ("predict", DIGITS, "digits"),
        ("classify", {"examples": []}, "at least one"),
        ("classify", {"examples": {}}, "at least one"),
        ("classify", {}, "at least one"),
        ("classify", {"examples": [1]}, "not an object"),
        ("classify", {"examples": [{"x": [1]}]}, "has 1 value"),
        ("classify", {"examples": [{"x": [[1, 2]]}]}, "examples[0].x"),
        ("classify", {"examples": [{"x": [1, 2], "y": 1}]}, "unknown input"),
        ("classify", {"examples": [{"x": [1, 2]}], "context": []}, "context is an array"),
        ("classify", {"examples": [{"x": [1, 2]}], "contxt": {}}, "did you mean 'context'"),
        ("classify", {"examples": [{"x": [1, 2]}], "signature_name": "no"}, "signature_name is"),
        ("regress", {"examples": [{"x": [1, 2]}]}, "no output of one number per row"),
    ],
)
def test_what_callers_get_wrong_is_told_them_as_400(double, verb, body, reason):
    reply = ask(double, verb, body)
    assert reply.status == 400
    assert set(reply.json) == {"error"}
    assert reason in reply.json["error"]
    assert ask(double, "predict", {"instances": [[1, 2]]}).status == 200


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1/models/other:predict", 404, "no model named 'other'"),
        (f"{MODEL}:train", 404, ":predict, :classify and :regress"),
        (f"{MODEL}:explain", 501, "explains"),
        (f"{MODEL}/versions/{'9' * 40}:predict", 404, "no version"),
    ],
)
def test_what_is_not_there_is_worded_as_tf_serving_does(double, path, status, reason):
    reply = double.ask(request(path, b'{"instances": [[1, 2]]}'))
    assert reply.status == status
    assert reason in reply.json["error"]
