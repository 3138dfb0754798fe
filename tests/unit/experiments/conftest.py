from pathlib import Path

import pytest

from inferd.experiments.definition_toml import read_experiment

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
min_effect = 0.05
"""


@pytest.fixture
def write(tmp_path):
    """Write the example's definition, changed by replacing one text and adding another; give its path."""

    def write(old: str = "", new: str = "", add: str = "") -> Path:
        assert old in TOML
        path = tmp_path / "experiment.toml"
        path.write_text((TOML.replace(old, new, 1) if old else TOML) + add)
        return path

    return write


@pytest.fixture
def define(write):
    """The experiment that ``write`` would write."""
    return lambda *args, **options: read_experiment(write(*args, **options))
