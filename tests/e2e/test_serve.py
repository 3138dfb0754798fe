"""The command as people run it: start, table, curl, readiness, settings, refusals."""

import http.client
import json
import re
import ssl
import subprocess
import sys
from hashlib import sha256

import pytest
import trustme
from serve_support import CLEAN, EXAMPLES, Process, free_port, gated_model


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    with Process(tmp_path_factory.mktemp("examples"), "serve", EXAMPLES, "--default-model", "iris-onnx") as process:
        yield process.wait_ready().wait_for(lambda: "Try:" in process.output)


def test_the_table_names_every_example_and_where_it_runs(examples):
    for name in ("digits", "iris", "iris-onnx", "topic"):
        assert re.search(rf"{name} +│ 1 +│ \w+ +│ cpu +│ READY", examples.output), examples.output


def test_the_printed_curl_works_as_it_is(examples):
    command = next(line for line in examples.output.splitlines() if line.startswith("curl "))
    assert paste(command).endswith(" 200")


@pytest.mark.parametrize("name", ["digits", "iris", "iris-onnx", "topic"])
def test_the_curl_of_each_example_alone_works(tmp_path, name):
    with Process(tmp_path, "serve", EXAMPLES / name) as process:
        process.wait_ready().wait_for(lambda: "curl " in process.output)
        command = next(line for line in process.output.splitlines() if "curl http" in line)
        assert paste(command).endswith(" 200"), command


def paste(command, **variables):
    """Run the printed command in a shell; what it wrote, and the status of the answer."""
    done = subprocess.run(
        ["bash", "-c", f"{command} -s -w ' %{{http_code}}'"], capture_output=True, text=True, env={**CLEAN, **variables}
    )
    return done.stdout


def test_the_five_endpoints_answer(examples):
    assert examples.json("/health") == {"status": "ok"}
    assert examples.json("/ready") == {"ready": True, "blockers": []}
    status, headers, body = examples.predict([[5.1, 3.5, 1.4, 0.2]])
    assert (status, headers["inferd-model"]) == (200, "iris-onnx")
    assert json.loads(body)["predictions"][0]["label"] == "setosa"
    assert examples.json("/model/info")["runtime"] == "onnx"
    metrics = examples.ask("GET", "/metrics")[2].decode()
    assert 'inferd_requests_total{model="iris-onnx",version="1",protocol="native",outcome="ok"}' in metrics


def test_the_example_of_the_typed_document_works_untouched(examples):
    document = examples.json("/openapi.json")
    tried = 0
    for path, item in document["paths"].items():
        example = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in example:
            status, _, body = examples.ask(
                "POST", path, json.dumps(example["example"]), {"Content-Type": "application/json"}
            )
            assert status == 200, (path, body)
            tried += 1
    assert tried >= 9


def test_text_goes_in_and_labels_come_out(examples):
    _, _, body = examples.predict(["Return the inverse of a matrix."], path="/models/topic/predict")
    assert json.loads(body)["predictions"][0]["label"] == "arrays"


def test_a_model_that_cannot_load_leaves_the_others_serving(tmp_path, iris_onnx):
    good, bad = tmp_path / "models" / "good" / "1", tmp_path / "models" / "bad" / "1"
    good.mkdir(parents=True)
    bad.mkdir(parents=True)
    (good / "model.onnx").write_bytes(iris_onnx.artefact.read_bytes())
    (bad / "model.onnx").write_bytes(b"not a model")
    with Process(tmp_path, "serve", "models") as process:
        process.wait_ready().wait_for(lambda: "Try:" in process.output)
        assert process.predict([[1, 2, 3, 4]], path="/models/good/predict")[0] == 200
        status, headers, body = process.predict([[1, 2, 3, 4]], path="/models/bad/predict")
        assert (status, headers["retry-after"]) == (503, "1")
        assert "not a model ONNX Runtime can load" in json.loads(body)["detail"]
        assert process.ask("GET", "/ready?model=bad")[0] == 503
        assert process.ask("GET", "/ready?model=nobody")[0] == 404
        assert "bad version 1 FAILED: model.onnx is not a model" in process.output
    with Process(tmp_path, "serve", "models", "--strict") as process:
        assert process.exit_code() == 1
        assert "--strict is set" in process.output


