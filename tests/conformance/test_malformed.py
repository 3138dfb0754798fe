"""What callers get wrong: each mistake its status and its words, never a 5xx, and the server goes on."""

import io
import json
import threading

import numpy as np
import pytest
from fronts_support import Served, predict, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

JSON = "Content-Type: application/json"
NPY = "Content-Type: application/x-npy"
DEEP = b'{"instances": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}"
FP32 = "a number of magnitude below 3.4028236e+38"
INT64 = "an integer from -9223372036854775808 to 9223372036854775807"


class Plain:
    """Doubles whatever it gets."""

    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True

    def __init__(self):
        self.gate = threading.Event()

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


class Integers(Plain):
    """Two inputs, whole numbers only."""

    inputs = {"n": "INT64[-1, 2]", "small": "INT8[-1]"}
    outputs = {"y": "INT64[-1, 2]"}

    def predict(self, n: np.ndarray, small: np.ndarray) -> np.ndarray:
        return n


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def about(tensor, path, got, expected):
    return {"tensor": tensor, "path": path, "got": got, "expected": expected}


MALFORMED = {
    "broken JSON": (b'{"instances": [[1, 2]', JSON, 21),
    "empty body": (b"", JSON, 0),
    "bare NaN": (b'{"instances": [[NaN, 2]]}', JSON, 16),
    "bare Infinity": (b'{"instances": [[1, -Infinity]]}', JSON, 19),
    "300 levels": (DEEP, JSON, 77),
    "duplicate keys": (b'{"instances": [[1, 2]], "instances": [[3, 4]]}', JSON, 24),
    "invalid UTF-8": (b'{"instances": [["\xff", 2]]}', JSON, 17),
    "byte order mark": (b'\xef\xbb\xbf{"instances": [[1, 2]]}', JSON, 0),
    "trailing garbage": (b'{"instances": [[1, 2]]} x', JSON, 24),
    "5,000 digits": (b'{"instances": [[' + b"9" * 5000 + b", 2]]}", JSON, 16),
    "not an NPY file": (b"nonsense", NPY, 0),
    "a truncated NPY file": (npy(np.zeros((4, 2), np.float32))[:-3], NPY, 128),
}

UNFIT = {
    "missing field": (b"{}", {"got": "an empty object", "expected": "instances, or inputs"}),
    "unknown member": (b'{"instance": [[1, 2]]}', {"path": "instance", "got": "an array of 1"}),
    "not an object": (b"[[1, 2]]", {"path": "", "got": "an array of 1"}),
    "unknown input": (b'{"inputs": {"z": [[1, 2]]}}', about("z", "inputs.z", "z", ["x"])),
    "ragged rows": (b'{"instances": [[1, 2], [3]]}', about("x", "instances[1]", "1 values", "2 values")),
    "ragged rows whose count fits": (
        b'{"instances": [[1, 2], [3], [4, 5, 6]]}',
        about("x", "instances[1]", "1 values", "2 values"),
    ),
    "text in a numeric column": (b'{"instances": [["a", 2]]}', about("x", "instances[0][0]", '"a"', FP32)),
    "an object of rows": (b'{"instances": {}}', {"path": "instances", "got": "an object of 0"}),
    "null": (b'{"instances": [[null, 2]]}', about("x", "instances[0][0]", "null", FP32)),
    "too few features": (b'{"instances": [[1]]}', about("x", "instances[0]", "1 values", "2 values")),
    "too many features": (b'{"instances": [[1, 2, 3]]}', about("x", "instances[0]", "3 values", "2 values")),
    "wrong rank": (b'{"instances": [1, 2]}', about("x", "instances[0]", "1", "an array")),
    "1e400": (b'{"instances": [[1, 2], [1e400, 2]]}', about("x", "instances[1][0]", "1e400", FP32)),
    "beyond float32": (b'{"instances": [[1e39, 2]]}', about("x", "instances[0][0]", "1e+39", FP32)),
    "true in a float column": (b'{"instances": [[true, 2]]}', about("x", "instances[0][0]", "true", FP32)),
}

