"""The page about the report is run: its definition, its made-up log and its commands."""

import re
import shlex
from pathlib import Path

from inferd.cli.main import group

PAGE = Path(__file__).parents[3] / "docs" / "experiments" / "report.md"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_report_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    toml, python, bash = BLOCK.findall(PAGE.read_text())
    Path(toml[1].strip().removeprefix("file=")).write_text(toml[2])
    exec(compile(python[2], "report.md", "exec"), {})
    for line in bash[2].splitlines():
        arguments, _, out = line.partition(" > ")
        group.main(shlex.split(arguments)[1:], standalone_mode=False)
        if out:
            Path(out).write_text(capsys.readouterr().out)
    printed = capsys.readouterr().out
    assert "split as planned" in printed
    assert "revenue (mean), candidate against control\n  better: candidate is higher" in printed
    assert '"conclusion": "better"' in Path("report.json").read_text()
    assert "<svg" in Path("report.html").read_text()