def test_until_it_is_ready_probes_answer_and_predictions_are_told_to_come_back(tmp_path):
    model = gated_model(tmp_path)
    hold = tmp_path / "hold-load"
    hold.touch()
    with Process(tmp_path, "serve", model) as process:
        process.wait_listening()
        process.wait_for(lambda: process.json("/models")["models"][0]["versions"][0]["state"] == "LOADING")
        assert process.json("/ready") == {
            "ready": False,
            "blockers": [{"model": "gated", "version": 1, "state": "LOADING"}],
        }
        status, headers, body = process.predict([[1, 2]])
        assert (status, headers["retry-after"]) == (503, "1")
        assert "LOADING" in json.loads(body)["detail"]
        hold.unlink()
        process.wait_ready()
        assert process.predict([[1, 2]])[0] == 200


def test_without_a_default_the_models_are_listed(tmp_path):
    with Process(tmp_path, "serve", EXAMPLES / "iris-onnx", EXAMPLES / "topic") as process:
        status, _, body = process.wait_ready().predict([[1, 2, 3, 4]])
        assert status == 400
        assert json.loads(body)["expected"] == ["iris-onnx", "topic"]


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path, iris_onnx):
    (tmp_path / "inferd.toml").write_text("max_batch_size = 3\nmax_wait_ms = 3.0\nnan = 'null'\n")
    env = {"INFERD_MAX_BATCH_SIZE": "5", "INFERD_MAX_WAIT_MS": "5"}
    with Process(tmp_path, "serve", iris_onnx.artefact, "--max-wait-ms", "7", env=env) as process:
        info = process.wait_ready().json("/model/info")
    assert (info["batching"]["max_batch_size"], info["batching"]["max_wait_ms"], info["nan"]) == (5, 7.0, "null")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["missing.onnx"], "missing.onnx does not exist"),
        (["--host", "0.0.0.0", str(EXAMPLES / "iris-onnx")], "refusing to listen on 0.0.0.0 without API keys"),
        (["--default-model", "nobody", str(EXAMPLES / "iris-onnx")], "'nobody' is not served"),
        (["--max-body-mb", "lots", str(EXAMPLES / "iris-onnx")], "max-body-mb"),
        ([], "name at least one PATH"),
        (["--tls-key", "key.pem", str(EXAMPLES / "iris-onnx")], "needs both --tls-certificate and --tls-key"),
        (["--tls-key", "k.pem", "--tls-certificate", "c.pem", str(EXAMPLES / "iris-onnx")], "c.pem cannot be used"),
    ],
)
def test_what_must_be_mended_first_is_one_readable_line_and_exit_code_2(tmp_path, args, sentence):
    with Process(tmp_path, "serve", *args) as process:
        assert process.exit_code() == 2
        assert sentence in process.output
        assert "Traceback" not in process.output


def test_a_port_in_use_is_said_so(tmp_path, iris_onnx):
    with Process(tmp_path, "serve", iris_onnx.artefact) as first:
        first.wait_listening()
        with Process(tmp_path, "serve", iris_onnx.artefact, port=first.port) as second:
            assert second.exit_code() == 2
            assert second.output.count("\n") == 1
            assert f"cannot listen on 127.0.0.1:{first.port}" in second.output
        assert first.ask("GET", "/health")[0] == 200


def test_a_public_address_serves_everyone_when_told_to(tmp_path, iris_onnx):
    with Process(tmp_path, "serve", iris_onnx.artefact, "--host", "0.0.0.0", "--open") as process:
        process.wait_ready()
        assert process.predict([[1, 2, 3, 4]], Host="models.example")[0] == 200


