"""MLflow's own client, unmodified and in a process of its own, against a real server; and MLflow's folders, served."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from serve_support import Process, free_port

import mlflow_builders as builders

CLIENT = """
import sys
import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

flowers, shop = (ScoringServerClient("127.0.0.1", port) for port in sys.argv[1:])

flowers.wait_server_ready()
assert flowers.get_version().startswith("3.")
columns = ["petal width (cm)", "petal length (cm)", "sepal width (cm)", "sepal length (cm)"]
frame = pd.DataFrame([[0.2, 1.4, 3.5, 5.1], [2.3, 5.2, 3.0, 6.7]], columns=columns)
assert flowers.invoke(frame).get_predictions("ndarray").tolist() == [0, 2]
assert flowers.invoke(frame[columns[::-1]].to_numpy()).get_predictions()[0].tolist() == [0, 2]
for wrong, word in ((frame.drop(columns=columns[:1]), "missing"), (frame.assign(colour="blue"), "colour")):
    try:
        flowers.invoke(wrong)
    except Exception as error:
        assert "error code 400" in str(error) and word in str(error) and "INVALID_PARAMETER_VALUE" in str(error), error
    else:
        raise AssertionError(word)

shop.ping()
goods = pd.DataFrame({"price": [1.5, 2.5], "count": [2, 4], "name": ["tea", "kaffee"]})
assert shop.invoke(goods).get_predictions()["total"].tolist() == [6.0, 20.0]
answer = shop.invoke(goods, params={"factor": 10.0}).get_predictions()
assert answer.to_dict("list") == {"total": [30.0, 100.0], "name": ["TEA", "KAFFEE"]}
"""


@pytest.fixture
def folders(tmp_path, build):
    """One of MLflow's as it is, and one as a version."""
    versions = tmp_path / "shop"
    versions.mkdir()
    (versions / "4").symlink_to(build(builders.mlflow_function).artefact)
    return build(builders.mlflow_columns).artefact, versions


def test_the_client_scores_what_mlflow_saved(tmp_path, folders):
    ports = [free_port() for _ in folders]
    servers = [
        Process(tmp_path, "serve", path, "--door", f"mlflow={port}") for path, port in zip(folders, ports, strict=True)
    ]
    try:
        for each in servers:
            each.__enter__().wait_ready()
        script = tmp_path / "client.py"
        script.write_text(CLIENT)
        command = [sys.executable, str(script), *map(str, ports)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        status, body = servers[1].ask("GET", "/model/info")[::2]
        info = json.loads(body)
        assert (status, info["version"], info["runtime"]) == (200, 4, "mlflow")
    finally:
        for each in servers:
            each.__exit__()


def test_nothing_is_sent_to_mlflows_authors(tmp_path, build):
    """The switch is off before MLflow is imported, and stays as it is where somebody set it."""
    artefact = build(builders.mlflow_columns).artefact
    code = (
        "import pathlib, threading\n"
        "from inferd.core.config import ModelConfig\n"
        "from inferd.runtimes.mlflow import RUNTIME\n"
        f"RUNTIME.load(ModelConfig('m'), pathlib.Path({str(artefact)!r}), 'cpu')\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
        "assert [each.name for each in threading.enumerate()] == ['MainThread'], threading.enumerate()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(Path(tmp_path).iterdir()) == [], "and nothing is written"
