"""Models loaded and unloaded by Triton's own clients, over HTTP and gRPC, with and without a configuration."""

import json
import shutil

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from serve_support import EXAMPLES, Process, free_port
from tritonclient.utils import InferenceServerException

ROWS = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("control")
    port = free_port()
    shutil.copytree(EXAMPLES / "iris-onnx", folder / "models" / "iris-onnx")
    with Process(folder, "serve", "models", "--model-control", "--grpc-port", port) as process:
        process.grpc_port, process.folder = port, folder
        yield process.wait_ready()


@pytest.fixture(params=["http", "grpc"])
def client(request, server):
    if request.param == "http":
        made = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}")
    else:
        made = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    with made as client:
        client.module = tritonclient.http if request.param == "http" else tritonclient.grpc
        yield client
        client.load_model("iris-onnx")


def infer(client):
    tensor = client.module.InferInput("x", ROWS.shape, "FP32")
    tensor.set_data_from_numpy(ROWS)
    return client.infer("iris-onnx", [tensor]).as_numpy("label").tolist()


def config(client):
    if client.module is tritonclient.http:
        return client.get_model_config("iris-onnx")
    return client.get_model_config("iris-onnx", as_json=True)["config"]


def test_a_model_is_unloaded_and_loaded_again(client):
    client.unload_model("iris-onnx")
    assert not client.is_model_ready("iris-onnx")
    with pytest.raises(InferenceServerException):
        infer(client)
    client.load_model("iris-onnx")
    client.load_model("iris-onnx")
    assert infer(client) == [b"setosa"]


def test_a_configuration_holds_until_a_load_without_one(client):
    given = {
        "name": "iris-onnx",
        "max_batch_size": 7,
        "dynamic_batching": {
            "max_queue_delay_microseconds": 1500,
            "default_queue_policy": {"max_queue_size": 30, "default_timeout_microseconds": "2000000"},
        },
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "version_policy": {"latest": {"num_versions": 1}},
    }
    client.load_model("iris-onnx", config=json.dumps(given))
    assert config(client)["max_batch_size"] == 7
    assert int(config(client)["dynamic_batching"]["max_queue_delay_microseconds"]) == 1500
    assert infer(client) == [b"setosa"]
    client.load_model("iris-onnx")
    assert config(client)["max_batch_size"] != 7


def test_a_configuration_that_was_read_may_be_sent_back(client):
    client.load_model("iris-onnx", config=json.dumps({**config(client), "max_batch_size": 9}))
    assert config(client)["max_batch_size"] == 9


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "offset|byte|JSON"),
        ("[]", "object"),
        ('{"name": "other"}', "config.name"),
        ('{"max_batch_size": -1}', "config.max_batch_size"),
        ('{"max_batch_size": 1.5}', "config.max_batch_size"),
        ('{"backend": "tensorrt"}', "config.backend cannot be set"),
        ('{"sequence_batching": {"direct": {}}}', "config.sequence_batching cannot be set"),
        ('{"dynamic_batching": {"preferred_batch_size": [4]}}', "preferred_batch_size cannot be set"),
        ('{"dynamic_batching": {"default_queue_policy": {"timeout_action": "DELAY"}}}', "REJECT"),
        ('{"instance_group": [{}, {}]}', "one group"),
        ('{"instance_group": [{"kind": "KIND_TPU"}]}', "KIND_TPU"),
        ('{"instance_group": [{"kind": "KIND_GPU", "gpus": [0, 1]}]}', "one device"),
        ('{"version_policy": {"specific": {"versions": []}}}', "version numbers"),
        ('{"version_policy": {"latest": {"num_versions": -1}}}', "num_versions"),
        ('{"version_policy": {"specific": {"versions": [99]}}}', "99"),
    ],
)
def test_what_no_model_toml_could_say_is_refused_and_the_model_stays(client, given, words):
    with pytest.raises(InferenceServerException, match=words):
        client.load_model("iris-onnx", config=given)
    assert infer(client) == [b"setosa"]


def test_a_load_that_fails_says_why_and_what_served_before_serves_on(client, server):
    artefact = server.folder / "models" / "iris-onnx" / "1" / "iris.onnx"
    content = artefact.read_bytes()
    try:
        artefact.write_bytes(b"nonsense")
        for given in (None, '{"max_batch_size": 5}'):
            with pytest.raises(InferenceServerException, match="was not loaded"):
                client.load_model("iris-onnx", config=given)
            assert infer(client) == [b"setosa"]
    finally:
        artefact.write_bytes(content)


def test_a_configuration_survives_a_restart(tmp_path):
    flags = ("--model-control", "--state-file", tmp_path / "state.db")
    for _ in range(2):
        with (
            Process(tmp_path, "serve", EXAMPLES / "iris-onnx", *flags) as process,
            tritonclient.http.InferenceServerClient(f"127.0.0.1:{process.wait_ready().port}") as client,
        ):
            if client.get_model_config("iris-onnx")["max_batch_size"] != 6:
                client.load_model("iris-onnx", config='{"max_batch_size": 6}')
            assert client.get_model_config("iris-onnx")["max_batch_size"] == 6
            assert "configure" in process.ask("GET", "/admin/models/iris-onnx/history")[2].decode()
            process.signal().exit_code()


def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(InferenceServerException, match="no model named"):
        client.load_model("nobody")
    with pytest.raises(InferenceServerException, match="no model named"):
        client.unload_model("nobody")


def test_nothing_is_loaded_without_model_control(tmp_path):
    port = free_port()
    with Process(tmp_path, "serve", EXAMPLES / "iris-onnx", "--grpc-port", port) as process:
        process.wait_ready()
        for client in (
            tritonclient.http.InferenceServerClient(f"127.0.0.1:{process.port}"),
            tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}"),
        ):
            with client, pytest.raises(InferenceServerException, match="--model-control"):
                client.unload_model("iris-onnx")