@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_public_address_with_keys_serves_who_has_one(tmp_path, iris_onnx, place):
    if place == "file":
        with Process(tmp_path, "keys", "new", "--scope", "inference", "--file", "keys.toml") as made:
            assert made.exit_code() == 0
            (secret,) = re.findall(r"inferd_\S+", made.output)
        assert secret not in (tmp_path / "keys.toml").read_text()
        flags, env = ("--api-keys-file", "keys.toml"), {}
    else:
        secret = "a long secret"
        flags, env = (), {"INFERD_API_KEYS": f"me:inference:{sha256(secret.encode()).hexdigest()}"}
    with Process(tmp_path, "serve", iris_onnx.artefact, "--host", "0.0.0.0", *flags, env=env) as process:
        process.wait_ready().wait_for(lambda: "curl " in process.output)
        assert process.predict([[1, 2, 3, 4]])[0] == 401
        assert process.predict([[1, 2, 3, 4]], X_API_Key=secret)[0] == 200
        command = next(line for line in process.output.splitlines() if line.startswith("curl "))
        assert paste(command, INFERD_API_KEY=secret).endswith(" 200")
        assert paste(command, INFERD_API_KEY="").endswith(" 401")
        assert secret not in process.output


def test_an_ipv6_address_is_printed_so_that_it_works(tmp_path, iris_onnx):
    with Process(tmp_path, "serve", iris_onnx.artefact, "--host", "::1") as process:
        process.wait_for(lambda: "curl " in process.output)
        command = next(line for line in process.output.splitlines() if line.startswith("curl "))
        assert paste(command).endswith(" 200")


def test_the_asgi_front_serves_the_same(tmp_path, iris_onnx):
    with Process(tmp_path, "serve", iris_onnx.artefact, "--front", "asgi", "--access-log") as process:
        process.wait_ready().wait_for(lambda: "curl " in process.output)
        command = next(line for line in process.output.splitlines() if line.startswith("curl "))
        assert paste(command).endswith(" 200")
        process.wait_for(lambda: "POST /predict 200" in process.output)
        assert process.signal().exit_code() == 0


def test_https_is_served_with_a_certificate(tmp_path, iris_onnx):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    flags = ("--tls-certificate", "certificate.pem", "--tls-key", "key.pem")
    with Process(tmp_path, "serve", iris_onnx.artefact, *flags) as process:
        process.wait_for(lambda: "Listening on https://" in process.output)
        connection = http.client.HTTPSConnection("localhost", process.port, context=trusted)
        for _ in range(3):
            connection.request("POST", "/predict", '{"instances": [[5.1, 3.5, 1.4, 0.2]]}')
            response = connection.getresponse()
            assert (response.status, b"setosa" in response.read()) == (200, True)
        connection.close()
        assert process.signal().exit_code() == 0


def test_the_access_log_has_a_line_for_each_request_and_is_off_by_default(tmp_path, iris_onnx):
    with Process(tmp_path, "serve", iris_onnx.artefact, "--access-log") as process:
        process.wait_ready().predict([[1, 2, 3, 4]], X_Request_Id="hot-1")
        process.predict([[1]], X_Request_Id="hot-2")
        process.ask("GET", "/nowhere", headers={"X-Request-Id": "cold-1"})
        for line in (r"POST /predict 200 \d+ bytes .* ms \[hot-1\]", r"422 .* \[hot-2\]", r"404 .* \[cold-1\]"):
            process.wait_for(lambda line=line: re.search(line, process.output))
    with Process(tmp_path, "serve", iris_onnx.artefact) as process:
        process.wait_ready().predict([[1, 2, 3, 4]])
        assert process.signal().exit_code() == 0
        assert "/predict 200" not in process.output


