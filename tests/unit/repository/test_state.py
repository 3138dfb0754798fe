"""The state file: what it keeps, and what it refuses to be."""

import json
import os
import sqlite3

import pytest

from inferd.core.errors import ConfigError
from inferd.repository import state
from inferd.repository.state import Decision, HistoryEvent, StateStore

DECISION = Decision("all", {1}, {3}, False, {"stable": 1}, {"batching": {"max_batch_size": 4}})


def event(number, model="m"):
    return HistoryEvent(number, model, 2, "ready", "inferd", "")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "s.db"


@pytest.fixture
def written(path):
    """A file with a decision and two events."""
    store = StateStore(path)
    store.record(event(1))
    store.save("m", DECISION)
    store.record(event(2))
    store.close()
    return path


def change(path, statement, *values):
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def says(path, decision):
    change(path, "UPDATE decisions SET decision = ?", decision if isinstance(decision, str) else json.dumps(decision))


def test_decisions_and_history_survive_a_restart(written):
    store = StateStore(written)
    assert store.decisions == {"m": DECISION}
    assert [each.at_ms for each in store.history("m")] == [2, 1]
    store.close()


def test_the_file_is_made_by_the_first_decision_and_belongs_to_one_server(path):
    store = StateStore(path)
    store.record(event(1))
    assert not path.exists()
    store.save("m", DECISION)
    with pytest.raises(ConfigError, match="another server uses the state file"):
        StateStore(path)
    store.close()


def test_a_decision_that_is_kept_already_is_not_written_again(path):
    store = StateStore(path)
    log = path.with_name("s.db-wal")
    store.save("m", DECISION)
    size = log.stat().st_size
    store.save("m", DECISION.copy())
    assert log.stat().st_size == size
    store.save("m", Decision())
    assert log.stat().st_size > size
    store.close()
    store = StateStore(path)
    assert store.decisions == {"m": Decision()}
    store.close()


def test_the_history_keeps_the_last_events_only(path, monkeypatch):
    monkeypatch.setattr(state, "KEPT", 5)
    store = StateStore(path)
    store.save("m", DECISION)
    for number in range(12):
        store.record(event(number))
    store.close()
    store = StateStore(path)
    assert [each.at_ms for each in store.history("m")] == [11, 10, 9, 8, 7]
    store.close()


def test_what_an_older_inferd_wrote_is_read(written):
    says(written, {"policy": "all", "loaded": [1], "unloaded": [3], "off": False, "labels": {"stable": 1}})
    change(written, "PRAGMA user_version = 0")
    store = StateStore(written)
    assert store.decisions == {"m": Decision("all", {1}, {3}, False, {"stable": 1}, {})}
    store.close()


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def overwrite(path):
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    path.write_bytes(content)


def link_to_nowhere(path):
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b"not a database, but long enough to be looked at" * 100), "no state file"),
        (cut, "no state file of inferd, or damaged"),
        (overwrite, "no state file of inferd, or damaged"),
        (lambda path: change(path, "DROP TABLE decisions"), None),
        (lambda path: change(path, "CREATE TABLE customers (name TEXT)"), "it has a table 'customers'"),
        (lambda path: change(path, "ALTER TABLE decisions RENAME COLUMN decision TO d"), "no such column: decision"),
        (lambda path: change(path, "ALTER TABLE history RENAME COLUMN who TO w"), "no such column: who"),
        (lambda path: change(path, "PRAGMA user_version = 2"), "written by a newer inferd"),
        (lambda path: says(path, "{oops"), "says of model 'm' what cannot be used"),
        (lambda path: says(path, []), "says of model 'm' what cannot be used"),
        (lambda path: says(path, {"labels": {"stable": "two"}}), "says of model 'm' what cannot be used"),
        (lambda path: says(path, {"policy": "newest"}), "a version policy is latest"),
        (lambda path: says(path, {"overrides": {"batching": {"no": 1}}}), "unknown key 'batching.no'"),
        (link_to_nowhere, "cannot be opened"),
        (pipe, "is no regular file"),
        (folder, "is no regular file"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_with_its_reason(written, damage, words):
    damage(written)
    if words is None:  # what is empty is new
        StateStore(written).close()
        return
    with pytest.raises(ConfigError) as refused:
        StateStore(written)
    assert words in refused.value.message
    assert str(written) in refused.value.message


def test_a_foreign_database_is_left_as_it_was(tmp_path):
    path = tmp_path / "theirs.db"
    change(path, "CREATE TABLE customers (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="no state file of inferd"):
        StateStore(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["theirs.db"]


def test_a_place_that_cannot_be_written_names_the_flag_for_another(tmp_path):
    (tmp_path / "file").write_text("")
    store = StateStore(tmp_path / "file" / "s.db")
    with pytest.raises(ConfigError, match=r"cannot be written: .*; name another with --state-file"):
        store.save("m", DECISION)
