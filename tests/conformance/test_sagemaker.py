"""SageMaker's container contract over both fronts: the bytes that go in and come out, and what callers get wrong."""

import io
import json
import threading

import numpy as np
import pytest
from fronts_support import Double, Served, request


class Mixed:
    """Gives back a number and a text for each row."""

    inputs = {"n": "INT64[-1]", "text": "BYTES[-1]"}
    outputs = {"n": "INT64[-1]", "text": "BYTES[-1]"}
    batchable = True
    gate = threading.Event()

    def predict(self, n, text):
        return {"n": n, "text": text}


@pytest.fixture(scope="module", params=["hot", "asgi"])
def double(request):
    served = Served(Double(), front=request.param, protocols=("sagemaker",))
    yield served
    served.stop()


@pytest.fixture(scope="module")
def mixed():
    served = Served(Mixed(), protocols=("sagemaker",))
    yield served
    served.stop()


def invoke(body, content_type="application/json", accept=None, path="/invocations", *headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"Content-Type: {content_type}"] if content_type else []
    return request(path, body, headers=[*lines, *([f"Accept: {accept}"] if accept else []), *headers])


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


ROWS = [[1, 2], [3, 4.5]]
CSV = b"1,2\r\n3,4.5\r\n"
LINES = b"[1, 2]\n\n[3, 4.5]\n"
NPY = npy(np.array(ROWS, np.float32))
PREDICTIONS = b'{"predictions":[[2.0,4.0],[6.0,9.0]]}'


@pytest.mark.parametrize(
    ("body", "content_type", "answer"),
    [
        ({"instances": ROWS}, "application/json", PREDICTIONS),
        ({"instances": ROWS}, None, PREDICTIONS),
        ({"instances": [{"x": row} for row in ROWS]}, "application/json; charset=utf-8", PREDICTIONS),
        (ROWS, "application/json", b"[[2.0,4.0],[6.0,9.0]]"),
        ({"inputs": {"x": ROWS}}, "application/json", b'{"outputs":[[2.0,4.0],[6.0,9.0]]}'),
        (LINES, "application/jsonlines", PREDICTIONS),
        (CSV, "text/csv", PREDICTIONS),
        (NPY, "application/x-npy", PREDICTIONS),
    ],
)
def test_each_content_type_gives_the_golden_answer(double, body, content_type, answer):
    reply = double.ask(invoke(body, content_type))
    assert (reply.status, reply.body) == (200, answer)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["inferd-model"] == "double"


@pytest.mark.parametrize(
    ("accept", "content_type", "answer"),
    [
        ("application/json", "application/json", PREDICTIONS),
        ("*/*", "application/json", PREDICTIONS),
        ("text/csv", "text/csv; charset=utf-8", b"2.0,4.0\n6.0,9.0\n"),
        ("text/*", "text/csv; charset=utf-8", b"2.0,4.0\n6.0,9.0\n"),
        ("application/jsonlines", "application/jsonlines", b"[2.0,4.0]\n[6.0,9.0]\n"),
        ("application/x-npy", "application/x-npy", npy(np.array([[2, 4], [6, 9]], np.float32))),
        ("text/csv;q=0.5, application/x-npy", "application/x-npy", npy(np.array([[2, 4], [6, 9]], np.float32))),
    ],
)
@pytest.mark.parametrize(("body", "given"), [(CSV, "text/csv"), ({"instances": ROWS}, "application/json")])
def test_the_answer_is_what_the_caller_accepts(double, body, given, accept, content_type, answer):
    reply = double.ask(invoke(body, given, accept))
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, content_type, answer)


def test_columns_fill_the_inputs_in_order(mixed):
    body = b'9007199254740993,"a ""b"", c"\n-1,\xc3\xbc\n'
    reply = mixed.ask(invoke(body, "text/csv", "text/csv"))
    assert reply.body == b'9007199254740993,"a ""b"", c"\n-1,\xc3\xbc\n'
    reply = mixed.ask(invoke(body, "text/csv", "application/jsonlines"))
    assert reply.body == '{"n":9007199254740993,"text":"a \\"b\\", c"}\n{"n":-1,"text":"ü"}\n'.encode()


def test_an_empty_cell_is_nan(double):
    reply = double.ask(invoke(b"1,\n,nan\n", "text/csv", "text/csv"))
    assert reply.body == b"2.0,nan\nnan,nan\n"


