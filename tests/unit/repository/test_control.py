"""Models that come and go while the server answers: by the control routes, over a real folder."""

import gc
import json
import time
import weakref

import numpy as np
import pytest

from inferd.core.errors import LoadFailed
from inferd.repository.version_policy import check_policy, choose_versions
from inferd.testing import Client
from ranker_support import MODEL

JSON = {"content-type": "application/json"}


def put(repository, version, code=MODEL):
    folder = repository / "m" / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(code.replace("VERSION", str(version)))


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "models"
    for version in (1, 2):
        put(root, version)
    return root


@pytest.fixture
def client(repository):
    with Client(repository) as client:
        yield client


def post(client, path, status=200):
    reply = client.post(path, b"", JSON)
    assert reply.status == status, reply.body
    return reply.json


def put_json(client, path, body, status=200):
    reply = client.request("PUT", path, json.dumps(body).encode(), JSON)
    assert reply.status == status, reply.body
    return reply.json


def version_of(client, path="/predict"):
    reply = client.post(path, b'{"instances": [[0]]}', JSON)
    return reply.json["predictions"][0] if reply.status == 200 else reply.status


def states(client):
    described = client.get("/admin/models/m").json
    return {each["version"]: each["state"] for each in described["versions"]}


def test_a_new_version_takes_over_when_the_repository_is_looked_at_again(client, repository):
    assert version_of(client) == 2
    put(repository, 3)
    post(client, "/admin/models/m/load")
    assert version_of(client) == 3
    assert states(client) == {2: "UNLOADED", 3: "READY"}
    assert version_of(client, "/models/m/versions/2/predict") == 503


def test_a_version_that_fails_leaves_the_old_one_serving_and_says_why(client, repository):
    put(repository, 3, "this is no Python")
    post(client, "/admin/models/m/load")
    assert version_of(client) == 2
    described = client.get("/admin/models/m").json["versions"]
    failed = next(each for each in described if each["version"] == 3)
    assert failed["state"] == "FAILED"
    assert "model.py" in failed["reason"]
    assert client.get("/ready").status == 200
    put(repository, 3)
    post(client, "/admin/models/m/versions/3/load")
    assert version_of(client) == 3


def test_a_version_without_an_artefact_leaves_the_old_one_serving(client, repository):
    (repository / "m" / "3").mkdir()
    post(client, "/admin/models/m/load")
    assert version_of(client) == 2
    assert states(client) == {2: "READY", 3: "FAILED"}
    put(repository, 3)
    post(client, "/admin/models/m/load")
    assert version_of(client) == 3


def test_one_version_is_loaded_beside_the_policy_and_unloaded_again(client):
    assert version_of(client, "/models/m/versions/1/predict") == 404
    for _ in range(2):
        post(client, "/admin/models/m/versions/1/load")
    assert version_of(client, "/models/m/versions/1/predict") == 1
    assert version_of(client) == 2
    for _ in range(2):
        post(client, "/admin/models/m/versions/1/unload")
    assert states(client) == {1: "UNLOADED", 2: "READY"}


def test_a_model_is_unloaded_and_loaded_again(client):
    post(client, "/admin/models/m/unload")
    assert version_of(client) == 503
    post(client, "/admin/models/m/load")
    assert version_of(client) == 2


def test_an_unloaded_version_is_freed(client):
    record = client.assembly.repository.records[0]
    freed = weakref.ref(record.loaded.model)
    del record
    post(client, "/admin/models/m/versions/1/load")
    post(client, "/admin/models/m/versions/2/unload")
    gc.collect()
    assert freed() is None


def test_a_reload_reads_the_files_again(client, repository):
    put(repository, 2, MODEL.replace("VERSION", "20"))
    assert version_of(client) == 2
    post(client, "/admin/models/m/reload")
    assert version_of(client) == 20
    assert states(client) == {2: "READY"}
    put(repository, 2, "broken")
    post(client, "/admin/models/m/versions/2/reload")
    assert version_of(client) == 20


def test_a_policy_is_changed_live(client):
    put_json(client, "/admin/models/m/policy", {"policy": "all"})
    assert states(client) == {1: "READY", 2: "READY"}
    put_json(client, "/admin/models/m/policy", {"policy": "1"})
    assert version_of(client) == 1
    put_json(client, "/admin/models/m/policy", {"policy": ""})
    assert version_of(client) == 2
    assert put_json(client, "/admin/models/m/policy", {"policy": "newest"}, 400)["detail"].startswith(
        "a version policy"
    )


def test_a_policy_of_the_file_is_not_changed_by_the_api(repository):
    (repository / "m" / "model.toml").write_text('[lifecycle]\nversion_policy = "all"\n')
    with Client(repository) as client:
        assert states(client) == {1: "READY", 2: "READY"}
        assert "model.toml" in put_json(client, "/admin/models/m/policy", {"policy": "1"}, 409)["detail"]


def test_labels_move_at_once_and_refuse_what_is_not_ready(client):
    assert "not served" in put_json(client, "/admin/models/m/labels/stable", {"version": 1}, 409)["detail"]
    post(client, "/admin/models/m/versions/1/load")
    put_json(client, "/admin/models/m/labels/stable", {"version": 1})
    assert version_of(client, "/models/m/versions/stable/predict") == 1
    assert "stable" in post(client, "/admin/models/m/versions/1/unload", 409)["detail"]
    put_json(client, "/admin/models/m/labels/stable", {"version": 2})
    assert version_of(client, "/models/m/versions/stable/predict") == 2
    assert client.request("DELETE", "/admin/models/m/labels/stable", b"", JSON).status == 200
    assert version_of(client, "/models/m/versions/stable/predict") == 404
    put_json(client, "/admin/models/m/labels/7", {"version": 2}, 422)


