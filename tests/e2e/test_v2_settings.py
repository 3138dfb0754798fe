"""Log and trace settings, read and changed by Triton's own clients."""

import json
from hashlib import sha256

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from serve_support import EXAMPLES, Process, free_port
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module", params=[True, False], ids=["traced", "untraced"])
def server(request, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("settings"), free_port()
    flags = ("--grpc-port", port, "--access-log", *(["--otel"] if request.param else []))
    # Nobody listens there: spans are dropped, which is said in the log at the end.
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with Process(folder, "serve", EXAMPLES / "iris-onnx", EXAMPLES / "iris", *flags, env=env) as process:
        process.grpc_port, process.is_traced = port, request.param
        yield process.wait_ready()


@pytest.fixture(params=["http", "grpc"])
def client(request, server):
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]
    address = f"127.0.0.1:{server.port if request.param == 'http' else server.grpc_port}"
    with module.InferenceServerClient(address) as client:
        client.is_http = request.param == "http"
        yield client
        client.update_log_settings({"log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0})


def logs(client, answer):
    if client.is_http:
        return answer
    return {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in answer.settings.items()}


def traces(client, answer):
    if client.is_http:
        return answer
    found = {name: list(each.value) for name, each in answer.settings.items()}
    return {name: value if name == "trace_level" else value[0] for name, value in found.items()}


USUAL = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def test_log_settings_are_read_and_changed(server, client):
    assert logs(client, client.get_log_settings()) == USUAL
    changed = logs(client, client.update_log_settings({"log_verbose_level": 1, "log_file": ""}))
    assert changed == {**USUAL, "log_verbose_level": 1}
    assert logs(client, client.update_log_settings({"log_verbose_level": 0})) == USUAL
    client.update_log_settings({"log_info": False})
    server.ask("GET", "/v2", headers={"X-Request-Id": "unseen"})
    client.update_log_settings({"log_info": True})
    server.ask("GET", "/v2", headers={"X-Request-Id": "seen"})
    server.wait_for(lambda: "[seen]" in server.output)
    assert "[unseen]" not in server.output


@pytest.mark.parametrize("given", [{"log_file": "/etc/passwd"}, {"log_format": "ISO8601"}])
def test_what_the_server_decides_about_logs_is_refused(client, given):
    with pytest.raises(InferenceServerException, match="the server's configuration"):
        client.update_log_settings({"log_info": False, **given})
    assert logs(client, client.get_log_settings()) == USUAL


def test_trace_settings_are_read_and_changed(server, client):
    usual = {
        "trace_level": ["TIMESTAMPS" if server.is_traced else "OFF"],
        "trace_rate": "1",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": "opentelemetry",
    }
    assert traces(client, client.get_trace_settings()) == usual
    if not server.is_traced:
        with pytest.raises(InferenceServerException, match="--otel"):
            client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
        return
    wanted = {"trace_level": ["OFF"], "trace_rate": "3", "trace_count": "5"}
    assert traces(client, client.update_trace_settings(settings=wanted)) == {**usual, **wanted}
    assert not traceparent(server)
    client.update_trace_settings(settings={"trace_level": "TIMESTAMPS", "trace_rate": "1"})
    assert [traceparent(server) for _ in range(7)] == [True] * 5 + [False] * 2
    reset = client.update_trace_settings(settings={"trace_level": None, "trace_rate": None, "trace_count": None})
    assert traces(client, reset) == usual


def traceparent(server, path="/models/iris-onnx/predict"):
    rows = np.zeros((1, 4)).tolist()
    return "traceparent" in server.predict(rows, path)[1]


@pytest.mark.parametrize(
    "given",
    [{"trace_file": "/tmp/x"}, {"trace_mode": "triton"}, {"trace_level": ["TENSORS"]}, {"trace_rate": "0"}],
)
def test_what_traces_have_not_is_refused(client, given):
    with pytest.raises(InferenceServerException):
        client.update_trace_settings(settings=given)
    with pytest.raises(InferenceServerException):
        client.update_trace_settings(model_name="iris-onnx", settings={"trace_count": "1", **given})
    assert traces(client, client.get_trace_settings("iris-onnx")) == traces(client, client.get_trace_settings())


def test_a_models_trace_settings_are_its_own_until_they_are_cleared(server, client):
    with pytest.raises(InferenceServerException, match="no model named"):
        client.get_trace_settings("nobody")
    with pytest.raises(InferenceServerException, match="no model named"):
        client.update_trace_settings(model_name="nobody", settings={"trace_rate": "2"})
    if not server.is_traced:
        with pytest.raises(InferenceServerException, match="--otel"):
            client.update_trace_settings(model_name="iris-onnx", settings={"trace_rate": "2"})
        return
    usual = traces(client, client.get_trace_settings())
    given = {"trace_rate": "2", "trace_count": "2"}
    changed = traces(client, client.update_trace_settings(model_name="iris-onnx", settings=given))
    assert changed == {**usual, **given}
    assert traces(client, client.get_trace_settings()) == usual
    assert [traceparent(server) for _ in range(6)] == [False, True, False, True, False, False]
    assert [traceparent(server, "/models/iris/predict") for _ in range(2)] == [True, True]
    client.update_trace_settings(settings={"trace_level": ["OFF"]})
    assert not traceparent(server, "/models/iris/predict")
    own = client.update_trace_settings(
        model_name="iris-onnx", settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "-1"}
    )
    assert traces(client, own)["trace_level"] == ["TIMESTAMPS"]
    assert traceparent(server)
    cleared = {"trace_level": None, "trace_rate": None, "trace_count": None}
    assert traces(client, client.update_trace_settings(model_name="iris-onnx", settings=cleared))["trace_level"] == [
        "OFF"
    ]
    assert not traceparent(server)
    client.update_trace_settings(settings=cleared)
    assert traceparent(server)


@pytest.mark.parametrize("path", ["/v2/logging", "/v2/trace/setting"])
@pytest.mark.parametrize("body", ["", "[]", "{", '{"nothing": 1}', '{"log_info": 1}', '{"trace_rate": "x"}'])
def test_a_mistake_is_told(server, path, body):
    status, _, answer = server.ask("POST", path, body)
    assert (status, list(json.loads(answer))) == (400, ["error"])


def test_settings_need_the_admin_scope(tmp_path):
    port = free_port()
    env = {"INFERD_API_KEYS": f"me:inference:{sha256(b'key').hexdigest()}"}
    with Process(tmp_path, "serve", EXAMPLES / "iris-onnx", "--grpc-port", port, env=env) as process:
        process.wait_ready()
        key = {"Authorization": "Bearer key"}
        for path in ("/v2/logging", "/v2/trace/setting", "/v2/models/iris-onnx/trace/setting"):
            assert process.ask("POST", path, "{}", key)[0] == 403
        with (
            tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client,
            pytest.raises(InferenceServerException, match="PERMISSION_DENIED"),
        ):
            client.get_log_settings(headers={"authorization": "Bearer key"})
