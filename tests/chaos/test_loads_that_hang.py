"""Loads that never end: nothing waits for them but who asked for them, and the server still stops."""

import http.client
import json
import signal
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from serve_support import GATED, Process

JSON = {"Content-Type": "application/json"}


def put(repository, model, version=1, *, hangs=False):
    folder = repository / model / str(version)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(GATED)
    if hangs:
        (folder / "hold-load").touch()
    return folder


def state(process, model, version=1):
    described = json.loads(process.ask("GET", f"/admin/models/{model}")[2])
    return next((each["state"] for each in described["versions"] if each["version"] == version), None)


def reason(process, model):
    return json.loads(process.ask("GET", f"/admin/models/{model}")[2])["versions"][-1].get("reason", "")


def answers(process, model):
    return process.predict([[1, 2]], f"/models/{model}/predict")[0] == 200


def ask_in_vain(process):
    with pytest.raises((OSError, http.client.HTTPException)):
        process.predict([[1, 2]])


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "models"


@pytest.mark.parametrize("front", ["hot", "asgi"])
def test_the_server_stops_while_loads_hang(tmp_path, repository, front):
    put(repository, "good")
    for number in range(3):
        put(repository, f"hangs{number}", hangs=True)
    flags = ("--load-parallelism", "4", "--front", front)
    with Process(tmp_path, "serve", repository, *flags) as process:
        process.wait_for(lambda: answers(process, "good"))
        process.wait_for(lambda: state(process, "hangs2") == "LOADING")
        waiting = threading.Thread(target=process.ask, args=("POST", "/admin/models/hangs0/load", "", JSON))
        waiting.start()
        assert process.signal().exit_code(50) == 0
        waiting.join(20)
        assert "Traceback" not in process.output


def test_the_server_stops_while_a_model_cannot_be_freed(tmp_path, repository):
    """An async model is freed once its loop is free, and this one blocks it."""
    (put(repository, "m") / "model.py").write_text(GATED.replace("def predict", "async def predict"))
    with Process(tmp_path, "serve", repository, "--drain-timeout-s", "1") as process:
        process.wait_ready()
        folder = repository / "m" / "1"
        (folder / "entered").unlink()
        (folder / "hold").touch()
        caller = threading.Thread(target=ask_in_vain, args=[process])
        caller.start()
        process.wait_for((folder / "entered").exists)
        assert process.signal(signal.SIGINT).exit_code(20) == 0
        caller.join(20)
        assert "models were still being freed at the end" in process.output


def test_a_load_that_takes_too_long_has_failed_and_others_get_its_turn(tmp_path, repository):
    (repository / "a").mkdir(parents=True)
    (repository / "a" / "model.toml").write_text("[lifecycle]\nretries = 0\nload_timeout_s = 0.5\n")
    put(repository, "a", hangs=True)
    put(repository, "b")
    with Process(tmp_path, "serve", repository, "--load-parallelism", "1") as process:
        process.wait_listening()
        process.wait_for(lambda: answers(process, "b"))
        assert state(process, "a") == "FAILED"
        assert reason(process, "a") == "it was not loaded within 0.5 s (load_timeout_s)"
        (repository / "a" / "1" / "hold-load").unlink()
        assert process.ask("POST", "/admin/models/a/reload", "", JSON)[0] == 200
        assert answers(process, "a")


def test_a_version_is_unloaded_while_it_is_loaded_and_frees_its_turn(tmp_path, repository):
    put(repository, "m")
    put(repository, "other")
    with Process(tmp_path, "serve", repository, "--load-parallelism", "1") as process:
        process.wait_ready()
        put(repository, "m", 2, hangs=True)
        assert process.ask("POST", "/admin/models/m/load?wait=false", "", JSON)[0] == 202
        process.wait_for(lambda: state(process, "m", 2) == "LOADING")
        assert process.ask("POST", "/admin/models/other/reload?wait=false", "", JSON)[0] == 202
        assert process.ask("POST", "/admin/models/m/versions/2/unload", "", JSON)[0] == 200
        assert state(process, "m", 2) == "UNLOADED"
        assert state(process, "m", 1) == "READY"
        assert process.ask("POST", "/admin/models/other/reload", "", JSON)[0] == 200
        # What was loaded for nobody never serves, whenever it ends.
        (repository / "m" / "2" / "hold-load").unlink()
        assert process.ask("POST", "/admin/models/other/reload", "", JSON)[0] == 200
        assert state(process, "m", 2) == "UNLOADED"
        history = json.loads(process.ask("GET", "/admin/models/m/history")[2])["history"]
        assert [each["event"] for each in history if each["version"] == 2][:2] == ["given up", "unload"]
        assert process.ask("POST", "/admin/models/m/versions/2/load", "", JSON)[0] == 200
        assert state(process, "m", 2) == "READY"


def test_a_policy_changes_while_versions_are_loaded(tmp_path, repository):
    put(repository, "m")
    with Process(tmp_path, "serve", repository) as process:
        process.wait_ready()
        put(repository, "m", 2, hangs=True)
        put(repository, "m", 3)
        body = json.dumps({"policy": "all"})
        assert process.ask("PUT", "/admin/models/m/policy?wait=false", body, JSON)[0] == 202
        process.wait_for(lambda: state(process, "m", 3) == "READY")
        assert (state(process, "m", 1), state(process, "m", 2)) == ("READY", "LOADING")
        assert process.ask("PUT", "/admin/models/m/policy", json.dumps({"policy": "1"}), JSON)[0] == 200
        assert [state(process, "m", version) for version in (1, 2, 3)] == ["READY", "UNLOADED", "UNLOADED"]
        assert answers(process, "m")
