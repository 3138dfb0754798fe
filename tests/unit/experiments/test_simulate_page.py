"""The page about simulations is run."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from inferd.cli.experiment import command

PAGE = Path(__file__).parents[3] / "docs" / "experiments" / "simulate.md"


def test_the_commands_of_the_page_run_on_its_definition(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = dict(re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    Path("ranker.toml").write_text(blocks["toml"])
    shown = [line for line in blocks["text"].splitlines() if line.startswith("    ")]
    for line in blocks["bash"].splitlines():
        done = CliRunner().invoke(command, shlex.split(line)[2:], catch_exceptions=False)
        assert done.exit_code == 0
        if "--json" not in line:
            assert [each.partition(":")[0] for each in shown] == [
                each.partition(":")[0] for each in done.stdout.splitlines() if each.startswith("    ")
            ]
