"""Vertex AI's container contract over both fronts: the bytes that go in and come out, and what callers get wrong."""

import json

import pytest
from fronts_support import Double, Served, request

PREDICT = "/v1/endpoints/12/deployedModels/34:predict"
HEALTH = "/v1/endpoints/12/deployedModels/34"


@pytest.fixture(scope="module", params=["hot", "asgi"])
def double(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIP_PREDICT_ROUTE", PREDICT)
        patch.setenv("AIP_HEALTH_ROUTE", HEALTH)
        served = Served(Double(), front=request.param, protocols=("vertex",))
    yield served
    served.stop()


def predict(body, content_type="application/json"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(PREDICT, body, headers=[f"Content-Type: {content_type}"])


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2], [3, 4]]},
        {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]},
        {"instances": [[1, 2], [3, 4]], "parameters": {"depth": 3}},
    ],
)
def test_instances_give_the_golden_predictions_on_the_routes_the_platform_names(double, body):
    reply = double.ask(predict(body))
    assert (reply.status, reply.body) == (200, b'{"predictions":[[2.0,4.0],[6.0,8.0]]}')
    assert double.get(HEALTH).status == 200
    assert double.get("/predict").status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[[1, 2]]", 400),
        ({}, 400),
        ({"inputs": [[1, 2]]}, 400),
        ({"instances": [[1, 2]], "outputs": ["y"]}, 400),
        ({"instances": [[1, 2]], "parameters": []}, 400),
        ({"instances": [[1]]}, 400),
        ({"instances": {"x": [1, 2]}}, 400),
        (b'{"instances": [[NaN, 1]]}', 400),
        (b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
    ],
)
def test_what_is_wrong_is_refused_and_the_server_goes_on(double, body, status):
    reply = double.ask(predict(body))
    assert (reply.status, list(reply.json)) == (status, ["error"])
    assert double.ask(predict({"instances": [[1, 2]]})).status == 200


def test_another_content_type_is_refused(double):
    assert double.ask(predict(b"1,2", "text/csv")).status == 415
