"""TorchServe's inference API over both fronts: the bytes that go in and come out, and what callers get wrong."""

import json
import threading

import numpy as np
import pytest
from fronts_support import Double, Served, request

PREDICT = "/predictions/double"


class Upper:
    """One text in, one text and its length out."""

    inputs = {"text": "BYTES[-1]"}
    outputs = {"upper": "BYTES[-1]", "size": "INT64[-1]"}
    batchable = True
    gate = threading.Event()

    def predict(self, text):
        return {
            "upper": np.array([each.upper() for each in text], dtype=object),
            "size": np.array([len(each) for each in text]),
        }


class Pixels:
    """Sums the bytes of a file."""

    inputs = {"image": "UINT8[-1]"}
    outputs = {"sum": "INT64[1]"}
    batchable = False
    gate = threading.Event()

    def predict(self, image):
        return image.astype(np.int64).sum(keepdims=True)


class Pair:
    """Two inputs."""

    inputs = {"x": "FP32[-1, 2]", "word": "BYTES[-1]"}
    outputs = {"x": "FP32[-1, 2]", "word": "BYTES[-1]"}
    batchable = True
    gate = threading.Event()

    def predict(self, x, word):
        return {"x": x, "word": word}


@pytest.fixture(scope="module", params=["hot", "asgi"])
def double(request):
    served = Served(Double(), front=request.param, protocols=("torchserve",))
    yield served
    served.stop()


def serving(model):
    @pytest.fixture(scope="module")
    def fixture():
        served = Served(model(), protocols=("torchserve",))
        yield served
        served.stop()

    return fixture


upper, pixels, pair = serving(Upper), serving(Pixels), serving(Pair)


def predict(body, content_type="application/json", path=PREDICT, method="POST"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = [f"Content-Type: {content_type}"] if content_type else []
    if method != "POST":
        headers.append(f"Content-Length: {len(body)}")
    return request(path, body, method=method, headers=headers)


def form(*fields):
    """``(name, data)`` or ``(name, data, content type)`` as multipart, with the boundary in its content type."""
    parts = []
    for name, data, *kind in fields:
        lines = [f'Content-Disposition: form-data; name="{name}"; filename="f"']
        lines += [f"Content-Type: {kind[0]}"] if kind else []
        parts.append(b"--edge\r\n" + "\r\n".join([*lines, "", ""]).encode() + data + b"\r\n")
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ([1, 2], b"[2.0,4.0]"),
        ({"x": [1, 2]}, b"[2.0,4.0]"),
        ([[1, 2]], b"[[2.0,4.0]]"),
        ([[1, 2], [3, 4]], b"[[2.0,4.0],[6.0,8.0]]"),
        ([{"x": [1, 2]}, {"x": [3, 4]}], b"[[2.0,4.0],[6.0,8.0]]"),
        ({"x": [[1, 2], [3, 4]]}, b"[[2.0,4.0],[6.0,8.0]]"),
        ({"instances": [[1, 2]]}, b'{"predictions":[[2.0,4.0]]}'),
        ({"inputs": {"x": [[1, 2]]}}, b'{"outputs":[[2.0,4.0]]}'),
        ([], b"[]"),
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
def test_json_is_one_row_or_many_and_gives_the_golden_answer(double, body, answer, content_type):
    reply = double.ask(predict(body, content_type))
    assert (reply.status, reply.body) == (200, answer)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (f"{PREDICT}/1", "POST"),
        (f"{PREDICT}/1.0", "POST"),
        (PREDICT, "PUT"),
        (f"{PREDICT}/1", "PUT"),
    ],
)
def test_versions_and_uploads_by_put_are_answered_alike(double, path, method):
    reply = double.ask(predict([1, 2], path=path, method=method))
    assert (reply.status, reply.body) == (200, b"[2.0,4.0]")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["inferd-model-version"] == "1"


@pytest.mark.parametrize("name", ["data", "body", "x"])
def test_a_file_of_a_form_is_the_whole_input(double, name):
    assert double.ask(predict(*form((name, b"[[1, 2], [3, 4]]")))).body == b"[[2.0,4.0],[6.0,8.0]]"


def test_raw_bytes_are_one_row_of_text(upper):
    path = "/predictions/double"
    raw = b"na\r\nme \xff--edge"
    golden = b'{"upper":"NAME","size":4}'
    assert upper.ask(predict(b"name", "text/plain", path)).body == golden
    assert upper.ask(predict(b"name", None, path)).body == golden
    assert upper.ask(predict(b"data=name", "application/x-www-form-urlencoded", path)).body == golden
    assert upper.ask(predict(*form(("data", b"name")), path)).body == golden
    assert upper.ask(predict(b'"name"', "application/json", path)).body == golden
    assert upper.ask(predict({"text": "name"}, path=path)).body == golden
    assert upper.ask(predict(["name"], path=path)).body == b"[" + golden + b"]"
    assert upper.ask(predict(*form(("data", raw)), path)).json["size"] == len(raw)
    two = upper.ask(predict(*form(("data", b"a"), ("data", b"bc")), path))
    assert [each["size"] for each in two.json] == [1, 2]


