"""Problem documents tell the caller what to fix and nothing of the server."""

import orjson
import pytest

from inferd.core.errors import InvalidRequest, MalformedRequest, Overloaded
from inferd.protocols.native.problem import problem


def test_details_and_example_are_members() -> None:
    error = InvalidRequest("x is wrong", tensor="x", path="instances[0]", got="2 values", expected="4 values")
    status, body = problem(error, request_id="r1", instance_path="/predict", example={"instances": [[1]]})
    assert status == 422
    assert orjson.loads(body) == {
        "type": "urn:inferd:error:invalid-request",
        "title": "Invalid request",
        "status": 422,
        "detail": "x is wrong",
        "code": "INVALID_ARGUMENT",
        "tensor": "x",
        "path": "instances[0]",
        "got": "2 values",
        "expected": "4 values",
        "example": {"instances": [[1]]},
        "instance": "/predict",
        "request_id": "r1",
    }


def test_an_errors_own_example_wins() -> None:
    _, body = problem(InvalidRequest("no", example="250"), request_id="r", example={"instances": []})
    assert orjson.loads(body)["example"] == "250"


def test_an_offset_is_shown() -> None:
    status, body = problem(MalformedRequest("bad", offset=7), request_id="r")
    assert (status, orjson.loads(body)["offset"]) == (400, 7)


def test_no_example_beside_an_error_that_is_not_the_callers() -> None:
    status, body = problem(Overloaded("full", retry_after_s=2), request_id="r", example={"instances": []})
    assert status == 503
    assert "example" not in orjson.loads(body)
    assert orjson.loads(body)["retry_after_s"] == 2


@pytest.mark.parametrize("got", [["\udcff"], 10**30, {"a": {"\udcff": 1}}])
def test_details_that_json_cannot_hold_are_left_out(got) -> None:
    status, body = problem(InvalidRequest("no", got=got, example=got), request_id="r")
    assert (status, orjson.loads(body)["detail"]) == (422, "no")


def test_an_unforeseen_exception_tells_nothing() -> None:
    status, body = problem(RuntimeError("/srv/secret/model.onnx"), request_id="r9")
    assert status == 500
    assert b"secret" not in body
    assert b"RuntimeError" not in body
    assert orjson.loads(body)["request_id"] == "r9"
