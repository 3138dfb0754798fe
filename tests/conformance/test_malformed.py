"""What callers get wrong: each mistake its status and its words, never a 5xx, and the server goes on."""

import io
import json

import numpy as np
import pytest
from fronts_support import Double, Served, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

JSON = "Content-Type: application/json"
NPY = "Content-Type: application/x-npy"
DEEP = b'{"instances": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}"

MISTAKES = {
    "broken JSON": (b'{"instances": [[1, 2]', JSON, 400, "offset"),
    "empty body": (b"", JSON, 400, "example"),
    "missing field": (b"{}", JSON, 422, "expected"),
    "ragged rows": (b'{"instances": [[1, 2], [3]]}', JSON, 422, "path"),
    "ragged rows whose count fits": (b'{"instances": [[1, 2], [3], [4, 5, 6]]}', JSON, 422, "path"),
    "text in a numeric column": (b'{"instances": [["a", 2]]}', JSON, 422, "path"),
    "null": (b'{"instances": [[null, 2]]}', JSON, 422, "path"),
    "too few features": (b'{"instances": [[1]]}', JSON, 422, "expected"),
    "too many features": (b'{"instances": [[1, 2, 3]]}', JSON, 422, "expected"),
    "wrong rank": (b'{"instances": [1, 2]}', JSON, 422, "expected"),
    "bare NaN": (b'{"instances": [[NaN, 2]]}', JSON, 400, "offset"),
    "bare Infinity": (b'{"instances": [[1, -Infinity]]}', JSON, 400, "offset"),
    "1e400": (b'{"instances": [[1e400, 2]]}', JSON, 422, "path"),
    "beyond float32": (b'{"instances": [[1e39, 2]]}', JSON, 422, "path"),
    "true in a float column": (b'{"instances": [[true, 2]]}', JSON, 422, "path"),
    "300 levels": (DEEP, JSON, 400, "detail"),
    "duplicate keys": (b'{"instances": [[1, 2]], "instances": [[3, 4]]}', JSON, 400, "detail"),
    "invalid UTF-8": (b'{"instances": [["\xff", 2]]}', JSON, 400, "offset"),
    "byte order mark": (b'\xef\xbb\xbf{"instances": [[1, 2]]}', JSON, 400, "detail"),
    "trailing garbage": (b'{"instances": [[1, 2]]} x', JSON, 400, "offset"),
    "5,000 digits": (b'{"instances": [[' + b"9" * 5000 + b", 2]]}", JSON, 400, "offset"),
    "unknown member": (b'{"instance": [[1, 2]]}', JSON, 422, "detail"),
    "not an object": (b"[[1, 2]]", JSON, 422, "detail"),
    "unknown input": (b'{"inputs": {"z": [[1, 2]]}}', JSON, 422, "expected"),
    "wrong content type": (b"1,2\n", "Content-Type: text/csv", 415, "detail"),
    "not an NPY file": (b"nonsense", NPY, 400, "detail"),
    "a truncated NPY file": (None, NPY, 400, "detail"),
    "unacceptable answer": (b'{"instances": [[1, 2]]}', "Accept: image/png", 406, "detail"),
}


@pytest.fixture(scope="module", params=["hot", "asgi"])
def served(request):
    server = Served(Double(), front=request.param)
    yield server
    server.stop()


def truncated_npy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 2), np.float32))
    return buffer.getvalue()[:-3]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_its_status_and_says_what_to_mend(served, name):
    body, header, status, member = MISTAKES[name]
    reply = served.ask(request("/predict", truncated_npy() if body is None else body, headers=[header]))
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json
    assert problem["status"] == status
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert member in problem
    for leak in (b"Traceback", b".py", b"site-packages", b"/src/"):
        assert leak not in reply.body


def test_the_example_of_an_error_is_accepted(served):
    example = served.ask(request("/predict", b'{"instances": [[1]]}', headers=[JSON])).json["example"]
    assert served.ask(request("/predict", json.dumps(example).encode(), headers=[JSON])).status == 200


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 40),
    st.binary(max_size=6) | st.sampled_from([b"[", b"]", b"{", b'"', b"null", b"1e999", b"-", b"\\u0000", b","]),
    st.integers(0, 5),
)
def test_no_mutation_of_a_body_gets_a_5xx(served, position, inserted, removed):
    body = b'{"instances": [[5.1, 3.5], [1, 2]]}'
    mutated = body[:position] + inserted + body[position + removed :]
    reply = served.ask(request("/predict", mutated, headers=[JSON]))
    assert reply.status < 500, (mutated, reply.body)
    assert served.predict([[1, 2]]).json == {"predictions": [[2, 4]]}