def test_a_nan_that_json_cannot_answer_is_the_callers(double):
    reply = double.ask(invoke(b"1,2\n1,\n", "text/csv"))
    assert (reply.status, "Input 'x' holds such a value" in reply.json["error"]) == (400, True)
    assert double.ask(invoke(CSV, "text/csv")).body == PREDICTIONS


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/jsonlines", "application/x-npy"])
def test_no_rows_are_no_answers(double, accept):
    reply = double.ask(invoke({"instances": []}, accept=accept))
    empty = {"application/json": b'{"predictions":[]}', "application/x-npy": npy(np.empty((0, 2), np.float32))}
    assert (reply.status, reply.body) == (200, empty.get(accept, b""))


def test_the_health_check_answers(double):
    assert double.get("/ping").status == 200


def test_a_model_is_invoked_by_its_name(double):
    assert double.ask(invoke(ROWS, path="/models/double/invoke")).body == b"[[2.0,4.0],[6.0,9.0]]"
    reply = double.ask(invoke(ROWS, path="/models/nobody/invoke"))
    assert (reply.status, "nobody" in reply.json["error"]) == (404, True)


WRONG = {
    "nothing": (b"", "application/json", 400),
    "broken JSON": (b'{"instances": [[1, 2]', "application/json", 400),
    "a number": (b"5", "application/json", 400),
    "a text": (b'"x"', "application/json", 400),
    "an empty object": (b"{}", "application/json", 400),
    "both forms": ({"instances": ROWS, "inputs": ROWS}, "application/json", 400),
    "an unknown member": ({"instances": ROWS, "data": 1}, "application/json", 400),
    "a MLflow body": ({"dataframe_split": {}}, "application/json", 400),
    "a bare NaN": (b"[[NaN, 1]]", "application/json", 400),
    "deep nesting": (b"[" * 5000 + b"]" * 5000, "application/json", 400),
    "5,000 digits": (b"[[1, " + b"9" * 5000 + b"]]", "application/json", 400),
    "a byte order mark": (b"\xef\xbb\xbf[[1, 2]]", "application/json", 400),
    "too few values": ([[1]], "application/json", 400),
    "a row that is no row": ([1, 2], "application/json", 400),
    "ragged rows": ([[1, 2], [3]], "application/json", 400),
    "a text for a number": ([["1", 2]], "application/json", 400),
    "a number beyond FP32": ([[1e39, 2]], "application/json", 400),
    "broken lines": (b"[1, 2]\n[3,\n", "application/jsonlines", 400),
    "lines that differ": (b'[1, 2]\n{"x": [1, 2]}\n', "application/jsonlines", 400),
    "a line with two values": (b"[1, 2] [3, 4]\n", "application/jsonlines", 400),
    "a header": (b"a,b\n1,2\n", "text/csv", 400),
    "a short row": (b"1,2\n3\n", "text/csv", 400),
    "a long row": (b"1,2,3\n", "text/csv", 400),
    "an open quote": (b'1,"2\n', "text/csv", 400),
    "a cell beyond FP32": (b"1,1e39\n", "text/csv", 400),
    "digits with underscores": (b"1,1_0\n", "text/csv", 400),
    "CSV that is not UTF-8": (b"1,\xff\n", "text/csv", 400),
    "a cell of 200,000 characters": (b"1," + b"1" * 200_000 + b"\n", "text/csv", 400),
    "no NPY": (b"abc", "application/x-npy", 400),
    "NPY cut off": (NPY[:-1], "application/x-npy", 400),
    "NPY of another shape": (npy(np.zeros((2, 3), np.float32)), "application/x-npy", 400),
    "NPY of objects": (npy(np.array(["x"], dtype=object)), "application/x-npy", 400),
    "an unknown type": (b"1,2", "application/x-recordio-protobuf", 415),
    "another charset": (CSV, "text/csv; charset=latin-1", 415),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_and_the_server_goes_on(double, name):
    body, content_type, status = WRONG[name]
    reply = double.ask(invoke(body, content_type))
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert list(reply.json) == ["error"]
    assert double.ask(invoke(ROWS)).status == 200


def test_a_wrong_cell_is_named(double):
    assert "row 2, column 1 is 'three'" in double.ask(invoke(b"1,2\nthree,4\n", "text/csv")).json["error"]


def test_a_type_nobody_can_write_is_refused(double, mixed):
    assert double.ask(invoke(ROWS, accept="image/png")).status == 406
    assert mixed.ask(invoke(b"1,a\n", "text/csv", "application/x-npy")).status == 406
    assert double.ask(invoke({"inputs": ROWS}, accept="text/csv")).status == 400


def test_other_methods_and_paths_are_refused(double):
    assert double.get("/invocations").status == 405
    assert double.get("/predict").status == 404


def test_the_models_own_refusal_and_failure_keep_their_meaning(double):
    assert double.ask(invoke([[-1, 0]])).status == 400
    failed = double.ask(invoke([[-2, 0]]))
    assert failed.status == 500
    assert b"/etc/shadow" not in failed.body
