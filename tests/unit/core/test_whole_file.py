import os
from pathlib import Path

import pytest

from inferd.core.errors import LoadFailed
from inferd.core.whole_file import whole_file


def test_what_was_written_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "golden.npz"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["golden.npz"]


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "golden.npz"
    path.write_bytes(b"old")
    (tmp_path / ".golden.npz.partial").symlink_to("/dev/full")
    words = "golden.npz cannot be written: No space left on device"
    with pytest.raises(LoadFailed, match=words), whole_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["golden.npz"]


def test_a_block_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as file:
        file.write(bytes(1 // 0))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(LoadFailed, match="No such file or directory"), whole_file(tmp_path / "no" / "a"):
        pass
