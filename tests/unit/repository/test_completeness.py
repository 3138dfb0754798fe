import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from inferd.repository.completeness import Completeness


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    version = tmp_path / "1"
    version.mkdir()
    (version / "model.onnx").write_bytes(b"half")
    return version


def test_without_settings_every_folder_is_complete(folder):
    assert Completeness().why_not(folder) == ""


def test_files_that_have_just_changed_are_not_complete_until_they_lie_still(folder, clock):
    completeness = Completeness(settle_s=60, monotonic_s=clock)
    assert completeness.why_not(folder) == "its files are still changing"
    assert completeness.is_waiting()
    clock.now_s += 59
    assert completeness.why_not(folder) != ""
    (folder / "model.onnx").write_bytes(b"half and more")
    clock.now_s += 59
    assert completeness.why_not(folder) != ""
    clock.now_s += 60
    assert completeness.why_not(folder) == ""
    assert not completeness.is_waiting()


def test_old_files_are_complete_at_the_first_look(folder, clock):
    completeness = Completeness(settle_s=0.001, monotonic_s=clock)
    newest_s = max(os.stat(folder / "model.onnx").st_ctime, os.stat(folder / "model.onnx").st_mtime)
    while time.time() <= newest_s + 0.001:
        pass
    assert completeness.why_not(folder) == ""


def test_time_stamps_from_the_future_are_looked_at_twice(folder, clock):
    os.utime(folder / "model.onnx", (4e9, 4e9))
    completeness = Completeness(settle_s=5, monotonic_s=clock)
    assert completeness.why_not(folder) != ""
    clock.now_s += 5
    assert completeness.why_not(folder) == ""


def test_an_empty_folder_waits_for_its_files(tmp_path, clock):
    folder = tmp_path / "2"
    folder.mkdir()
    completeness = Completeness(settle_s=1, monotonic_s=clock)
    for _ in range(3):
        assert completeness.why_not(folder) != ""
        clock.now_s += 10


def test_what_was_complete_stays_so_until_it_is_gone(folder, clock):
    completeness = Completeness(settle_s=60, monotonic_s=clock)
    completeness.why_not(folder)
    clock.now_s += 60
    assert completeness.why_not(folder) == ""
    (folder / "late.txt").write_text("a note")
    assert completeness.why_not(folder) == ""
    shutil.rmtree(folder)
    assert not completeness.is_waiting()
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"another")
    assert completeness.why_not(folder) != ""


def test_a_marker_says_alone_what_is_complete(folder):
    completeness = Completeness(marker="_SUCCESS", settle_s=60)
    assert completeness.why_not(folder) == "it has no _SUCCESS yet"
    (folder / "_SUCCESS").touch()
    assert completeness.why_not(folder) == ""


def test_it_is_asked_while_it_forgets(tmp_path):
    """Control calls look at the repository in their thread, the watch asks in its own."""
    completeness = Completeness(settle_s=1000)
    folders = [tmp_path / str(number) for number in range(200)]
    for folder in folders:
        folder.mkdir()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            asked = threads.submit(lambda: [completeness.why_not(folder) for _ in range(5) for folder in folders])
            while not asked.done():
                completeness.is_waiting()
            assert set(asked.result()) == {"its files are still changing"}
    finally:
        sys.setswitchinterval(interval)
    assert completeness.is_waiting()