def test_a_file_becomes_the_bytes_of_a_model_that_takes_them(pixels):
    raw = bytes(range(256))
    assert pixels.ask(predict(raw, "image/jpeg")).body == b"[32640]"
    assert pixels.ask(predict(*form(("data", raw, "image/jpeg")))).body == b"[32640]"
    assert pixels.ask(predict([1, 2, 3])).body == b"[6]"


def test_a_form_may_have_a_field_for_each_input(pair):
    body = form(("x", b"[1, 2]"), ("word", "für".encode()))
    assert pair.ask(predict(*body)).body == '{"x":[1.0,2.0],"word":"für"}'.encode()
    body = b"x=[1,2]&word=f%C3%BCr"
    assert pair.ask(predict(body, "application/x-www-form-urlencoded")).json["word"] == "für"
    body = form(("x", b"[1, 2]"), ("word", b'"b"', "application/json"))
    assert pair.ask(predict(*body)).json == {"x": [1, 2], "word": "b"}


def test_what_surrounds_predictions_answers(double):
    assert double.get("/ping").json == {"status": "Healthy"}
    described = double.ask(request("/", method="OPTIONS")).json
    assert "/predictions/{name}" in described["paths"]
    assert double.get("/api-description").json == described


WRONG = {
    "nothing": (b"", "application/json"),
    "broken JSON": (b'{"x": [', "application/json"),
    "a bare NaN": (b"[NaN, 1]", "application/json"),
    "deep nesting": (b"[" * 5000 + b"]" * 5000, "application/json"),
    "5,000 digits": (b"[1, " + b"9" * 5000 + b"]", "application/json"),
    "a number": (b"5", "application/json"),
    "null": (b"null", "application/json"),
    "an unknown input": ({"z": [1, 2]}, "application/json"),
    "too few values": ([1], "application/json"),
    "ragged rows": ([[1, 2], [3]], "application/json"),
    "mixed rows": ([[1, 2], {"x": [1, 2]}], "application/json"),
    "a text for a number": (["1", 2], "application/json"),
    "bytes that are no JSON": (b"\xff\xd8\xff", "image/jpeg"),
    "a form without a boundary": (b"--edge\r\n", "multipart/form-data"),
    "a boundary of 200 characters": (b"--edge\r\n", "multipart/form-data; boundary=" + "e" * 200),
    "a form that is not ended": (form(("data", b"[1, 2]"))[0][:-8], form()[1]),
    "an empty form": form(),
    "a form of another boundary": (form(("data", b"[1, 2]"))[0], "multipart/form-data; boundary=other"),
    "a part without headers": (b"--edge\r\n[1, 2]\r\n--edge--\r\n", form()[1]),
    "a part without a name": (b"--edge\r\n\r\n[1, 2]\r\n--edge--\r\n", form()[1]),
    "2,000 parts": form(*[("data", b"[1, 2]")] * 2000),
    "2,000 fields": (b"data=1&" * 2000, "application/x-www-form-urlencoded"),
    "two files where one is JSON": form(("data", b"[1, 2]"), ("data", b"[1, 2]")),
    "a field of an unknown name": form(("z", b"[1, 2]")),
    "a form that is not ASCII": (b"x=\xff", "application/x-www-form-urlencoded"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_and_the_server_goes_on(double, name):
    reply = double.ask(predict(*WRONG[name]))
    assert reply.status == 400, reply.body
    assert (reply.json["code"], reply.json["type"]) == (400, "BadRequestException")
    assert double.ask(predict([1, 2])).status == 200


def test_a_field_that_is_not_text_is_refused(pair):
    assert pair.ask(predict(*form(("x", b"[1, 2]"), ("word", b"\xff")))).status == 400
    assert pair.ask(predict(*form(("x", b"[1, 2]"), ("x", b"[1, 2]"), ("word", b"a")))).status == 400


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/predictions/nobody", 404, "ModelNotFoundException"),
        ("POST", f"{PREDICT}/7", 404, "ModelVersionNotFoundException"),
        ("POST", f"{PREDICT}/7.0", 404, "ModelVersionNotFoundException"),
        ("POST", "/explanations/double", 501, "MethodNotAllowedException"),
        ("POST", "/explanations/nobody", 404, "ModelNotFoundException"),
        ("GET", PREDICT, 405, "MethodNotAllowedException"),
        ("GET", "/nothing", 404, "ResourceNotFoundException"),
    ],
)
def test_errors_have_the_protocols_own_shape(double, method, path, status, kind):
    reply = double.ask(predict([1, 2], path=path, method=method))
    assert reply.status == status, reply.body
    assert (reply.json["code"], reply.json["type"]) == (status, kind)
    assert set(reply.json) == {"code", "type", "message"}


def test_the_models_own_refusal_and_failure_keep_their_meaning(double):
    assert double.ask(predict([-1, 0])).status == 400
    failed = double.ask(predict([-2, 0]))
    assert (failed.status, failed.json["type"]) == (500, "InternalServerException")
    assert b"/etc/shadow" not in failed.body
