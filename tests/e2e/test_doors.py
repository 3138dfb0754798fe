"""One process, several listeners: a real server, asked on each of its ports."""

import http.client
import json

import grpc
import pytest
from serve_support import EXAMPLES, INFERD, Process, free_port

from inferd.protocols.grpc.schema import message_class

ROW = [5.1, 3.5, 1.4, 0.2]
JSON = {"Content-Type": "application/json"}


def ask(port, method, path, body=None, headers=JSON):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


def test_doors_answer_beside_the_plain_port_and_end_with_it(tmp_path):
    port = free_port()
    with Process(tmp_path, "serve", EXAMPLES / "iris-onnx", "--door", f"sagemaker={port}") as process:
        process.wait_ready()
        process.wait_for(lambda: f"sagemaker on http://127.0.0.1:{port}" in process.output)
        plain = json.loads(process.predict([ROW])[2])
        assert ask(port, "POST", "/invocations", {"instances": [ROW]}) == (200, plain)
        assert ask(port, "GET", "/ping")[0] == 200
        assert ask(port, "POST", "/predict", {"instances": [ROW]})[0] == 404
        assert ask(port, "GET", "/admin/models")[0] == 404
        assert process.ask("POST", "/invocations", b"[]")[0] in (404, 405, 422)
        described = {tag for path in ask(port, "GET", "/openapi.json")[1]["paths"].values() for tag in _tags(path)}
        assert described == {"sagemaker", "probes"}
        assert process.signal().exit_code() == 0
        with pytest.raises(OSError, match="refused"):
            ask(port, "GET", "/ping")


def test_protocols_of_one_port_share_it_and_a_door_may_join_the_plain_one(tmp_path):
    plain, other = free_port(), free_port()
    doors = ["--door", f"vertex={other}", "--door", f"oip={other}", "--door", f"torchserve={plain}"]
    with Process(tmp_path, "serve", EXAMPLES / "iris-onnx", *doors, port=plain) as process:
        process.wait_ready()
        assert ask(other, "POST", "/predict", {"instances": [ROW]})[0] == 200
        assert ask(other, "GET", "/v2/health/ready")[0] == 200
        assert ask(plain, "POST", "/predictions/iris-onnx", ROW)[1]["label"] == "setosa"
        assert ask(plain, "POST", "/predict", {"instances": [ROW]})[0] == 200


V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}]}
CALLS = {
    "native": ("/models/iris-onnx/predict", {"instances": [ROW]}),
    "oip": ("/v2/models/iris-onnx/infer", V2),
    "tfserving": ("/v1/models/iris-onnx:predict", {"instances": [ROW]}),
}
SERVICES = {
    "oip": (
        "/inference.GRPCInferenceService/ModelReady",
        message_class("inference.ModelReadyRequest")(name="iris-onnx"),
    ),
    "tfserving": (
        "/tensorflow.serving.ModelService/GetModelStatus",
        message_class("tensorflow.serving.GetModelStatusRequest")(model_spec={"name": "iris-onnx"}),
    ),
}
TAGS = {"native": "models", "oip": "v2", "tfserving": "tfserving", "openai": "openai"}


@pytest.mark.parametrize("off", [None, "oip", "tfserving", "native"])
def test_a_protocol_that_is_switched_off_answers_on_no_port_and_is_not_described(tmp_path, off):
    port, names = free_port(), [name for name in TAGS if name != off]
    arguments = ["--protocols", ",".join(names)] if off else []
    with Process(tmp_path, "serve", EXAMPLES / "iris-onnx", "--grpc-port", port, *arguments) as process:
        process.wait_for(lambda: f"gRPC on 127.0.0.1:{port}" in process.output)
        for name, (path, body) in CALLS.items():
            status = ask(process.port, "POST", path, body)[0]
            assert status in (404, 405) if name == off else status == 200
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for name, (method, asked) in SERVICES.items():
                call = channel.unary_unary(method).with_call
                if name == off:
                    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                        call(asked.SerializeToString(), timeout=20)
                else:
                    assert call(asked.SerializeToString(), timeout=20)
        operations = [each for path in process.json("/openapi.json")["paths"].values() for each in path.values()]
        assert all(len(each["tags"]) == 1 for each in operations)
        groups = {each["tags"][0] for each in operations}
        assert groups & set(TAGS.values()) == {TAGS[name] for name in names}


def _tags(operations):
    return [tag for operation in operations.values() for tag in operation["tags"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--door", "sagemaker"], "such as sagemaker=8080"),
        (["--door", "sagemaker=70000"], "such as sagemaker=8080"),
        (["--door", "sagemake=0"], "did you mean 'sagemaker'?"),
        (["--protocols", "native,nothing"], "no protocol named 'nothing'"),
        (
            ["--protocols", "native,torchserve-management"],
            "the protocols 'native' and 'torchserve-management' both claim GET /models",
        ),
        (["--door", "sagemaker=1234", "--door", "torchserve=1234"], "both claim GET /ping"),
        (["--host", "0.0.0.0", "--door", "sagemaker=0"], "refusing to listen on 0.0.0.0"),
    ],
)
def test_a_door_that_cannot_be_is_refused_at_the_start(tmp_path, arguments, words):
    with Process(tmp_path, "serve", EXAMPLES / "iris-onnx", *arguments) as process:
        assert process.exit_code() == 2
        assert words in process.output


def test_sagemaker_starts_its_container_with_nothing_but_serve(tmp_path):
    (tmp_path / "model").symlink_to(EXAMPLES / "iris-onnx")
    port = free_port()
    env = {"SAGEMAKER_BASE_DIR": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": str(port)}
    with Process(tmp_path, "--log-format", "text", env=env, port=port, command=[*INFERD, "serve"]) as process:
        process.wait_for(lambda: process.ask("GET", "/ping")[0] == 200)
        status, answer = ask(port, "POST", "/invocations", [ROW])
        assert (status, [list(each) for each in answer]) == (200, [["label", "probabilities"]])
        assert ask(port, "GET", "/admin/models")[0] == 401, "a public address without keys keeps its control routes"
        assert process.signal().exit_code() == 0


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_vertex_names_port_routes_and_model_by_environment(tmp_path, scheme):
    port = free_port()
    env = {
        "AIP_HTTP_PORT": str(port),
        "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_STORAGE_URI": f"{scheme}{EXAMPLES / 'iris-onnx'}",
    }
    with Process(tmp_path, "--log-format", "text", env=env, port=port, command=[*INFERD, "serve"]) as process:
        process.wait_for(lambda: process.ask("GET", "/health")[0] == 200)
        status, answer = ask(port, "POST", env["AIP_PREDICT_ROUTE"], {"instances": [ROW]})
        assert (status, answer["predictions"][0]["label"]) == (200, "setosa")
        assert process.signal().exit_code() == 0
