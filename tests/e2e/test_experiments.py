"""Experiments of a real server, asked by the command."""

import json

import pytest
from serve_support import Process

from ranker_support import lay_ranker


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    lay_ranker(folder)
    arguments = ("models", "--version-policy", "all", "--experiments", "experiments", "--grpc-port", "0")
    with Process(folder, "serve", *arguments) as process:
        yield process.wait_ready()


def test_the_command_prints_the_report_of_a_running_server(server, tmp_path):
    for number in range(40):
        prediction = server.predict([[number]], X_User=f"user-{number}")[1]["inferd-prediction-id"]
        outcome = {"prediction_id": prediction, "metric": "click", "value": number % 3}
        server.ask("POST", "/feedback", json.dumps(outcome), {"Content-Type": "application/json"})
    page = tmp_path / "report.html"
    code, out, err = server.command("experiment", "report", "--experiment", "ranker-2", "--html", str(page))
    assert (code, err) == (0, f"wrote {page}\n")
    assert out.startswith("ranker-2: 40 units")
    assert "click (mean), candidate against control" in out
    assert "of every prediction, without feedback" in out
    assert "Experiment ranker-2" in page.read_text()
    _, plain, _ = server.command("experiment", "report", "--experiment", "ranker-2", "--json")
    assert json.loads(plain) == server.json("/admin/experiments/ranker-2/report")


def test_an_experiment_that_the_server_does_not_know_is_told(server):
    code, out, err = server.command("experiment", "report", "--experiment", "nobody")
    assert (code, out) == (2, "")
    assert "no experiment 'nobody'; there are: ranker-2" in err


@pytest.mark.parametrize(
    "arguments", [(), ("log.csv",), ("--definition", "a.toml"), ("log.csv", "--definition", "a", "--experiment", "b")]
)
def test_a_report_is_of_logs_or_of_a_server(server, arguments):
    code, _, err = server.command("experiment", "report", *arguments)
    assert code == 2
    assert "give either LOG.csv with --definition, or --experiment" in err
