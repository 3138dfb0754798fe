"""Loads that bring the model's files along, by Triton's own clients over HTTP and gRPC."""

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from serve_support import EXAMPLES, Process, free_port
from tritonclient.utils import InferenceServerException

ROWS = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
MODEL = (EXAMPLES / "iris-onnx" / "1" / "iris.onnx").read_bytes()
CODE = b"""
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 4]"}
    outputs = {"y": "FP32[-1, 4]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2
"""


class Served(Process):
    """A server over a repository of one model, whose callers may bring others."""

    def __init__(self, folder, *flags):
        self.grpc_port, self.folder = free_port(), folder
        if not (folder / "models").exists():
            shutil.copytree(EXAMPLES / "iris-onnx", folder / "models" / "iris-onnx")
        always = ("--model-control", "--grpc-port", self.grpc_port, "--cache-folder", folder / "cache")
        super().__init__(folder, "serve", "models", *always, *flags)

    def client(self, protocol):
        if protocol == "http":
            return tritonclient.http.InferenceServerClient(f"127.0.0.1:{self.port}", network_timeout=60)
        return tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{self.grpc_port}")

    @property
    def kept(self):
        """The model folders that callers' files lie in."""
        return sorted(path.name for path in self.folder.glob("cache/uploads/*/*/*"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("files"), "--max-body-mb", "4", "--grpc-max-message-mb", "4") as process:
        yield process.wait_ready()


@pytest.fixture(params=["http", "grpc"])
def client(request, server):
    with server.client(request.param) as client:
        client.is_http = request.param == "http"
        yield client
        client.load_model("iris-onnx")
        server.wait_for(lambda: server.kept == [])


def infer(client, model, output="label"):
    module = tritonclient.http if isinstance(client, tritonclient.http.InferenceServerClient) else tritonclient.grpc
    tensor = module.InferInput("x", ROWS.shape, "FP32")
    tensor.set_data_from_numpy(ROWS)
    return client.infer(model, [tensor]).as_numpy(output).tolist()


def as_json(client):
    return {} if client.is_http else {"as_json": True}


def versions(client, model):
    return client.get_model_metadata(model, **as_json(client))["versions"]


def config(client, model):
    found = client.get_model_config(model, **as_json(client))
    return found if client.is_http else found["config"]


def test_a_model_that_the_repository_has_not_is_served_from_the_callers_files(server, client):
    client.load_model("brought", config="{}", files={"file:1/model.onnx": MODEL})
    assert infer(client, "brought") == [b"setosa"]
    assert versions(client, "brought") == ["1"]
    assert infer(client, "iris-onnx") == [b"setosa"]
    assert server.kept == ["brought"]
    client.unload_model("brought")
    assert not client.is_model_ready("brought")
    assert server.wait_for(lambda: server.kept == [])
    with pytest.raises(InferenceServerException, match="no model named"):
        client.load_model("brought")
    index = json.loads(server.ask("POST", "/v2/repository/index")[2])
    assert {entry["name"] for entry in index} == {"iris-onnx"}


def test_files_take_the_place_of_the_repositorys_until_a_load_without_any(server, client):
    given = {"name": "iris-onnx", "backend": "onnxruntime", "max_batch_size": 7}
    client.load_model("iris-onnx", config=json.dumps(given), files={"file:3/iris.onnx": MODEL})
    assert versions(client, "iris-onnx") == ["3"]
    assert config(client, "iris-onnx")["max_batch_size"] == 7
    client.load_model("iris-onnx", config="{}", files={"file:4/iris.onnx": MODEL, "file:5/iris.onnx": MODEL})
    assert versions(client, "iris-onnx") == ["5"]
    assert infer(client, "iris-onnx") == [b"setosa"]
    assert server.wait_for(lambda: server.kept == ["iris-onnx"])
    server.ask("POST", "/admin/rescan", headers={"Content-Type": "application/json"})
    assert versions(client, "iris-onnx") == ["5"]
    client.load_model("iris-onnx")
    assert versions(client, "iris-onnx") == ["1"]
    assert config(client, "iris-onnx")["max_batch_size"] != 7


def test_an_unload_ends_what_took_the_repositorys_place(server, client):
    client.load_model("iris-onnx", config="{}", files={"file:3/iris.onnx": MODEL})
    client.unload_model("iris-onnx")
    assert not client.is_model_ready("iris-onnx")
    assert server.wait_for(lambda: server.kept == [])
    client.load_model("iris-onnx")
    assert versions(client, "iris-onnx") == ["1"]


def test_the_control_routes_see_it_like_any_other_model(server, client):
    client.load_model("iris-onnx", config="{}", files={"file:3/iris.onnx": MODEL})
    headers = {"Content-Type": "application/json"}
    assert server.ask("POST", "/admin/models/iris-onnx/reload", headers=headers)[0] == 200
    assert versions(client, "iris-onnx") == ["3"]
    assert server.ask("POST", "/admin/models/iris-onnx/unload", headers=headers)[0] == 200
    assert server.wait_for(lambda: server.kept == [])


def test_a_configuration_that_says_what_is_so_is_taken_and_one_that_does_not_is_refused(client):
    so = {**config(client, "iris-onnx"), "name": "", "backend": "onnxruntime"}
    so.pop("instance_group")
    client.load_model("iris-onnx", config=json.dumps(so), files={"file:2/iris.onnx": MODEL})
    assert versions(client, "iris-onnx") == ["2"]
    for wrong in ({"backend": "tensorrt"}, {"input": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}]}):
        with pytest.raises(InferenceServerException, match="cannot be set"):
            client.load_model("iris-onnx", config=json.dumps(wrong), files={"file:6/iris.onnx": MODEL})
        assert versions(client, "iris-onnx") == ["2"]
    assert infer(client, "iris-onnx") == [b"setosa"]


