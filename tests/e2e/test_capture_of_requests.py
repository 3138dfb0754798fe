"""``inferd capture`` on a real server under load: answers are as ever, and the file holds what was sent and got."""

import json
import shutil
import signal
import threading

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from serve_support import EXAMPLES, Process, free_port

from inferd.server.capture_file import read_capture

JSON = {"Content-Type": "application/json"}
CODE = """
import inferd
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 3]", "who": "BYTES[-1]"}
    outputs = {"y": "FP32[-1, 3]", "version": "INT64[-1]"}
    batchable = True

    def predict(self, x, who):
        if (x < 0).any():
            raise inferd.InvalidInput("below zero")
        return {"y": x * np.float32(VERSION), "version": np.full(len(x), VERSION)}
"""


def put(repository, version):
    folder = repository / "m" / str(version)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(CODE.replace("VERSION", str(version)))


def rows_of(number):
    """Inputs that no other request has, one to three rows of them."""
    count = 1 + number % 3
    return np.full((count, 3), number, np.float32), np.array([f"user-{number}".encode()] * count, object)


def ask_json(process, number):
    x, who = rows_of(number)
    body = json.dumps({"inputs": {"x": x.tolist(), "who": [each.decode() for each in who]}})
    status, headers, answer = process.ask("POST", "/predict", body, {**JSON, "X-Request-Id": str(number)})
    assert status == 200, answer
    return json.loads(answer)["outputs"]["y"], int(headers["inferd-model-version"])


def ask_triton(module, client, number):
    x, who = rows_of(number)
    tensors = [module.InferInput("x", x.shape, "FP32"), module.InferInput("who", who.shape, "BYTES")]
    for tensor, array in zip(tensors, (x, who), strict=True):
        tensor.set_data_from_numpy(array)
    answer = client.infer(
        "m", tensors, outputs=[module.InferRequestedOutput("y"), module.InferRequestedOutput("version")]
    )
    return answer.as_numpy("y").tolist(), int(answer.as_numpy("version")[0])


class Caller(threading.Thread):
    """Asks with the numbers it is given, and keeps what it got."""

    def __init__(self, ask, numbers):
        super().__init__(daemon=True)
        self.ask, self.numbers, self.got, self.wrong = ask, numbers, {}, []

    def run(self):
        for number in self.numbers:
            try:
                self.got[number] = self.ask(number)
            except Exception as error:
                self.wrong.append((number, repr(error)))


@pytest.mark.parametrize(("front", "grpc_front"), [("hot", "native"), ("asgi", "grpcio")])
def test_the_file_holds_what_every_protocol_sent_and_got_through_a_swap(tmp_path, front, grpc_front):
    repository, port, out = tmp_path / "models", free_port(), tmp_path / "capture.npz"
    put(repository, 1)
    flags = ("--front", front, "--grpc-port", port, "--grpc-front", grpc_front)
    with Process(tmp_path, "serve", repository, *flags) as process:
        process.wait_ready()
        url = f"http://127.0.0.1:{process.port}"
        command = ("capture", "m", "--requests", 400, "-o", out, "--url", url, "--json")
        with (
            Process(tmp_path, *command) as capture,
            triton_http.InferenceServerClient(f"127.0.0.1:{process.port}") as http_client,
            triton_grpc.InferenceServerClient(f"127.0.0.1:{port}") as grpc_client,
        ):
            process.wait_for(lambda: process.ask("GET", "/admin/models/m/capture")[0] == 200)
            asks = (
                lambda number: ask_json(process, number),
                lambda number: ask_json(process, number),
                lambda number: ask_triton(triton_http, http_client, number),
                lambda number: ask_triton(triton_grpc, grpc_client, number),
            )
            callers = [Caller(ask, range(1000 * i, 1000 * i + 100)) for i, ask in enumerate(asks, 1)]
            for caller in callers:
                caller.start()
            put(repository, 2)
            assert process.ask("POST", "/admin/models/m/load", "", JSON)[0] == 200
            for caller in callers:
                caller.join(60)
            assert [caller.wrong for caller in callers] == [[]] * 4
            assert capture.exit_code() == 0, capture.output
        status = json.loads(capture.output)
        assert (status["held"], status["dropped"]) == (400, {})
        assert process.ask("GET", "/admin/models/m/capture")[0] == 404
        assert 'inferd_captured_total{model="m"} 400' in process.ask("GET", "/metrics")[2].decode()
    got = {number: answer for caller in callers for number, answer in caller.got.items()}
    assert len(got) == 400
    for request in read_capture(out).requests:
        number = int(request.inputs["x"][0, 0])
        x, who = rows_of(number)
        np.testing.assert_array_equal(request.inputs["x"], x)
        assert request.inputs["who"].tolist() == who.tolist()
        y, version = got.pop(number)
        assert request.outputs["y"].tolist() == y
        assert request.version == version
        assert request.total_ns >= request.compute_ns > 0
        if number < 3000:
            assert request.request_id == str(number)
    assert got == {}


