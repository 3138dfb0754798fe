"""A real server that follows its repository."""

import json
import os
import shutil
import time

import pytest
from serve_support import Process

from ranker_support import MODEL


def put(repository, version, model="m", code=MODEL):
    folder = repository / model / str(version)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code.replace("VERSION", str(version)))
    return folder


class Watched:
    def __init__(self, folder, *args):
        self.repository = folder / "models"
        self.repository.mkdir(exist_ok=True)
        flags = ("--watch", "--watch-settle-s", "0.3", "--watch-interval-s", "1", *args)
        self.process = Process(folder, "serve", self.repository, *flags)

    def __enter__(self):
        self.process.wait_ready()
        return self

    def __exit__(self, *exception):
        self.process.__exit__()

    def versions(self, model="m"):
        """The versions that are ready."""
        body = self.process.ask("GET", f"/admin/models/{model}")[2]
        ready = [each for each in json.loads(body).get("versions", ()) if each["state"] == "READY"]
        return {each["version"] for each in ready}

    def describe(self, model="m"):
        return json.loads(self.process.ask("GET", f"/admin/models/{model}")[2])

    def predict(self, model="m"):
        headers = {"Content-Type": "application/json"}
        status, _, body = self.process.ask("POST", f"/models/{model}/predict", '{"instances": [[1]]}', headers)
        return json.loads(body)["predictions"][0] if status == 200 else status

    def until(self, condition):
        """Wait for a condition that changes of files bring about."""
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, self.process.log.read_text()
            time.sleep(0.02)


@pytest.fixture
def watched(tmp_path):
    put(tmp_path / "models", 1)
    with Watched(tmp_path) as served:
        yield served


def test_versions_and_models_come_and_go_with_their_folders(watched):
    put(watched.repository, 2)
    watched.until(lambda: watched.versions() == {2})
    put(watched.repository, 1, model="other")
    watched.until(lambda: watched.predict("other") == 1)
    shutil.rmtree(watched.repository / "m" / "2")
    watched.until(lambda: watched.predict() == 1)
    shutil.rmtree(watched.repository / "m")
    watched.until(lambda: watched.predict() == 404)
    shutil.rmtree(watched.repository / "other")
    watched.until(lambda: watched.predict("other") == 404)
    put(watched.repository, 3)
    watched.until(lambda: watched.predict() == 3)


def test_a_version_that_is_still_copied_is_not_loaded(watched):
    """The file grows for as long as five times the settling takes; half of it would load, and answer wrong."""
    folder = watched.repository / "m" / "2"
    folder.mkdir()
    with (folder / "model.py").open("w") as file:
        file.write(MODEL.replace("VERSION", "666"))
        for _ in range(15):
            file.write("#" * 100 + "\n")
            file.flush()
            time.sleep(0.1)  # the copying takes this long
            assert watched.predict() == 1
        file.write(MODEL.replace("VERSION", "2"))
    watched.until(lambda: watched.versions() == {2})
    assert watched.predict() == 2


def test_a_marker_file_says_when_a_version_is_complete(tmp_path):
    put(tmp_path / "models", 1).joinpath("_SUCCESS").touch()
    with Watched(tmp_path, "--complete-marker", "_SUCCESS") as served:
        folder = put(served.repository, 2)
        served.until(lambda: "2: it has no _SUCCESS yet" in served.describe()["ignored"])
        assert served.versions() == {1}
        (folder / "_SUCCESS").touch()
        served.until(lambda: served.versions() == {2})


def test_what_cannot_be_read_leaves_what_serves_as_it_is(watched):
    (watched.repository / "m" / "model.toml").write_text("this is no TOML")
    watched.until(lambda: "problem" in watched.describe())
    assert "model.toml" in watched.describe()["problem"]
    assert watched.predict() == 1
    (watched.repository / "m" / "model.toml").unlink()
    watched.until(lambda: "problem" not in watched.describe())
    put(watched.repository, 2, code="this is no Python")
    watched.until(lambda: any(each["state"] == "FAILED" for each in watched.describe()["versions"]))
    assert watched.predict() == 1
    os.rename(watched.repository, watched.repository.with_name("away"))
    watched.until(lambda: "cannot be read" in watched.process.log.read_text())
    assert watched.predict() == 1
    os.rename(watched.repository.with_name("away"), watched.repository)
    watched.until(lambda: "can be read again" in watched.process.log.read_text())
    assert watched.predict() == 1


def test_files_that_take_the_place_of_others_are_told_and_served_when_somebody_says_so(watched):
    """The folder goes and comes between two looks, so nobody could see it go."""
    folder = watched.repository / "m" / "1"
    other = put(watched.repository.parent / "other", 1, code=MODEL.replace("VERSION", "111"))
    folder.rename(watched.repository.parent / "old")
    other.rename(folder)
    watched.until(lambda: "its files have changed" in watched.describe()["versions"][0].get("reason", ""))
    assert "m version 1: its files have changed since it was loaded" in watched.process.output
    assert watched.predict() == 1
    headers = {"Content-Type": "application/json"}
    assert watched.process.ask("POST", "/admin/models/m/load", "", headers)[0] == 200
    assert watched.predict() == 111
    assert [each.get("reason") for each in watched.describe()["versions"]] == [None]


def test_folders_that_are_no_versions_are_named_with_a_reason(watched):
    (watched.repository / "m" / "notes").mkdir()
    (watched.repository / "m" / ".tmp-2").mkdir()
    watched.until(lambda: watched.describe()["ignored"] == ["notes: not a version number"])


def test_a_server_may_start_on_an_empty_repository_and_wait(tmp_path):
    served = Watched(tmp_path)
    with served.process:
        put(served.repository, 1)
        served.process.wait_ready()
        served.until(lambda: served.predict() == 1)