def test_a_labelled_version_stays_when_a_newer_one_comes(client, repository):
    put_json(client, "/admin/models/m/labels/stable", {"version": 2})
    put(repository, 3)
    post(client, "/admin/models/m/load")
    assert version_of(client) == 3
    assert version_of(client, "/models/m/versions/stable/predict") == 2


def test_history_tells_what_happened_the_latest_first(client):
    post(client, "/admin/models/m/versions/1/load")
    events = [(each["event"], each["version"]) for each in client.get("/admin/models/m/history").json["history"]]
    assert events == [("ready", 1), ("load", 1), ("ready", 2)]


def test_what_is_not_there_is_404(client):
    for path in ("/admin/models/nobody/load", "/admin/models/m/versions/9/load", "/admin/models/m/versions/x/load"):
        post(client, path, 404)
    assert client.get("/admin/models/nobody").status == 404
    assert client.get("/admin/models").json["models"][0]["name"] == "m"
    assert states(client) == {2: "READY"}


def test_without_waiting_the_answer_is_202(client):
    post(client, "/admin/models/m/versions/1/load?wait=false", 202)


def test_a_version_that_leaves_the_folder_is_drained(client, repository):
    put_json(client, "/admin/models/m/policy", {"policy": "all"})
    (repository / "m" / "2" / "model.py").unlink()
    (repository / "m" / "2").rmdir()
    post(client, "/admin/rescan", 202)
    post(client, "/admin/models/m/load")
    assert states(client) == {1: "READY"}


def test_resource_preserving_frees_the_old_version_first(repository):
    (repository / "m" / "model.toml").write_text('[lifecycle]\ntransition = "resource-preserving"\n')
    with Client(repository) as client:
        put(repository, 3)
        post(client, "/admin/models/m/load")
        assert states(client) == {2: "UNLOADED", 3: "READY"}
        events = [each["event"] for each in client.get("/admin/models/m/history").json["history"]]
        assert events[:2] == ["ready", "unloaded"]


def test_requests_in_flight_keep_their_version(client, repository):
    servable = client.assembly.repository.records[0].servable
    servable.inflight += 1
    put(repository, 3)
    post(client, "/admin/models/m/load?wait=false", 202)
    for _ in range(1000):
        if version_of(client) == 3:
            break
    assert states(client)[2] in ("DRAINING", "READY")
    client._loop.call_soon_threadsafe(servable.release)
    post(client, "/admin/models/m/load")
    assert states(client) == {2: "UNLOADED", 3: "READY"}


@pytest.mark.parametrize(
    ("policy", "chosen"), [("latest", [4]), ("latest:2", [2, 4]), ("all", [1, 2, 4]), ("1,3", [1, 3]), ("2", [2])]
)
def test_policies_choose(policy, chosen):
    assert choose_versions(check_policy(policy), [1, 2, 4]) == chosen


@pytest.mark.parametrize(
    ("policy", "failed", "chosen"),
    [
        ("latest", {4}, [2, 4]),
        ("latest", {1}, [4]),
        ("latest:2", {2}, [1, 2, 4]),
        ("latest", {1, 2, 4}, [1, 2, 4]),
        ("all", {4}, [1, 2, 4]),
        ("4", {4}, [4]),
    ],
)
def test_the_latest_versions_that_fail_have_others_in_their_place(policy, failed, chosen):
    assert choose_versions(policy, [1, 2, 4], failed) == chosen


def test_a_version_that_fails_at_the_start_has_the_one_before_in_its_place(repository):
    put(repository, 3, "this is no Python")
    (repository / "m" / "4").mkdir()
    with Client(repository) as client:
        assert version_of(client) == 2
        assert states(client) == {2: "READY", 3: "FAILED", 4: "FAILED"}
        ready = client.get("/ready")
        assert (ready.status, [each["version"] for each in ready.json["failed"]]) == (200, [3, 4])
        put(repository, 3)
        post(client, "/admin/models/m/load")
        assert version_of(client) == 3
        assert states(client) == {2: "UNLOADED", 3: "READY", 4: "FAILED"}


def test_where_every_version_fails_each_is_tried_and_told(repository):
    for version in (1, 2):
        put(repository, version, "this is no Python")
    with pytest.raises(LoadFailed, match=r"m: .*\n?; m: "), Client(repository):
        pass


def test_objects_of_a_program_are_controlled_too():
    class Same:
        inputs = {"x": "FP32[-1, 1]"}
        outputs = {"y": "FP32[-1, 1]"}
        batchable = True

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x

    with Client(Same(), name="m") as client:
        post(client, "/admin/models/m/unload")
        assert version_of(client) == 503
        post(client, "/admin/models/m/load")
        assert version_of(client) == [0.0]


def test_a_lazy_version_that_fails_at_its_first_call_has_the_one_before_in_its_place(repository):
    put(repository, 3, "this is no Python")
    with Client(repository, lazy=True) as client:
        assert version_of(client) == 503
        deadline = time.monotonic() + 30
        while version_of(client) != 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert states(client) == {2: "READY", 3: "FAILED"}