UNFIT_INTEGERS = {
    "2^63": (
        b'{"instances": [{"n": [1, 9223372036854775808], "small": 1}]}',
        about("n", "instances[0].n[1]", "9223372036854775808", INT64),
    ),
    "a float": (
        b'{"instances": [{"n": [1, 1.5], "small": 1}]}',
        about("n", "instances[0].n[1]", "1.5", INT64),
    ),
    "128 for int8": (
        b'{"instances": [{"n": [1, 2], "small": 128}]}',
        about("small", "instances[0].small", "128", "an integer from -128 to 127"),
    ),
    "an input missing": (
        b'{"instances": [{"n": [1, 2]}]}',
        about("small", "instances[0]", None, "INT8[-1]"),
    ),
    "fewer rows in one column": (
        b'{"inputs": {"n": [[1, 2], [3, 4]], "small": [1]}}',
        about("small", "inputs.small", "1 rows", "2 rows"),
    ),
}


def serve(model, front):
    server = Served(model, front=front, max_body_mb=1.0)
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["hot", "asgi"])
def served(request):
    yield from serve(Plain(), request.param)


@pytest.fixture(scope="module", params=["hot", "asgi"])
def integers(request):
    yield from serve(Integers(), request.param)


def refusal(server, status, body, *headers):
    """The problem document with which ``body`` is refused, after what every one of them owes."""
    reply = server.ask(request("/predict", body, headers=headers))
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json
    assert problem["status"] == status
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert {"type", "title", "detail", "code"} <= problem.keys()
    for leak in (b"Traceback", b".py", b"site-packages", b"/src/"):
        assert leak not in reply.body
    return problem


def example_works(server, problem):
    return server.ask(request("/predict", json.dumps(problem["example"]).encode(), headers=[JSON])).status == 200


@pytest.mark.parametrize("name", MALFORMED)
def test_what_cannot_be_read_is_400_with_the_byte_and_an_example(served, name):
    body, header, offset = MALFORMED[name]
    problem = refusal(served, 400, body, header)
    assert problem["offset"] == offset
    assert example_works(served, problem)


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_422_with_its_place_and_an_example(served, name):
    body, members = UNFIT[name]
    problem = refusal(served, 422, body, JSON)
    assert {member: problem.get(member) for member in members} == members
    assert example_works(served, problem)


@pytest.mark.parametrize("name", UNFIT_INTEGERS)
def test_what_does_not_fit_whole_numbers_is_422_with_its_place_and_an_example(integers, name):
    body, members = UNFIT_INTEGERS[name]
    problem = refusal(integers, 422, body, JSON)
    assert {member: problem.get(member) for member in members} == members
    assert example_works(integers, problem)


def test_an_npy_body_of_another_shape_is_422_with_the_shape_and_an_example(served):
    problem = refusal(served, 422, npy(np.zeros((4, 3), np.float32)), NPY)
    assert (problem["tensor"], problem["got"], problem["expected"]) == ("x", "FP32[4, 3]", "FP32[-1, 2]")
    assert example_works(served, problem)


@pytest.mark.parametrize(
    ("status", "header"), [(415, "Content-Type: text/csv"), (415, "Content-Type: text/plain"), (406, "Accept: image/*")]
)
def test_a_type_nobody_speaks_is_refused_with_those_that_are_spoken(served, status, header):
    problem = refusal(served, status, b'{"instances": [[1, 2]]}', header)
    assert "application/x-npy" in problem["expected"]


def test_a_body_over_the_limit_is_413_before_it_comes(served):
    problem = refusal(served, 413, b"", JSON, f"Content-Length: {(1 << 20) + 1}")
    assert problem["expected"] == f"at most {1 << 20} bytes"


def test_nothing_asked_is_nothing_answered(served):
    assert served.predict([]).json == {"predictions": []}


PIECES = [b"[", b"]", b"{", b"}", b'"', b"null", b"true", b"1e999", b"-", b"\\u0000", b",", b":", b"\xff", b"\xc3\xa9"]
EDITS = st.lists(
    st.tuples(st.integers(0, 40), st.binary(max_size=6) | st.sampled_from(PIECES), st.integers(0, 5)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(EDITS)
def test_no_mutation_of_a_body_gets_a_5xx(served, edits):
    body = b'{"instances": [[5.1, 3.5], [1, 2]]}'
    for position, inserted, removed in edits:
        body = body[:position] + inserted + body[position + removed :]
    wire = served.wire()
    reply = wire.send(request("/predict", body, headers=[JSON])).read()
    assert reply.status in (200, 400, 422), (body, reply.body)
    assert wire.send(predict([[1, 2]])).read().json == {"predictions": [[2, 4]]}
    wire.close()