@pytest.fixture
def iris(tmp_path):
    shutil.copytree(EXAMPLES / "iris-onnx", tmp_path / "models" / "iris-onnx")
    with Process(tmp_path, "serve", tmp_path / "models") as process:
        yield process.wait_ready()


def test_interrupted_it_saves_what_there_is(tmp_path, iris):
    out, url = tmp_path / "capture.npz", f"http://127.0.0.1:{iris.port}"
    with Process(tmp_path, "capture", "iris-onnx", "-o", out, "--url", url) as capture:
        iris.wait_for(lambda: iris.ask("GET", "/admin/models/iris-onnx/capture")[0] == 200)
        iris.predict([[5.1, 3.5, 1.4, 0.2]])
        assert capture.signal(signal.SIGINT).exit_code() == 0, capture.output
        assert "capture.npz: 1 of 1 requests to iris-onnx" in capture.output
    (request,) = read_capture(out).requests
    assert request.outputs["label"].tolist() == [b"setosa"]
    assert iris.ask("GET", "/admin/models/iris-onnx/capture")[0] == 404


def test_without_a_request_nothing_is_written(tmp_path, iris):
    out, url = tmp_path / "capture.npz", f"http://127.0.0.1:{iris.port}"
    with Process(tmp_path, "capture", "iris-onnx", "--for", "0.1s", "-o", out, "--url", url) as capture:
        assert capture.exit_code() == 1
        assert "none of 0 requests to iris-onnx was kept; nothing is written" in capture.output
    assert sorted(path.name for path in tmp_path.glob("capture*")) == []


def test_failures_are_captured_with_their_outcome(tmp_path):
    put(tmp_path / "models", 1)
    with Process(tmp_path, "serve", tmp_path / "models") as process:
        process.wait_ready()
        assert process.ask("PUT", "/admin/models/m/capture", "{}", JSON)[0] == 201
        body = json.dumps({"inputs": {"x": [[-1, 0, 0]], "who": ["a"]}})
        assert process.ask("POST", "/predict", body, JSON)[0] == 422
        assert process.ask("POST", "/predict", '{"inputs": {"x": 1}}', JSON)[0] == 422
        content = process.ask("GET", "/admin/models/m/capture/requests.npz")[2]
    file = tmp_path / "capture.npz"
    file.write_bytes(content)
    (request,) = read_capture(file).requests
    assert (request.outcome, request.reason, request.outputs) == ("invalid_argument", "below zero", {})


def test_the_command_says_what_is_wrong(tmp_path, iris):
    url = f"http://127.0.0.1:{iris.port}"

    def run(*args):
        with Process(tmp_path, "capture", *args) as command:
            return command.exit_code(), command.output

    good = ("-o", tmp_path / "capture.npz", "--url", url)
    code, output = run("iris-onnx", "--redact", "name", *good)
    assert (code, output) == (
        2,
        "inferd: 'iris-onnx' has no input or output named 'name'; there are: label, probabilities, x\n",
    )
    code, output = run("nobody", *good)
    assert code == 2
    assert "no model named 'nobody'" in output
    code, output = run("iris-onnx", "-o", tmp_path / "capture.txt", "--url", url)
    assert code == 2
    assert "give a file that ends in .npz" in output
    code, output = run("iris-onnx", "--for", "soon", *good)
    assert code == 2
    assert "'soon' is no time; write 90s, 10m or 1.5h" in output
    code, output = run("iris-onnx", "-o", tmp_path / "capture.npz", "--url", f"http://127.0.0.1:{free_port()}")
    assert code == 2
    assert "no answer from" in output
    assert not list(tmp_path.glob("capture*"))
