"""SageMaker's multi-model container: a real server that starts empty and is given models by path."""

import json
import shutil

import pytest
from serve_support import EXAMPLES, INFERD, Process

ROW = [5.1, 3.5, 1.4, 0.2]
HUNGRY = """
class Model:
    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"y": "FP32[-1, 2]"}
    batchable = True

    def load(self):
        raise MemoryError("8 GiB")

    def predict(self, x):
        return x
"""
BROKEN = HUNGRY.replace('MemoryError("8 GiB")', 'ValueError("no weights")')
JSON = {"Content-Type": "application/json"}


class Container(Process):
    def call(self, method, path, body=None):
        status, _, answer = self.ask(method, path, None if body is None else json.dumps(body), JSON if body else None)
        return status, json.loads(answer)

    def load(self, name, folder):
        return self.call("POST", "/models", {"model_name": name, "url": str(folder)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("sagemaker")
    for name in ("a", "b"):
        shutil.copytree(EXAMPLES / "iris-onnx" / "1", base / "models" / name / "model")
    for name, code in (("hungry", HUNGRY), ("broken", BROKEN)):
        (base / "models" / name / "model").mkdir(parents=True)
        (base / "models" / name / "model" / "model.py").write_text(code)
    (base / "models" / "empty" / "model").mkdir(parents=True)
    return base


@pytest.fixture(scope="module")
def container(folder):
    env = {"SAGEMAKER_BASE_DIR": str(folder), "SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_SAFE_PORT_RANGE": "1-65535"}
    with Container(folder, "serve", env=env, command=INFERD) as process:
        yield process.wait_for(lambda: process.ask("GET", "/ping")[0] == 200)


def test_models_come_and_go_by_path(container, folder):
    path = str(folder / "models" / "a" / "model")
    entry = {"modelName": "a", "modelUrl": path}
    assert container.call("GET", "/models") == (200, {"models": []})
    assert container.load("a", path) == (200, entry)
    assert container.load("a", path)[0] == 409
    assert container.load("b", folder / "models" / "b" / "model")[0] == 200
    assert container.call("GET", "/models/a") == (200, entry)
    assert [each["modelName"] for each in container.call("GET", "/models")[1]["models"]] == ["a", "b"]
    status, answer = container.call("POST", "/models/a/invoke", [ROW])
    assert (status, answer[0]["label"]) == (200, "setosa")
    assert container.call("DELETE", "/models/a")[0] == 200
    assert container.call("POST", "/models/a/invoke", [ROW])[0] == 404
    assert container.call("GET", "/models/a")[0] == 404
    assert container.call("DELETE", "/models/a")[0] == 404
    assert container.call("POST", "/models/b/invoke", [ROW])[0] == 200
    shutil.rmtree(folder / "models" / "b")
    assert container.load("a", path)[0] == 200, "files that are gone hold up nobody else"
    assert container.call("POST", "/models/b/invoke", [ROW])[0] == 200
    assert container.call("DELETE", "/models/b")[0] == 200
    assert container.call("DELETE", "/models/a")[0] == 200


def test_what_does_not_fit_in_memory_is_507_and_is_not_kept(container, folder):
    status, error = container.load("hungry", folder / "models" / "hungry" / "model")
    assert (status, "8 GiB" in error["error"]) == (507, True)
    status, error = container.load("broken", folder / "models" / "broken" / "model")
    assert (status, "no weights" in error["error"]) == (400, True)
    assert container.load("hungry", folder / "models" / "hungry" / "model")[0] == 507
    assert container.call("GET", "/models/hungry")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"model_name": "x"},
        {"model_name": "../x", "url": "/opt"},
        {"model_name": 5, "url": "/opt"},
        {"model_name": "x", "url": 5},
        {"model_name": "x", "url": "/etc/passwd"},
        {"model_name": "x", "url": "{folder}/models/../secret"},
        {"model_name": "x", "url": "{folder}/models"},
        {"model_name": "x", "url": "{folder}/models/empty/model"},
        {"model_name": "x", "url": "{folder}/models/nobody/model"},
        {"model_name": "x", "url": "s3://bucket/x"},
        {"model_name": "x", "url": "{folder}/models/\0"},
    ],
    ids=str,
)
def test_what_cannot_be_loaded_is_refused(container, folder, body):
    if isinstance(body, dict) and isinstance(body.get("url"), str):
        body = {**body, "url": body["url"].replace("{folder}", str(folder))}
    status, error = container.call("POST", "/models", body)
    assert (status, list(error)) == (400, ["error"])
    assert container.ask("GET", "/ping")[0] == 200


def test_a_wrong_page_is_refused(container):
    assert container.call("GET", "/models?next_page_token=x")[0] == 400
    assert container.call("GET", "/models?next_page_token=5") == (200, {"models": []})


def test_an_endpoint_of_one_model_takes_no_others(tmp_path):
    with Container(tmp_path, "serve", EXAMPLES / "iris-onnx", "--protocols", "sagemaker") as process:
        process.wait_ready()
        status, error = process.load("x", tmp_path)
        assert (status, "SAGEMAKER_MULTI_MODEL" in error["error"]) == (501, True)