@pytest.mark.parametrize("name", ["iris-onnx", "brought"])
def test_files_that_are_no_model_are_refused_and_what_served_serves_on(client, name):
    for content, words in ((b"nonsense", "was not loaded"), (b"", "was not loaded")):
        with pytest.raises(InferenceServerException, match=words):
            client.load_model(name, config="{}", files={"file:1/model.onnx": content})
    with pytest.raises(InferenceServerException, match=f"{name}/1: .*several artefacts"):
        client.load_model(name, config="{}", files={"file:1/a.onnx": MODEL, "file:1/b.onnx": MODEL})
    only = '{"version_policy": {"specific": {"versions": [99]}}}'
    with pytest.raises(InferenceServerException, match="99"):
        client.load_model(name, config=only, files={"file:1/a.onnx": MODEL})
    assert client.is_model_ready("iris-onnx")
    assert not client.is_model_ready("brought")
    assert versions(client, "iris-onnx") == ["1"]
    assert infer(client, "iris-onnx") == [b"setosa"]


BAD_PATHS = [
    "", "/", ".", "..", "../evil.onnx", "1/../../evil.onnx", "/etc/evil.onnx", "1//m.onnx", "1/./m.onnx", "1/",
    "1\\m.onnx", "C:/m.onnx", "1/.hidden.onnx", "~/m.onnx", "1/m\0.onnx", "1/m\n.onnx", "1/" + "m" * 200,
    "1/" + "/".join("abcdefghijkl") + "/m.onnx", "1/ü.onnx", "1/%2e%2e/m.onnx", "1/-m.onnx",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_could_leave_the_models_folder_is_refused(server, client, path):
    before = sorted(map(str, server.folder.rglob("*evil*")))
    with pytest.raises(InferenceServerException, match="no path of a file"):
        client.load_model("brought", config="{}", files={f"file:{path}": MODEL, "file:1/a.onnx": MODEL})
    assert sorted(map(str, server.folder.rglob("*evil*"))) == before
    assert not client.is_model_ready("brought")


@pytest.mark.parametrize(
    ("given", "files", "words"),
    [
        (None, {"file:1/model.onnx": MODEL}, "configuration beside them"),
        ("{}", {"file:model.onnx": MODEL}, "in the folder of a version"),
        ("{}", {"file:01/model.onnx": MODEL}, "in the folder of a version"),
        ("{}", {"file:1/a": MODEL, "file:1/a/b.onnx": MODEL}, "cannot be a file and hold"),
        ("{}", {f"file:1/{number}.onnx": b"" for number in range(1001)}, "at most 1000 files"),
        ("{}", {"file:1/model.onnx": MODEL, "fil:1/x": b"x"}, "unknown parameter"),
        ("{}", {"file:1/model.py": CODE}, "without --allow-pickle"),
        ("{}", {"file:1/model.onnx": MODEL, "file:1/hooks.py": CODE}, "without --allow-pickle"),
        ("{}", {"file:1/model.onnx": MODEL, "file:model.toml": b"nan = 'null'"}, "without --allow-pickle"),
        ("{}", {"file:1/model.pkl": b"cos\nsystem\n(S'true'\ntR."}, "without --allow-pickle"),
    ],
)
def test_what_no_load_brings_is_refused_and_nothing_is_kept(server, client, given, files, words):
    with pytest.raises(InferenceServerException, match=words):
        client.load_model("brought", config=given, files=files)
    assert not client.is_model_ready("brought")
    assert server.kept == []


@pytest.mark.parametrize("content", ["nonsense!", "AAA", 7, True, None, ["AAAA"], {"a": "AAAA"}, "ÄÄÄÄ"])
def test_content_that_is_not_base64_is_refused(server, content):
    body = json.dumps({"parameters": {"config": "{}", "file:1/model.onnx": content}})
    status, _, answer = server.ask("POST", "/v2/repository/models/brought/load", body)
    assert status == 400, answer
    assert b"base64" in answer


def test_a_name_that_no_model_may_have_is_refused(server):
    body = json.dumps({"parameters": {"config": "{}", "file:1/model.onnx": ""}})
    for name in ("..", "%2e%2e", "a%2Fb", "-x", "a%20b", "x" * 200):
        status, _, answer = server.ask("POST", f"/v2/repository/models/{name}/load", body)
        assert status in (400, 404), answer
    assert server.kept == []


def test_more_than_the_limit_is_refused(server, client):
    with pytest.raises(InferenceServerException, match=r"limit|larger than max|at most"):
        client.load_model("brought", config="{}", files={"file:1/model.onnx": bytes(5 << 20)})
    assert server.kept == []


def test_loads_of_one_model_at_the_same_time_wait_for_each_other(server, client):
    def load(number):
        bad = number % 3 == 0
        content = b"nonsense" if bad else MODEL
        with server.client("http") as own:
            try:
                own.load_model("brought", config="{}", files={f"file:{number}/model.onnx": content})
            except InferenceServerException:
                return bad
            return not bad

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(load, range(1, 13)))
    assert len(versions(client, "brought")) == 1
    assert infer(client, "brought") == [b"setosa"]
    server.wait_for(lambda: server.kept == ["brought"])
    client.unload_model("brought")


