import hashlib
import sys
from datetime import UTC, datetime, timedelta

import pytest

from inferd.cli.main import main
from inferd.server.keys import load_keys


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["inferd", "keys", "new", *arguments])
    return main()


def test_the_key_is_printed_once_and_the_file_holds_its_hash(monkeypatch, capsys, tmp_path):
    file = tmp_path / "keys.toml"
    before = datetime.now(UTC).replace(microsecond=0)
    arguments = ["--scope", "inference", "--scope", "metrics", "--id", "ci", "--expires", "90d", "--file", str(file)]
    assert run(monkeypatch, *arguments) == 0
    secret = capsys.readouterr().out.strip()
    (key,) = load_keys(file)
    assert key.id == "ci"
    assert key.scopes == {"inference", "metrics"}
    assert key.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert key.expires is not None
    assert timedelta(days=90) <= key.expires - before < timedelta(days=91)
    assert secret not in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scope", "wizard"], "unknown scope 'wizard'"),
        (["--scope", "admin", "--expires", "soon"], "takes an age such as 90d, 12h or 4w"),
        (["--scope", "admin", "--id", "a b"], "id takes letters"),
        ([], "Missing option '--scope'"),
    ],
)
def test_a_mistake_is_refused_and_makes_no_file(monkeypatch, capsys, tmp_path, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "keys.toml").exists()


def test_a_file_that_cannot_be_written_is_one_line_and_exit_code_1(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "--scope", "admin", "--file", str(tmp_path / "nowhere" / "keys.toml")) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("inferd: [Errno 2] No such file or directory")
    assert captured.out == ""
