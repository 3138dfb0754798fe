"""Files that callers bring: where they lie, what is not taken, and that nothing of them is left."""

from pathlib import Path

import pytest

from inferd.core.errors import ConfigError
from inferd.repository.uploads import Uploads


@pytest.fixture
def home(tmp_path):
    return tmp_path / "cache" / "uploads"


def models(home):
    return sorted(map(str, home.glob("*/*/*")))


def test_files_lie_in_a_folder_of_the_models_name_until_it_is_removed(home):
    uploads = Uploads(home, any_code=False)
    folder = Path(uploads.write("m", {"1/model.onnx": b"abc", "1/deep/weights.data": b""}))
    other = uploads.write("m", {"1/model.onnx": b"other"})
    assert folder.name == "m"
    assert (folder / "1" / "model.onnx").read_bytes() == b"abc"
    assert (folder / "1" / "deep" / "weights.data").read_bytes() == b""
    uploads.remove(str(folder))
    assert models(home) == [other]
    uploads.close()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["1/model.py", "1/hooks.py", "model.toml", "1/m.pt2", "1/m.PKL", "1/saved_model.pb", "1/m"]
)
def test_what_may_hold_a_program_is_taken_only_where_any_code_is(home, path):
    with pytest.raises(ConfigError, match="--allow-pickle"):
        Uploads(home, any_code=False).write("m", {"1/m.onnx": b"", path: b""})
    assert not home.exists()
    assert (Path(Uploads(home, any_code=True).write("m", {path: b"x"})) / path).read_bytes() == b"x"


def test_a_disk_that_refuses_is_told_and_leaves_nothing_behind(home):
    uploads = Uploads(home, any_code=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        uploads.write("m", {"1/a": b"a", "1/a/b": b"b"})
    assert models(home) == []
    uploads.close()
    home.rmdir()
    home.write_text("a file where a folder is expected")
    with pytest.raises(ConfigError, match="--cache-folder"):
        Uploads(home, any_code=True).write("m", {"1/a": b"a"})


def test_what_a_killed_server_left_is_removed_and_what_another_holds_is_not(home):
    killed, alive = Uploads(home, any_code=False), Uploads(home, any_code=False)
    killed.write("killed", {"1/m.onnx": b""})
    held = alive.write("alive", {"1/m.onnx": b""})
    del killed  # and with it the lock, as at a process's end
    mine = Uploads(home, any_code=False).write("mine", {"1/m.onnx": b""})
    assert models(home) == sorted([held, mine])