def test_json_logs_carry_the_request_id(tmp_path, iris_onnx):
    flags = ("--log-format", "json", "--access-log")
    with Process(tmp_path, "serve", iris_onnx.artefact, *flags) as process:
        process.wait_ready().predict([[1, 2, 3, 4]], X_Request_Id="find-me")
        process.wait_for(lambda: "find-me" in process.output)
        lines = [json.loads(line) for line in process.output.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "find-me"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/predict", 200)
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert f"http://127.0.0.1:{process.port}" in [line.get("url") for line in lines]


CODE = """
from typing import Annotated

import numpy as np

class Triple:
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 3

def halve(x: Annotated[np.ndarray, "FP32[-1]"]) -> Annotated[np.ndarray, "FP32[-1]"]:
    return x / 2
"""


@pytest.mark.parametrize(
    ("target", "body", "answer"),
    [
        ("arithmetic:Triple", {"instances": [[1, 2]]}, {"predictions": [[3, 6]]}),
        ("arithmetic.py:Triple", {"instances": [[1, 2]]}, {"predictions": [[3, 6]]}),
        ("arithmetic.py:halve", {"inputs": {"x": [2, 4]}}, {"outputs": [1, 2]}),
    ],
)
def test_classes_and_functions_are_served_from_a_module_or_a_file(tmp_path, target, body, answer):
    (tmp_path / "arithmetic.py").write_text(CODE)
    with Process(tmp_path, "serve", target, env={"PYTHONPATH": str(tmp_path)}) as process:
        process.wait_ready()
        status, _, text = process.ask("POST", "/predict", json.dumps(body), {"Content-Type": "application/json"})
        assert (status, json.loads(text)) == (200, answer), process.output


def test_hooks_beside_an_artefact_change_what_callers_send(tmp_path, iris_onnx):
    version = tmp_path / "flowers" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(iris_onnx.artefact.read_bytes())
    (version / "hooks.py").write_text(
        "import numpy as np\n"
        'inputs = {"centimetres": "FP32[-1, 4]"}\n'
        'outputs = {"name": "BYTES[-1]"}\n'
        "batchable = True\n"
        "def preprocess(centimetres: np.ndarray) -> dict:\n"
        '    return {"x": centimetres}\n'
        "def postprocess(label: np.ndarray) -> dict:\n"
        '    return {"name": np.array([b"Iris " + each for each in label], dtype=object)}\n'
    )
    with Process(tmp_path, "serve", "flowers") as process:
        process.wait_for(lambda: "FAILED" in process.output or process.ask("GET", "/ready")[0] == 200)
        status, _, body = process.predict([[5.1, 3.5, 1.4, 0.2]])
        assert (status, json.loads(body)) == (200, {"predictions": ["Iris setosa"]}), process.output


SCRIPT = """
import asyncio, sys, urllib.request
import numpy as np
import inferd

class Double:
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2

if sys.argv[1] == "script":
    assert inferd.serve(Double(), port=int(sys.argv[2])) is None
    print("ended")
else:
    async def notebook():
        with inferd.serve(Double(), port=0) as server:
            url = server.url
            while True:
                try:
                    print(await asyncio.to_thread(lambda: urllib.request.urlopen(url + "/ready").status))
                    break
                except urllib.error.HTTPError:
                    pass
        print(server)
    asyncio.run(notebook())
"""


def test_a_script_serves_an_object_until_a_signal(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = Process.__new__(Process)
    process.port = free_port()
    process.log = tmp_path / "out.txt"
    with process.log.open("wb") as log:
        command = [sys.executable, str(script), "script", str(process.port)]
        process.process = subprocess.Popen(command, stdout=log, stderr=log, env=CLEAN)
    with process:
        process.wait_ready()
        assert json.loads(process.predict([[1, 2]])[2]) == {"predictions": [[2, 4]]}
        assert process.signal().exit_code() == 0
        assert process.output.endswith("ended\n")


def test_under_a_running_loop_serve_returns_a_handle(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script), "notebook"], capture_output=True, text=True, env=CLEAN)
    assert done.stdout.splitlines()[0] == "200", done.stderr
    assert "stopped" in done.stdout
