from pathlib import Path

import pytest

from inferd.core.errors import ConfigError
from inferd.core.toml_file import dotted, read_toml

TEXT = """\
# a comment
port = 1

[batching]   # another
sizes = [
  1,
  2,
]
text = '''
[not.a.table]
port = 2
'''
inline = { a = 1, b = 2 }

[[input]]
name = "x"

[[input]]
name = "y"
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("port",), 2),
        (("batching",), 4),
        (("batching", "sizes"), 5),
        (("batching", "text"), 9),
        (("batching", "inline", "b"), 13),
        (("input", 0, "name"), 16),
        (("input", 1), 18),
        (("input", 1, "name"), 19),
    ],
)
def test_a_key_is_found_on_the_line_where_its_statement_begins(tmp_path: Path, key, line):
    file = tmp_path / "some.toml"
    file.write_text(TEXT)
    assert read_toml(file).where(*key) == f"{file}:{line}"


def test_windows_line_ends_count_as_one_line(tmp_path: Path):
    file = tmp_path / "some.toml"
    file.write_bytes(b"a = 1\r\nb = 2\r\n")
    assert read_toml(file).where("b") == f"{file}:2"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a = = 1", "line 1"),
        (b'a = "\xff"', "utf-8"),
        (b"a = 1\na = 2", "Cannot overwrite"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_file_is_refused_with_its_name_and_reason(tmp_path: Path, content, says):
    file = tmp_path / "some.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_toml(file)
    assert str(file) in error.value.message
    assert says in error.value.message


def test_a_missing_file_is_refused():
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        read_toml(Path("nowhere.toml"))


def test_a_key_path_is_shown_as_people_write_it():
    assert dotted(("input", 0, "shape")) == "input[0].shape"
