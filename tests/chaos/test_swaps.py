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

# Warm-up executes rows of its own; what callers ask is told from them by its size.
FIRST_REQUEST = 10**9
EXECUTED = "executed.txt"
CODE = f"""
import numpy as np

class Model:
    inputs = {{"request": "INT64[-1, 1]"}}
    outputs = {{"version": "INT64[-1]", "request": "INT64[-1]"}}
    batchable = True

    def __init__(self):
        self.executed = open("{EXECUTED}", "a")

    def predict(self, request: np.ndarray):
        numbers = request[:, 0]
        self.executed.write("".join(f"{{number}}\\n" for number in numbers))
        self.executed.flush()
        return {{"version": np.full(len(numbers), VERSION), "request": numbers}}
"""


class Caller(threading.Thread):
    """Asks in a closed loop, each time with a number of its own, until told to leave or, once it may, the server ends.

    Every answer must be 200, repeat the number, and come from the version that it names.
    """

    def __init__(self, port, number=0, path="/predict"):
        super().__init__(daemon=True)
        self.port = port
        self.path = path
        self.leaving = threading.Event()
        self.may_end = threading.Event()
        self.next = FIRST_REQUEST * (number + 1)
        self.answered = []
        self.wrong = []
        self.versions = set()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.leaving.is_set():
            self.next += 1
            body = json.dumps({"instances": [[self.next]]})
            try:
                connection.request("POST", self.path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
            except OSError as error:
                if not self.may_end.is_set():
                    self.wrong.append(repr(error))
                return
            except http.client.HTTPException as error:
                self.wrong.append(f"no answer that can be read: {error!r}")
                return
            try:
                answer = response.status, response.getheader("Inferd-Model-Version"), json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.wrong.append(f"the answer broke off: {error!r}")
                return
            if not self._is_right(*answer):
                self.wrong.append(answer)
                return
            self.versions.add(int(answer[1]))
            self.answered.append(self.next)

    def _is_right(self, status, version, body):
        return status == 200 and body == {"predictions": [{"version": int(version), "request": self.next}]}


def executed(folder):
    """The numbers of callers' requests that a model executed, in order."""
    numbers = map(int, (folder / EXECUTED).read_text().split())
    return sorted(number for number in numbers if number > FIRST_REQUEST)


def put(repository, version, code=CODE):
    folder = repository / "m" / str(version)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code.replace("VERSION", str(version)))


def act(process, path, method="POST", body=""):
    status, _, answer = process.ask(method, path, body, {"Content-Type": "application/json"})
    assert status == 200, answer
    return json.loads(answer)


def states(described):
    return {each["version"]: each["state"] for each in described["versions"]}


def swap(process, repository, version, served):
    """Load a new version, every fifth a broken one; the one that serves then."""
    broken = version % 5 == 0
    put(repository, version, "raise RuntimeError('broken on purpose')" if broken else CODE)
    now = states(act(process, "/admin/models/m/load"))
    assert now[version] == ("FAILED" if broken else "READY")
    if not broken:
        return version
    assert now[served] == "READY"
    shutil.rmtree(repository / "m" / str(version))
    return served


def take_away(process, repository, served):
    """Delete the version that serves; the one before it serves then."""
    shutil.rmtree(repository / "m" / str(served))
    (now,) = (version for version, state in states(act(process, "/admin/models/m/load")).items() if state == "READY")
    assert now < served
    return now


@pytest.mark.parametrize("front", ["hot", "asgi"])
def test_swaps_failed_loads_deletions_and_sigterm_under_load_lose_nothing(tmp_path, front):
    """What a model executed was accepted: it was answered, once, also when the server stops in the middle of a swap."""
    repository = tmp_path / "models"
    put(repository, 1)
    with Process(tmp_path, "serve", repository, "--front", front) as process:
        process.wait_ready()
        callers = [Caller(process.port, number) for number in range(4)]
        for caller in callers:
            caller.start()
        served = 1
        for version in range(2, 26):
            served = swap(process, repository, version, served)
            if version % 6 == 0:
                served = take_away(process, repository, served)
            if version % 7 == 0:
                act(process, "/admin/models/m/reload")
        put(repository, 26)
        headers = {"Content-Type": "application/json"}
        assert process.ask("POST", "/admin/models/m/load?wait=false", "", headers)[0] == 202
        for caller in callers:
            caller.may_end.set()
        assert process.signal().exit_code() == 0
        for caller in callers:
            caller.join(30)
    assert [caller.wrong for caller in callers] == [[]] * 4
    assert not any(caller.is_alive() for caller in callers)
    assert all(caller.answered for caller in callers)
    assert executed(tmp_path) == sorted(number for caller in callers for number in caller.answered)
    assert len(set.union(*(caller.versions for caller in callers))) > 10


def test_a_label_that_moves_under_load_always_has_a_version(tmp_path):
    repository = tmp_path / "models"
    for version in (1, 2, 3):
        put(repository, version)
    with Process(tmp_path, "serve", repository, "--version-policy", "all") as process:
        process.wait_ready()
        act(process, "/admin/models/m/labels/stable", "PUT", '{"version": 1}')
        callers = [Caller(process.port, number, "/models/m/versions/stable/predict") for number in range(3)]
        for caller in callers:
            caller.start()
        for move in range(60):
            act(process, "/admin/models/m/labels/stable", "PUT", json.dumps({"version": move % 3 + 1}))
        for caller in callers:
            caller.leaving.set()
            caller.join(30)
    assert [caller.wrong for caller in callers] == [[]] * 3
    assert set.union(*(caller.versions for caller in callers)) == {1, 2, 3}


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
        callers = [Caller(process.port, number) for number in range(4)]
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
    assert len(captured) == sum(len(caller.answered) for caller in callers) > 100
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
        assert json.loads(process.predict([[1]])[2]) == {"predictions": [{"version": 2, "request": 1}]}
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
