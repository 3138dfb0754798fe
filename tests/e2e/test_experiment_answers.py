"""An answer says which variant it is of: in headers, in trailing metadata, in the body for who asks for it there."""

import json

import grpc
import numpy as np
import pytest
from serve_support import Process, free_port

from inferd.protocols.grpc.schema import message_class
from ranker_support import lay_ranker

METHOD = "/inference.GRPCInferenceService/ModelInfer"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", params=["grpcio", "native"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    lay_ranker(folder)
    grpc_port = free_port()
    flags = ("--version-policy", "all", "--experiments", "experiments")
    flags += ("--grpc-port", str(grpc_port), "--grpc-front", request.param)
    with Process(folder, "serve", "models", *flags) as process:
        process.grpc_port = grpc_port
        yield process.wait_ready()


def post(served, path, body, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    status, answered, data = served.ask("POST", path, json.dumps(body), {**JSON, **names})
    assert status == 200, data
    return json.loads(data), answered


ROWS = {"instances": [[1.0]]}
V2 = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}


@pytest.mark.parametrize(
    ("path", "body"), [("/predict", ROWS), ("/v2/models/ranker/infer", V2), ("/v1/models/ranker:predict", ROWS)]
)
def test_the_body_says_on_request_what_the_headers_say(served, path, body):
    plain, _ = post(served, path, body, X_User="a")
    assert "inferd" not in plain
    answer, headers = post(served, path, body, X_User="a", Inferd_Details="body")
    details = answer.pop("inferd")
    assert answer.keys() == plain.keys()
    assert details == {
        "model": "ranker",
        "model_version": int(headers["inferd-model-version"]),
        "request_id": headers["x-request-id"],
        "experiment": "ranker-2",
        "variant": headers["inferd-variant"],
        "sticky": True,
        "prediction_id": headers["inferd-prediction-id"],
    }
    assert details["variant"] == {1: "control", 2: "candidate"}[details["model_version"]]


def test_without_an_experiment_the_body_names_the_version(served):
    answer, _ = post(served, "/models/ranker/versions/2/predict", ROWS, Inferd_Details="body")
    assert answer["inferd"].keys() == {"model", "model_version", "request_id"}
    assert answer["inferd"]["model_version"] == 2


def test_an_answer_that_is_no_json_object_stays_as_it_is(served):
    headers = {**JSON, "Accept": "application/x-npy", "Inferd-Details": "body"}
    status, _, data = served.ask("POST", "/predict", json.dumps(ROWS), headers)
    assert (status, data[:6]) == (200, b"\x93NUMPY")


def test_a_grpc_caller_learns_the_prediction_and_tells_what_came_of_it(served):
    row = np.array([[1.0]], np.float32)
    request = message_class("inference.ModelInferRequest")(
        model_name="ranker",
        inputs=[{"name": "x", "datatype": "FP32", "shape": row.shape}],
        raw_input_contents=[row.tobytes()],
    )
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        infer = channel.unary_unary(METHOD)
        _, call = infer.with_call(request.SerializeToString(), timeout=30, metadata=[("x-user", "a")])
        trailers = dict(call.trailing_metadata())
        _, headers = post(served, "/predict", ROWS, X_User="a")
        assert trailers["inferd-variant"] == headers["inferd-variant"]
        assert trailers["inferd-experiment"] == "ranker-2"
        outcome = {"prediction_id": trailers["inferd-prediction-id"], "metric": "click", "value": 1.0}
        assert post(served, "/feedback", outcome)[0]["stored"] == 1
        request.model_version = "2"
        _, call = infer.with_call(request.SerializeToString(), timeout=30)
        assert "inferd-variant" not in dict(call.trailing_metadata())
