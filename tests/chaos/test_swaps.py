"""Versions that come and go under load: every request is answered, each by the version it names."""

import http.client
import json
import shutil
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from serve_support import Process

from inferd.server.capture_file import read_capture

CODE = """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"version": "INT64[-1]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), VERSION)
"""


class Caller(threading.Thread):
    """Asks in a closed loop until told to stop; every answer must be 200 and name the version that gave it."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.leaving = threading.Event()
        self.sent = self.answered = 0
        self.wrong = []
        self.versions = set()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.leaving.is_set():
            self.sent += 1
            try:
                connection.request("POST", "/predict", '{"instances": [[1]]}', {"Content-Type": "application/json"})
                response = connection.getresponse()
                body = response.read()
            except OSError as error:
                self.wrong.append(repr(error))
                return
            named = response.getheader("Inferd-Model-Version")
            if response.status != 200 or json.loads(body) != {"predictions": [int(named)]}:
                self.wrong.append((response.status, named, body))
                return
            self.versions.add(int(named))
            self.answered += 1


def put(repository, version, code=CODE):
    folder = repository / "m" / str(version)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code.replace("VERSION", str(version)))


def act(process, path, method="POST", body=""):
    status, _, answer = process.ask(method, path, body, {"Content-Type": "application/json"})
    assert status == 200, answer
    return json.loads(answer)


@pytest.mark.parametrize("front", ["hot", "asgi"])
def test_swaps_failed_loads_and_deletions_under_load_lose_nothing(tmp_path, front):
    repository = tmp_path / "models"
    put(repository, 1)
    with Process(tmp_path, "serve", repository, "--front", front, env={"XDG_STATE_HOME": str(tmp_path)}) as process:
        process.wait_ready()
        callers = [Caller(process.port) for _ in range(4)]
        for caller in callers:
            caller.start()
        served = 1
        for version in range(2, 26):
            broken = version % 5 == 0
            put(repository, version, "raise RuntimeError('broken on purpose')" if broken else CODE)
            described = act(process, "/admin/models/m/load")
            states = {each["version"]: each["state"] for each in described["versions"]}
            assert states[version] == ("FAILED" if broken else "READY")
            if broken:
                assert states[served] == "READY"
                shutil.rmtree(repository / "m" / str(version))
            else:
                served = version
            if version % 7 == 0:
                act(process, "/admin/models/m/reload")
        for caller in callers:
            caller.leaving.set()
            caller.join(30)
        assert [caller.wrong for caller in callers] == [[]] * 4
        assert all(caller.sent == caller.answered > 0 for caller in callers)
        assert len(set.union(*(caller.versions for caller in callers))) > 10
        assert process.signal().exit_code() == 0


@pytest.mark.parametrize("front", ["hot", "asgi"])
def test_a_capture_loses_no_request_and_no_answer_while_versions_swap(tmp_path, front):
    """Each answered request is kept once, by the version it names; files taken meanwhile are whole."""
    repository, file = tmp_path / "models", tmp_path / "capture.npz"
    put(repository, 1)
    path = "/admin/models/m/capture"
    with Process(tmp_path, "serve", repository, "--front", front) as process:
        process.wait_ready()
        options = json.dumps({"max_requests": 1_000_000, "max_mb": 1024})
        assert process.ask("PUT", path, options, {"Content-Type": "application/json"})[0] == 201
        callers = [Caller(process.port) for _ in range(4)]
        for caller in callers:
            caller.start()
        before = 0
        for version in range(2, 14):
            put(repository, version)
            act(process, "/admin/models/m/load")
            file.write_bytes(process.ask("GET", f"{path}/requests.npz")[2])
            assert len(read_capture(file).requests) >= before
            before = len(read_capture(file).requests)
        for caller in callers:
            caller.leaving.set()
            caller.join(30)
        assert [caller.wrong for caller in callers] == [[]] * 4
        file.write_bytes(process.ask("GET", f"{path}/requests.npz")[2])
        act(process, path, "DELETE")
        assert process.signal().exit_code() == 0
    captured = read_capture(file).requests
    assert len(captured) == sum(caller.answered for caller in callers) > 100
    assert len({request.request_id for request in captured}) == len(captured)
    assert all(request.outputs["version"].tolist() == [request.version] for request in captured)
    assert {request.version for request in captured} == set.union(*(caller.versions for caller in callers))


def test_labels_and_policies_survive_a_restart(tmp_path):
    repository = tmp_path / "models"
    for version in (1, 2):
        put(repository, version)
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with Process(tmp_path, "serve", repository, env=env) as process:
        process.wait_ready()
        act(process, "/admin/models/m/policy", "PUT", '{"policy": "all"}')
        act(process, "/admin/models/m/labels/stable", "PUT", '{"version": 1}')
        act(process, "/admin/models/m/policy", "PUT", '{"policy": "latest"}')
        assert process.signal().exit_code() == 0
    with Process(tmp_path, "serve", repository, env=env) as process:
        process.wait_ready()
        assert process.predict([[1]], "/models/m/versions/stable/predict")[0] == 200
        assert json.loads(process.predict([[1]])[2]) == {"predictions": [2]}
        events = json.loads(process.ask("GET", "/admin/models/m/history")[2])["history"]
        assert {"policy all", "label stable", "policy latest"} <= {each["event"] for each in events}


def test_the_command_line_drives_a_running_server(tmp_path):
    repository = tmp_path / "models"
    for version in (1, 2):
        put(repository, version)
    with Process(tmp_path, "serve", repository, env={"XDG_STATE_HOME": str(tmp_path)}) as server:
        server.wait_ready()

        def models(*arguments, code=0):
            with Process(tmp_path, "models", *arguments, "--url", f"http://127.0.0.1:{server.port}") as command:
                assert command.exit_code() == code, command.output
                return command.output

        assert "2  READY" in models("list")
        assert "1  READY" in models("load", "m", "--version", "1")
        assert "1  READY  stable" in models("label", "m", "stable", "1")
        assert "points at version 1" in models("unload", "m", "--version", "1", code=2)
        assert "stable" not in models("label", "m", "stable")
        assert "1  UNLOADED" in models("unload", "m", "--version", "1")
        assert json.loads(models("policy", "m", "all", "--json"))["policy"] == "all"
        assert "policy all" in models("history", "m")
        assert "no model named 'nobody'" in models("reload", "nobody", code=2)
    assert "is the server running" in models("list", code=2)
