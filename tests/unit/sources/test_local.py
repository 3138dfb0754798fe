from pathlib import Path

import pytest

from inferd.core.errors import LoadFailed
from inferd.core.plugins import lookup
from inferd.sources.local import SOURCE


def test_versions_are_integer_folders_in_one_spelling_ascending(tmp_path: Path):
    for name in ("10", "2", "1", "0", "01", "-3", "1.5", "old", ".4", "²"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("a file is no version")
    assert SOURCE.versions(str(tmp_path)) == [1, 2, 10]
    assert SOURCE.fetch(str(tmp_path), 2) == tmp_path / "2"


def test_a_version_that_is_gone_is_refused(tmp_path: Path):
    with pytest.raises(LoadFailed, match="no such version folder"):
        SOURCE.fetch(str(tmp_path), 3)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path):
    with pytest.raises(LoadFailed, match="cannot be listed"):
        SOURCE.versions(str(tmp_path / "nowhere"))


def test_it_is_found_by_its_scheme():
    assert lookup("inferd.sources", "file") is SOURCE
