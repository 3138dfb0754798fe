"""A real server and its state file: damaged, taken by another, on a disk that is full."""

import json
import sqlite3

import pytest
from serve_support import INFERD, Process, gated_model

JSON = {"Content-Type": "application/json"}
LIMITED = ("bash", "-c", 'ulimit -f 200; exec "$@"', "bash", *INFERD)
"""Files of this process may grow to 200 KiB, after which the system refuses to write, as it does on a full disk."""


@pytest.fixture
def repository(tmp_path):
    for version in (1, 2):
        folder = tmp_path / "models" / "m" / str(version)
        folder.mkdir(parents=True)
        gated_model(folder).rename(folder / "model.py")
    return tmp_path / "models"


def put(process, what, body):
    return process.ask("PUT", f"/admin/models/m/{what}", json.dumps(body), JSON)[0]


def answers(process):
    return process.predict([[1, 2]])[0] == 200


def damage(path, how):
    if how == "text":
        path.write_text("a list of things to do\n" * 100)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE decisions SET decision = ?", ('{"policy": "newest"}',))
        connection.close()


@pytest.mark.parametrize(("how", "words"), [("text", "is no state file of inferd"), ("row", "says of model 'm'")])
def test_a_damaged_file_that_was_named_is_refused_and_the_default_one_is_done_without(tmp_path, repository, how, words):
    with Process(tmp_path, "serve", repository) as process:
        assert put(process.wait_ready(), "policy", {"policy": "all"}) == 200
        assert process.signal().exit_code() == 0
    (file,) = (tmp_path / ".state" / "inferd").glob("*.db")
    damage(file, how)
    with Process(tmp_path, "serve", repository, "--state-file", file) as process:
        assert process.exit_code() == 2
        assert words in process.output
        assert len(process.output.splitlines()) == 1
    with Process(tmp_path, "serve", repository) as process:
        assert answers(process.wait_ready())
        assert words in process.output
        assert "what is decided now is forgotten at the end" in process.output
        assert put(process, "policy", {"policy": "all"}) == 200


def test_of_two_servers_one_has_the_file(tmp_path, repository):
    with Process(tmp_path, "serve", repository, "--state-file", "s.db") as first:
        assert put(first.wait_ready(), "labels/stable", {"version": 2}) == 200
        with Process(tmp_path, "serve", repository, "--state-file", "s.db") as second:
            assert second.exit_code() == 2
            assert "another server uses the state file s.db" in second.output
        assert answers(first)
        with Process(tmp_path, "serve", repository) as third, Process(tmp_path, "serve", repository) as fourth:
            for process in (third.wait_ready(), fourth.wait_ready()):
                assert put(process, "policy", {"policy": "all"}) in (200, 400)
                assert answers(process)
        assert first.json("/admin/models/m")["labels"] == {"stable": 2}


def test_a_full_disk_refuses_decisions_and_nothing_else(tmp_path, repository):
    """What was accepted holds after a restart; what was refused was not done."""
    with Process(tmp_path, "serve", repository, "--state-file", "s.db", command=LIMITED) as process:
        process.wait_ready()
        accepted = refused = 0
        for version in range(1, 2000):
            label = {"version": 2}
            if put(process, f"labels/l{version}", label) == 200:
                accepted = version
            else:
                refused = version
                break
        assert accepted
        assert refused
        body = process.ask("PUT", "/admin/models/m/labels/more", json.dumps(label), JSON)[2]
        assert "the state file s.db cannot be written" in json.loads(body)["detail"]
        assert len(process.json("/admin/models/m")["labels"]) == accepted
        # Loading needs no decision to be kept, and what serves is served.
        assert process.ask("POST", "/admin/rescan", "", JSON)[0] == 202
        assert answers(process)
        assert "s.db cannot be written" in process.output
        assert process.json("/admin/models/m/history")["history"]
        assert process.signal().exit_code() == 0
    with Process(tmp_path, "serve", repository, "--state-file", "s.db") as process:
        assert len(process.wait_ready().json("/admin/models/m")["labels"]) == accepted


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, repository):
    shell = ("bash", "-c", 'exec "$@" >/dev/full 2>&1', "bash", *INFERD)
    with Process(tmp_path, "serve", repository, "--access-log", command=shell) as process:
        process.wait_ready()
        assert put(process, "policy", {"policy": "all"}) == 200
        assert answers(process)
        assert process.signal().exit_code() == 0
