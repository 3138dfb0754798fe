"""Models of an MLflow registry: a real tracking server, with a database and an artefact store of its own."""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.request import urlopen

import pytest
from serve_support import CLEAN, Process, free_port

import mlflow_builders as builders

CODE = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Version(PythonModel):
    def predict(self, context, model_input, params=None):
        return [{number}] * len(model_input)

set_model(Version())
"""
WATCH = ("--watch", "--watch-interval-s", "0.3", "--watch-settle-s", "5")
JSON = {"Content-Type": "application/json"}


class Registry:
    """What a data scientist does with it."""

    def __init__(self, url, folder):
        import mlflow

        self.url = url
        self._folder = folder
        self.client = mlflow.MlflowClient(tracking_uri=url)

    def add(self, model, number, spoiled=False):
        """Register one more version of ``model``, which answers ``number``, or cannot be loaded."""
        saved = builders.from_code(self._folder, CODE.format(number=number), {"a": "double"}, name=f"{model}-{number}")
        if spoiled:
            (saved / f"{model}-{number}_code.py").write_text("raise RuntimeError('not today')")
        run = self.client.create_run("0")
        self.client.log_artifacts(run.info.run_id, str(saved), "model")
        with contextlib.suppress(Exception):  # it is there from the second version on
            self.client.create_registered_model(model)
        return self.client.create_model_version(model, f"{run.info.artifact_uri}/model", run.info.run_id)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    where = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artefacts"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", *where, "--port", str(port), "--workers", "1"]
    # Its jobs would be seven more processes.
    env = {**CLEAN, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 180
        while not _answers(f"{url}/health"):
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < end, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield Registry(url, folder)
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # it and the workers it started
        server.wait()


def _answers(url):
    try:
        return urlopen(url, timeout=5).status == 200
    except OSError:
        return False


class Road:
    """A port that leads to another one until it is closed."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self._open:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near):
        with near, socket.create_connection(("127.0.0.1", self._target)) as far, selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while self._open:
                for key, _ in ready.select(0.2):
                    data = key.fileobj.recv(1 << 16)
                    if not data:
                        return
                    key.data.sendall(data)

    def close(self):
        self._open = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def serve(folder, url, *args):
    env = {"MLFLOW_TRACKING_URI": url, "XDG_CACHE_HOME": str(folder / "cache")}
    return Process(folder, "serve", *args, env=env)


def predict(process, path="/predict"):
    status, _, body = process.ask("POST", path, '{"inputs": {"a": [0]}}', JSON)
    return json.loads(body)["outputs"][0] if status == 200 else status


def until(process, answer):
    """Ask until the answer is this one; every answer before it must be one too."""
    seen = set()

    def asked():
        seen.add(predict(process))
        return answer in seen

    process.wait_for(asked)
    return seen - {answer}


def test_an_alias_is_followed_and_what_serves_goes_on(tmp_path, registry):
    for number in (1, 2):
        registry.add("digits", number)
    registry.client.set_registered_model_alias("digits", "champion", "1")
    road = Road(int(registry.url.rpartition(":")[2]))
    url = f"http://127.0.0.1:{road.port}"
    with serve(tmp_path, url, "models:/digits@champion", *WATCH) as process:
        process.wait_ready()
        assert predict(process) == 1
        registry.client.set_registered_model_alias("digits", "champion", "2")
        assert until(process, 2) <= {1}
        registry.client.set_registered_model_alias("digits", "champion", "1")
        assert until(process, 1) <= {2}
        broken = registry.add("digits", 3, spoiled=True)
        registry.client.set_registered_model_alias("digits", "champion", broken.version)
        process.wait_for(lambda: "digits version 3 FAILED" in process.output)
        assert predict(process) == 1
        registry.client.delete_registered_model_alias("digits", "champion")
        process.wait_for(lambda: "what was fetched before goes on" in process.output)
        assert predict(process) == 1
        registry.client.set_registered_model_alias("digits", "champion", "2")
        assert until(process, 2) <= {1}
    road.close()
    with serve(tmp_path, url, "models:/digits@champion") as process:  # the registry is gone, the cache is not
        process.wait_ready()
        assert predict(process) == 2


def test_all_versions_of_a_model_are_a_folder_of_versions(tmp_path, registry):
    for number in (1, 2):
        registry.add("letters", number)
    with serve(tmp_path, registry.url, "models:/letters", "--version-policy", "all", *WATCH) as process:
        process.wait_ready()
        assert [predict(process, f"/models/letters/versions/{number}/predict") for number in (1, 2)] == [1, 2]
        registry.add("letters", 3)
        assert until(process, 3) <= {2}
        registry.client.delete_model_version("letters", "1")
        process.wait_for(lambda: predict(process, "/models/letters/versions/1/predict") == 404)


@pytest.mark.parametrize(("path", "answer"), [("models:/words/1", 1), ("models:/words/latest", 2)])
def test_one_version_is_served_under_its_number(tmp_path, registry, path, answer):
    with contextlib.suppress(Exception):
        registry.client.get_registered_model("words")
    if not registry.client.search_model_versions("name='words'"):
        for number in (1, 2):
            registry.add("words", number)
    with serve(tmp_path, registry.url, path) as process:
        process.wait_ready()
        assert predict(process) == answer
        assert json.loads(process.ask("GET", "/model/info")[2])["version"] == answer


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("models:/nobody", "Registered Model with name=nobody not found"),
        ("models:/nobody/1", "Model Version (name=nobody, version=1) not found"),
        ("models:/nobody@champion", "not found"),
        ("models:/nobody/Production", "is not models:/name, models:/name/version or models:/name@alias"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path, registry, path, words):
    with serve(tmp_path, registry.url, path) as process:
        assert process.exit_code() != 0
        assert words in process.output
        assert "Traceback" not in process.output


def test_a_registry_nobody_named_is_asked_for_and_none_is_made(tmp_path):
    with Process(tmp_path, "serve", "models:/iris", env={"MLFLOW_TRACKING_URI": ""}) as process:
        assert process.exit_code() != 0
        assert "no registry is set; set MLFLOW_TRACKING_URI" in process.output
    assert not list(tmp_path.glob("ml*"))


def test_a_registry_that_does_not_answer_is_one_line_and_soon(tmp_path):
    with serve(tmp_path, f"http://127.0.0.1:{free_port()}", "models:/iris") as process:
        assert process.exit_code() != 0
        assert "models:/iris cannot be listed" in process.output
        assert "Traceback" not in process.output
