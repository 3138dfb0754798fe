import io
import sys

import pytest

from inferd.cli.main import main

TOML = """\
id = "ranker-2"
model = "ranker"
unit = "header:X-User-Id"
[[variant]]
name = "control"
target = "ranker@1"
[[variant]]
name = "candidate"
target = "ranker@2"
[[metric]]
name = "converted"
kind = "proportion"
"""


@pytest.fixture
def definition(tmp_path):
    path = tmp_path / "ranker.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def run(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["inferd", "experiment", *map(str, arguments)])
        return main()

    return run


def test_check_prints_the_split(run, definition, capsys):
    assert run("check", definition) == 0
    out = capsys.readouterr().out
    assert "100% of the units of ranker, by header:X-User-Id" in out
    assert "candidate (treated): 50.00% to ranker@2" in out
    assert "converted: proportion" in out


def test_check_refuses_a_mistake_with_its_line(run, definition, capsys):
    definition.write_text(TOML.replace("unit", "unti"))
    assert run("check", definition) == 2
    assert "ranker.toml:3: unknown key 'unti'; did you mean 'unit'?" in capsys.readouterr().err


def test_assign_prints_variant_and_target(run, definition, capsys):
    assert run("assign", definition, "user-1", "user-2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["user-1\tcandidate\tranker@2\tassigned", "user-2\tcandidate\tranker@2\tassigned"]


def test_assign_reads_units_from_stdin(run, definition, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"user-1\nuser-3\n")))
    assert run("assign", definition, "-") == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["user-1", "user-3"]


def test_assign_says_why_a_unit_takes_no_part(run, definition, capsys):
    definition.write_text(TOML + '[[targeting]]\nheader = "X-Country"\none_of = ["DE"]\n')
    assert run("assign", definition, "user-1", "--header", "X-Country: FR") == 0
    assert capsys.readouterr().out == "user-1\t\t\ttargeting\n"
    assert run("assign", definition, "user-1", "--header", "x-country: DE") == 0
    assert capsys.readouterr().out.endswith("\tassigned\n")


def test_a_malformed_header_is_refused(run, definition, capsys):
    assert run("assign", definition, "user-1", "--header", "X-Country") == 2
    assert "takes NAME:VALUE" in capsys.readouterr().err


SHADOW = """\
id = "next"
model = "ranker"
mode = "shadow"
[[variant]]
name = "control"
target = "ranker@1"
[[variant]]
name = "candidate"
target = "ranker@2"
[shadow]
sample = 0.25
"""


def test_check_says_what_runs_unseen(run, definition, capsys):
    definition.write_text(SHADOW)
    assert run("check", definition) == 0
    out = capsys.readouterr().out
    assert "control (control): 100.00% to ranker@1" in out
    assert "candidate (shadow): 25% of them again by ranker@2, unseen" in out


def test_a_shadow_has_no_log_to_report_on(run, definition, tmp_path, capsys):
    definition.write_text(SHADOW)
    log = tmp_path / "log.csv"
    log.write_text("unit,variant")
    assert run("report", log, "--definition", definition) == 2
    assert "no log tells of one; --experiment asks a server" in capsys.readouterr().err