def test_code_is_taken_where_pickles_are_and_nothing_outlives_the_server(tmp_path):
    files = {"file:1/model.py": CODE, "file:model.toml": b'nan = "null"'}
    with Served(tmp_path, "--allow-pickle", "--lazy") as server:
        server.wait_listening()
        with server.client("grpc") as client:
            client.load_model("brought", config="{}", files=files)
            client.load_model("iris-onnx", config="{}", files={"file:3/iris.onnx": MODEL})
            assert infer(client, "brought", "y") == (ROWS * 2).tolist()
        assert server.json("/v2/models/iris-onnx")["versions"] == ["3"]
        assert server.signal().exit_code() == 0
        assert list((tmp_path / "cache" / "uploads").iterdir()) == []
    with Served(tmp_path) as server:
        assert server.wait_ready().json("/v2/models/iris-onnx")["versions"] == ["1"]
        assert server.ask("GET", "/v2/models/brought")[0] == 404
        with server.client("http") as client:
            client.load_model("brought", config="{}", files={"file:1/model.onnx": MODEL})
        server.signal(signal.SIGKILL).exit_code()
        assert server.kept == ["brought"]
    with Served(tmp_path) as server, server.wait_ready().client("http") as client:
        client.load_model("other", config="{}", files={"file:1/model.onnx": MODEL})
        assert server.kept == ["other"]
        assert os.stat(next((tmp_path / "cache" / "uploads").iterdir())).st_mode & 0o077 == 0
