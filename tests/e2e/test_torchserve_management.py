"""TorchServe's management API of a real server, over a repository of real models."""

import http.client
import json
import shutil

import pytest
from serve_support import EXAMPLES, Process, free_port

ROW = [5.1, 3.5, 1.4, 0.2]


class Managed(Process):
    """A server with both of TorchServe's doors, over ``iris`` in versions 1 and 2 and ``topic``."""

    def __init__(self, folder, *flags):
        repository = folder / "models"
        for version in ("1", "2"):
            shutil.copytree(EXAMPLES / "iris-onnx" / "1", repository / "iris" / version)
        shutil.copytree(EXAMPLES / "topic", repository / "topic")
        self.inference, self.management = free_port(), free_port()
        doors = ["--door", f"torchserve={self.inference}", "--door", f"torchserve-management={self.management}"]
        super().__init__(folder, "serve", repository, "--version-policy", "all", *doors, *flags)

    def manage(self, method, path, body=None):
        return self._send(self.management, method, path, body)

    def predict_version(self, path="/predictions/iris"):
        connection = http.client.HTTPConnection("127.0.0.1", self.inference, timeout=30)
        try:
            connection.request("POST", path, json.dumps(ROW), {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            return response.status, response.getheader("inferd-model-version")
        finally:
            connection.close()

    def _send(self, port, method, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def managed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchserve")
    with Managed(folder, "--model-control", "--state-file", folder / "state.db") as process:
        yield process.wait_ready()


def test_models_are_listed_by_pages(managed):
    first = {"models": [{"modelName": "iris", "modelUrl": "iris"}], "nextPageToken": "1"}
    assert managed.manage("GET", "/models?limit=1") == (200, first)
    assert managed.manage("GET", "/models?limit=1&next_page_token=1")[1] == {
        "models": [{"modelName": "topic", "modelUrl": "topic"}]
    }


def test_versions_are_described(managed):
    status, (latest,) = managed.manage("GET", "/models/iris")
    assert (status, latest["modelVersion"], latest["workers"][0]["status"]) == (200, "2.0", "READY")
    assert [each["modelVersion"] for each in managed.manage("GET", "/models/iris/all")[1]] == ["1.0", "2.0"]
    assert managed.manage("GET", "/models/iris/1.0")[1][0]["modelVersion"] == "1.0"


def test_the_default_is_moved_kept_and_goes_last(managed):
    assert managed.predict_version() == (200, "2")
    assert managed.manage("PUT", "/models/iris/1.0/set-default")[0] == 200
    assert managed.predict_version() == (200, "1")
    assert managed.predict_version("/predictions/iris/2.0") == (200, "2")
    status, error = managed.manage("DELETE", "/models/iris/1.0")
    assert (status, error["code"], error["type"]) == (403, 403, "InvalidModelVersionException")
    assert managed.manage("DELETE", "/models/iris")[0] == 403
    assert managed.manage("PUT", "/models/iris/2.0/set-default")[0] == 200
    assert managed.manage("DELETE", "/models/iris/1")[0] == 200
    managed.wait_for(lambda: managed.predict_version("/predictions/iris/1")[0] == 503)
    for method in ("DELETE", "GET"):
        status, error = managed.manage(method, "/models/iris/1.0")
        assert (status, error["type"]) == (404, "ModelVersionNotFoundException")
    assert [each["modelVersion"] for each in managed.manage("GET", "/models/iris/all")[1]] == ["2.0"]
    assert managed.manage("PUT", "/models/iris/1?min_worker=1&synchronous=true")[0] == 200
    assert managed.predict_version("/predictions/iris/1") == (200, "1")


def test_workers_are_scaled_at_once_or_in_the_background(managed):
    reply = managed.manage("PUT", "/models/topic?min_worker=2&synchronous=true")
    assert reply == (200, {"status": "Workers scaled to 2 for model: topic"})
    assert len(managed.manage("GET", "/models/topic")[1][0]["workers"]) == 2
    assert managed.manage("PUT", "/models/topic", {"min_worker": 0}) == (
        202,
        {"status": "Processing worker updates..."},
    )
    managed.wait_for(lambda: managed.manage("GET", "/models/topic")[1][0]["workers"] == [])
    status, error = managed._send(managed.inference, "POST", "/predictions/topic", "text")
    assert (status, error["type"]) == (503, "ServiceUnavailableException")
    assert managed.manage("PUT", "/models/topic?min_worker=1&synchronous=true")[0] == 200


def test_a_model_is_unregistered_and_registered_again(managed):
    assert managed.manage("DELETE", "/models/topic") == (200, {"status": 'Model "topic" unregistered'})
    assert managed.manage("GET", "/models/topic")[0] == 404
    assert [each["modelName"] for each in managed.manage("GET", "/models")[1]["models"]] == ["iris"]
    status, reply = managed.manage("POST", "/models?url=topic.mar")
    assert (status, "registered with 0 initial workers" in reply["status"]) == (200, True)
    assert managed.manage("PUT", "/models/topic", {"min_worker": 1, "synchronous": True})[0] == 200
    status, error = managed.manage("POST", "/models?url=topic&initial_workers=1&synchronous=true")
    assert (status, error["type"]) == (409, "ConflictStatusException")
    assert managed.manage("DELETE", "/models/topic/1")[0] == 200
    assert managed.manage("POST", "/models", {"url": "topic", "initial_workers": 1})[0] == 202
    managed.wait_for(lambda: managed._send(managed.inference, "POST", "/predictions/topic", "text")[0] == 200)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/models/nobody", None, 404, "ModelNotFoundException"),
        ("GET", "/models/iris/9", None, 404, "ModelVersionNotFoundException"),
        ("GET", "/models/iris/latest", None, 404, "ModelVersionNotFoundException"),
        ("GET", "/models?limit=0", None, 400, "BadRequestException"),
        ("GET", "/models?next_page_token=x", None, 400, "BadRequestException"),
        ("DELETE", "/models/nobody", None, 404, "ModelNotFoundException"),
        ("DELETE", "/models/iris/9.0", None, 404, "ModelVersionNotFoundException"),
        ("PUT", "/models/nobody?min_worker=1", None, 404, "ModelNotFoundException"),
        ("PUT", "/models/iris?min_worker=-1", None, 400, "BadRequestException"),
        ("PUT", "/models/iris?min_worker=3&max_worker=2", None, 400, "BadRequestException"),
        ("PUT", "/models/iris?min_worker=100000", None, 400, "BadRequestException"),
        ("PUT", "/models/iris?synchronous=maybe", None, 400, "BadRequestException"),
        ("PUT", "/models/iris/9/set-default", None, 404, "ModelVersionNotFoundException"),
        ("POST", "/models", None, 400, "BadRequestException"),
        ("POST", "/models", [], 400, "BadRequestException"),
        ("POST", "/models", {"url": 5}, 400, "BadRequestException"),
        ("POST", "/models?url=https://example.com/a.mar", None, 400, "BadRequestException"),
        ("POST", "/models?url=../../etc/passwd", None, 400, "BadRequestException"),
        ("POST", "/models?url=new&model_name=other", None, 400, "BadRequestException"),
        ("POST", "/models?url=nobody", None, 404, "ModelNotFoundException"),
        ("POST", "/models?url=iris", None, 409, "ConflictStatusException"),
        ("PATCH", "/models", None, 405, "MethodNotAllowedException"),
    ],
)
def test_what_cannot_be_done_is_refused_in_the_protocols_own_shape(managed, method, path, body, status, kind):
    assert managed.manage(method, path, body)[0] == status
    error = managed.manage(method, path, body)[1]
    assert (error["code"], error["type"]) == (status, kind)
    assert managed.predict_version()[0] == 200


def test_nothing_is_changed_without_leave_or_without_an_admins_key(tmp_path):
    keys = Process(tmp_path, "keys", "new", "--scope", "inference", "--file", tmp_path / "keys.toml")
    assert keys.exit_code() == 0, keys.output
    with Managed(tmp_path, "--api-keys-file", tmp_path / "keys.toml") as process:
        process.wait_ready()
        assert process.manage("GET", "/models")[0] == 401
        assert process.manage("DELETE", "/models/iris/1")[0] == 401
        assert process.predict_version()[0] == 401
    (tmp_path / "again").mkdir()
    with Managed(tmp_path / "again") as process:
        process.wait_ready()
        assert process.manage("GET", "/models/iris")[0] == 200
        status, error = process.manage("DELETE", "/models/iris/1")
        assert (status, "--model-control" in error["message"]) == (501, True)
