"""The mirror of a store: what it takes of a listing, what a bad disk or another server does to it."""

import logging
import threading
from collections import Counter
from pathlib import Path

import pytest

from inferd.core.errors import ConfigError, LoadFailed
from inferd.sources import blobs, remote
from inferd.sources.blobs import RemoteFile
from inferd.sources.remote import STUB, Mirror


class Shelf:
    """A store of bytes by name, that counts what is fetched and may be held up."""

    name = "models"
    identity = "shelf"

    def __init__(self):
        self.content = {}
        self.fetched = Counter()
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def files(self):
        return {name: RemoteFile(name, len(body), str(hash(body)), 1.0) for name, body in self.content.items()}

    def append(self, file, partial):
        self.fetched[file.path] += 1
        with partial.open("ab") as out:
            self.entered.set()
            self.go_on.wait()
            out.write(self.content[file.path])


@pytest.fixture
def shelf(monkeypatch):
    made = Shelf()
    monkeypatch.setattr(remote, "open_store", lambda url: made)
    monkeypatch.setattr(blobs, "FIRST_PAUSE_S", 0.0)
    return made


def there(mirror):
    return {path.relative_to(mirror.path).as_posix() for path in mirror.path.rglob("*") if path.is_file()}


def test_objects_that_mark_folders_are_none(shelf, tmp_path):
    shelf.content = {"": b"", "m": b"", "m/1": b"", "m/1/a.onnx": b"weights", "m/model.toml": b""}
    mirror = Mirror("shelf://models", tmp_path)
    mirror.refresh()
    mirror.fetch(mirror.path / "m" / "1")
    assert there(mirror) == {"m/1/a.onnx", "m/model.toml"}


def test_a_root_that_is_one_file_is_mirrored_as_one(shelf, tmp_path):
    shelf.content = {"": b"weights"}
    mirror = Mirror("shelf://models", tmp_path)
    mirror.refresh()
    assert mirror.path.read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["../up/1/a", "m/../../1/a", "m/.hidden/1/a", ".git/config"])
def test_names_that_lead_elsewhere_or_hide_are_left_out(shelf, tmp_path, name):
    shelf.content = {name: b"", "m/1/a.onnx": b"weights"}
    mirror = Mirror("shelf://models", tmp_path / "cache")
    mirror.refresh()
    assert there(mirror) == {f"m/1/{STUB}"}
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


@pytest.mark.parametrize("name", ["a b", "new\nline", "100%", "%2e%2e", "back\\slash", "#?&", "ü", "'\""])
def test_odd_names_are_kept_as_they_are(shelf, tmp_path, name):
    shelf.content = {f"{name}/1/{name}": b"weights"}
    mirror = Mirror("shelf://models", tmp_path)
    mirror.refresh()
    mirror.fetch(mirror.path / name / "1")
    assert (mirror.path / name / "1" / name).read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["l" * 300, "nul\0"])
def test_a_name_that_no_disk_holds_is_said_and_what_was_fetched_stays(shelf, tmp_path, name):
    shelf.content = {"m/1/a.onnx": b"weights"}
    mirror = Mirror("shelf://models", tmp_path)
    mirror.refresh()
    mirror.fetch(mirror.path / "m" / "1")
    shelf.content[f"{name}/1/a.onnx"] = b"weights"
    with pytest.raises(LoadFailed, match="shelf://models cannot be kept in the cache folder"):
        mirror.refresh()
    assert there(mirror) == {"m/1/a.onnx"}


def test_a_cache_folder_that_cannot_be_written_is_said(shelf, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be written.*set --cache-folder"):
        Mirror("shelf://models", tmp_path / "file" / "cache")


def test_a_full_disk_fails_the_version_and_leaves_its_stub(shelf, tmp_path, monkeypatch):
    shelf.content = {"m/1/a.onnx": b"weights"}
    mirror = Mirror("shelf://models", tmp_path)
    mirror.refresh()
    # A device that is always full, in the place of the file that a download is written to.
    monkeypatch.setattr(shelf, "append", lambda file, partial: Path("/dev/full").write_bytes(b"weights"))
    with pytest.raises(LoadFailed, match="No space left on device"):
        mirror.fetch(mirror.path / "m" / "1")
    assert there(mirror) == {f"m/1/{STUB}"}


def test_a_file_of_the_cache_that_was_cut_short_is_fetched_again(shelf, tmp_path):
    shelf.content = {"m/1/a.onnx": b"weights"}
    for expected in (1, 2):
        shelf.identity = str(expected)
        mirror = Mirror("shelf://models", tmp_path)
        mirror.refresh()
        mirror.fetch(mirror.path / "m" / "1")
        assert (mirror.path / "m" / "1" / "a.onnx").read_bytes() == b"weights"
        assert shelf.fetched["m/1/a.onnx"] == expected
        [blob] = (tmp_path / "blobs").iterdir()
        blob.write_bytes(b"wei")


def fetch_side_by_side(shelf, mirrors, caplog):
    """The second of two begins while the first is held, and goes on once that is done."""
    fetching = [threading.Thread(target=each.fetch, args=(each.path / "m" / "1",)) for each in mirrors]
    fetching[0].start()
    assert shelf.entered.wait(30)
    fetching[1].start()
    while "waiting for another server" not in caplog.text:
        fetching[1].join(0.01)
    shelf.go_on.set()
    for thread in fetching:
        thread.join()


def test_servers_with_one_cache_folder_take_turns_and_fetch_once(shelf, tmp_path, caplog):
    caplog.set_level(logging.INFO, "inferd.sources")
    shelf.content = {"m/1/a.onnx": b"weights"}
    shelf.go_on.clear()
    mirrors = [Mirror("shelf://models", tmp_path) for _ in range(2)]
    mirrors[0].refresh()
    mirrors[1].refresh()
    fetch_side_by_side(shelf, mirrors, caplog)
    assert shelf.fetched == {"m/1/a.onnx": 1}
    assert there(mirrors[1]) == {"m/1/a.onnx"}


def test_a_download_of_another_mirror_of_the_same_file_is_waited_for(shelf, tmp_path, caplog):
    """Two URLs, one of which leads to a part of the other."""
    caplog.set_level(logging.INFO, "inferd.sources")
    shelf.content = {"m/1/a.onnx": b"weights"}
    shelf.go_on.clear()
    mirrors = []
    for shelf.identity in ("one", "other"):
        mirrors.append(Mirror("shelf://models", tmp_path))
        mirrors[-1].refresh()
    fetch_side_by_side(shelf, mirrors, caplog)
    assert shelf.fetched == {"m/1/a.onnx": 1}
    for mirror in mirrors:
        assert (mirror.path / "m" / "1" / "a.onnx").read_bytes() == b"weights"


def test_thousands_of_versions_are_mirrored_and_removed(shelf, tmp_path):
    shelf.content = {f"m{model}/{version}/a.onnx": b"w" for model in range(10) for version in range(1, 51)}
    mirror = Mirror("shelf://models", tmp_path)
    mirror.refresh()
    assert len(there(mirror)) == 500
    shelf.content = {"m0/1/a.onnx": b"w"}
    mirror.refresh()
    assert there(mirror) == {f"m0/1/{STUB}"}
    assert [path.name for path in mirror.path.iterdir()] == ["m0"]
