"""From an exposure to its outcome to the report, over a real database."""

import json
import sqlite3

import pytest

from inferd.experiments.events import hash_unit
from inferd.testing import Client
from ranker_support import MODEL

EXPERIMENT = """\
id = "ranker-2"
model = "ranker"
unit = "header:X-User"

[[variant]]
name = "control"
target = "ranker@1"

[[variant]]
name = "candidate"
target = "ranker@2"

[[metric]]
name = "click"
kind = "mean"

[[metric]]
name = "error"
kind = "proportion"
goal = "decrease"
"""
JSON = {"content-type": "application/json"}


@pytest.fixture
def folder(tmp_path):
    for version in (1, 2):
        (tmp_path / "ranker" / str(version)).mkdir(parents=True)
        (tmp_path / "ranker" / str(version) / "model.py").write_text(MODEL.replace("VERSION", str(version)))
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "ranker.toml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture
def client(folder):
    with Client(folder / "ranker", version_policy="all", experiments=str(folder / "experiments")) as client:
        yield client


def ask(client, user):
    return client.post("/predict", b'{"instances": [[0]]}', {**JSON, "X-User": user})


def tell(client, body, status=200):
    reply = client.post("/feedback", json.dumps(body).encode(), JSON)
    assert reply.status == status, reply.body
    return reply.json


def test_from_request_to_report(client):
    for number in range(60):
        reply = ask(client, f"user-{number}")
        version = reply.json["predictions"][0]
        tell(client, {"prediction_id": reply.headers["inferd-prediction-id"], "metric": "click", "value": version})
    found = client.get("/admin/experiments/ranker-2/report").json
    assert found["units"] == 60
    click = next(each for each in found["comparisons"] if each["metric"] == "click")
    assert click["estimate"]["control"] == 1
    assert click["estimate"]["treated"] == 2
    page = client.get("/admin/experiments/ranker-2/report", {"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert b"ranker-2" in page.body


def test_feedback_is_stored_once_and_may_come_at_once(client):
    prediction = ask(client, "a").headers["inferd-prediction-id"]
    outcome = {"prediction_id": prediction, "metric": "click", "value": 1}
    assert tell(client, outcome)["stored"] == 1
    assert tell(client, outcome)["duplicate"] == 1
    by_unit = {"experiment": "ranker-2", "unit": "a", "metric": "click", "value": 2, "key": "k"}
    assert tell(client, [by_unit, by_unit])["results"] == ["stored", "duplicate"]


def test_feedback_about_nothing_is_404_and_in_a_batch_is_told_apart(client):
    unknown = {"prediction_id": "0" * 36, "metric": "click", "value": 1}
    tell(client, unknown, 404)
    tell(client, {"experiment": "nobody", "unit": "a", "metric": "click", "value": 1}, 404)
    known = {"prediction_id": ask(client, "a").headers["inferd-prediction-id"], "metric": "click", "value": 1}
    assert tell(client, [known, unknown])["results"] == ["stored", "unknown"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"metric": "click", "value": 1},
        {"prediction_id": "p", "metric": "click"},
        {"prediction_id": "p", "metric": "click", "value": "many"},
        {"prediction_id": "p", "metric": "", "value": 1},
        {"prediction_id": "p", "metric": "click", "value": 1, "extra": 1},
        {"prediction_id": "p", "experiment": "e", "unit": "u", "metric": "click", "value": 1},
        [{"prediction_id": "p", "metric": "click", "value": 1}] * 1001,
        "text",
    ],
)
def test_feedback_that_makes_no_sense_is_refused(client, body):
    reply = client.post("/feedback", json.dumps(body).encode(), JSON)
    assert reply.status == (200 if body == [] else 422)


ONE = b'{"prediction_id": "p", "metric": "click", "value": 1}'


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (ONE.replace(b"1", b'"many"'), 422, "value: Input should be a valid number"),
        (ONE.replace(b"1", b"1e61"), 422, "value: is too far from 1"),
        (ONE.replace(b"1", b"-1e-300"), 422, "value: is too far from 1"),
        (ONE.replace(b"1", b"1e400"), 422, "value: Input should be a valid number"),
        (ONE.replace(b"1", b"1" + b"0" * 400), 422, "value: Input should be a valid number"),
        (ONE.replace(b"1", b"1" + b"0" * 5000), 400, "an integer of more than 4300 digits"),
        (ONE.replace(b"1", b"NaN"), 400, "the body holds NaN"),
        (ONE.replace(b'"p"', rb'"\u0000"'), 422, "prediction_id: String should match"),
        (ONE.replace(b"click", rb"cl\u0000ck"), 422, "metric: String should match"),
        (ONE.replace(b"click", rb"cl\ud800ck"), 400, "surrogate"),
        (ONE.replace(b"click", b"cl\xffck"), 400, "not UTF-8"),
        (ONE[:-1], 400, "the body is not JSON"),
        (ONE.replace(b'"value"', b'"valu"'), 422, "value: Field required"),
        (b"[" + ONE + b"," + ONE.replace(b"1", b"[]") + b"]", 422, "[1].value: Input should be a valid number"),
        (b"[1]", 422, "[0]: Input should be a valid dictionary"),
        (ONE.replace(b'"prediction_id": "p", ', b""), 422, "name either the prediction_id, or the experiment"),
        (b'{"experiment": "e\\u0000", "unit": "u", "metric": "m", "value": 1}', 422, "experiment: String should match"),
    ],
)
def test_broken_feedback_is_refused_with_its_place(client, body, status, detail):
    reply = client.post("/feedback", body, JSON)
    assert reply.status == status
    assert detail in reply.json["detail"]
    assert client.post("/feedback", ONE, {"content-type": "text/plain"}).status == 415


def test_a_unit_may_hold_any_character(client):
    unit = {"experiment": "ranker-2", "unit": "a\0b", "metric": "click", "value": 1}
    tell(client, unit, 404)


@pytest.mark.parametrize("values", [(1e60, -1e60), (1e-60, 0), (7, 7), (-3, 2.5), (0, 1e60)])
@pytest.mark.parametrize("kind", ["mean", "proportion", "ratio", "quantile"])
def test_no_value_breaks_the_report(folder, values, kind):
    changed = f'kind = "{kind}"' + ('\ndenominator = "views"' if kind == "ratio" else "")
    path = folder / "experiments" / "ranker.toml"
    path.write_text(EXPERIMENT.replace('kind = "mean"', changed))
    with Client(folder / "ranker", version_policy="all", experiments=str(folder / "experiments")) as client:
        for number in range(240):
            ask(client, f"user-{number}")
        names = {"experiment": "ranker-2"}
        for metric, given in (("click", values), ("views", values[::-1])):
            tell(
                client,
                [{**names, "unit": f"user-{n}", "metric": metric, "value": given[n % 2]} for n in range(240)],
            )
        for accept in ("application/json", "text/html"):
            assert client.get("/admin/experiments/ranker-2/report", {"accept": accept}).status == 200


def test_an_unknown_experiment_in_a_batch_refuses_only_its_own_outcome(client):
    known = {"prediction_id": ask(client, "a").headers["inferd-prediction-id"], "metric": "click", "value": 1}
    unknown = {"experiment": "nobody", "unit": "a", "metric": "click", "value": 1}
    assert tell(client, [unknown, known])["results"] == ["unknown", "stored"]


def test_feedback_on_an_exposure_that_could_not_be_stored_yet_is_asked_for_again(client, folder):
    database = sqlite3.connect(folder / "experiments" / "experiments.db")
    database.execute("CREATE TRIGGER full BEFORE INSERT ON predictions BEGIN SELECT RAISE(ABORT, 'full'); END")
    outcome = {"prediction_id": ask(client, "a").headers["inferd-prediction-id"], "metric": "click", "value": 1}
    reply = client.post("/feedback", json.dumps([outcome]).encode(), JSON)
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert reply.json["title"] == "Store unavailable"
    assert b"inferd_exposures_pending{} 1" in client.get("/metrics").body
    database.execute("DROP TRIGGER full")
    database.close()
    assert tell(client, [outcome])["results"] == ["stored"]
    assert b"inferd_exposures_pending{} 0" in client.get("/metrics").body


def test_a_dead_database_is_503_for_all_but_predictions(folder, postgresql):
    postgresql.psql("CREATE DATABASE dead;")
    options = {"experiments": str(folder / "experiments"), "experiment_store": postgresql.get_uri(database="dead")}
    with Client(folder / "ranker", version_policy="all", **options) as client:
        prediction = ask(client, "a").headers["inferd-prediction-id"]
        tell(client, {"prediction_id": prediction, "metric": "click", "value": 1})
        postgresql.psql("ALTER DATABASE dead ALLOW_CONNECTIONS false;")
        postgresql.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'dead';")
        assert ask(client, "a").status == 200
        outcome = json.dumps({"prediction_id": prediction, "metric": "again", "value": 1}).encode()
        for reply in (
            client.post("/feedback", outcome, JSON),
            client.get("/admin/experiments/ranker-2/report"),
            client.get("/admin/experiments/ranker-2/report", {"accept": "text/html"}),
        ):
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        postgresql.psql("ALTER DATABASE dead ALLOW_CONNECTIONS true;")
        assert tell(client, json.loads(outcome))["stored"] == 1
        assert client.get("/admin/experiments/ranker-2/report").status == 200


def test_late_feedback_is_410(folder):
    with Client(
        folder / "ranker", version_policy="all", experiments=str(folder / "experiments"), feedback_window_h=0.001
    ) as client:
        prediction = ask(client, "a").headers["inferd-prediction-id"]
        tell(client, {"prediction_id": prediction, "metric": "click", "value": 1})
        database = sqlite3.connect(folder / "experiments" / "experiments.db")
        database.execute("UPDATE predictions SET at_ms = at_ms - 10000")
        database.commit()
        database.close()
        tell(client, {"prediction_id": prediction, "metric": "other", "value": 1}, 410)


def test_units_are_never_stored_as_they_are(client, folder):
    tell(
        client, {"prediction_id": ask(client, "secret-user").headers["inferd-prediction-id"], "metric": "m", "value": 1}
    )
    database = sqlite3.connect(folder / "experiments" / "experiments.db")
    dump = "".join(database.iterdump())
    database.close()
    assert "secret-user" not in dump
    assert hash_unit("ranker-2", "secret-user") in dump


def test_experiments_are_listed_stopped_and_started_by_the_control_routes(client):
    assert client.get("/admin/experiments").json["experiments"][0]["state"] == "running"
    ask(client, "a")
    described = client.get("/admin/experiments/ranker-2").json
    assert sum(each["requests"] for each in described["variants"]) == 1
    assert client.post("/admin/experiments/ranker-2/stop", b"", JSON).json["state"] == "stopped"
    assert "inferd-variant" not in ask(client, "a").headers
    assert client.post("/admin/experiments/ranker-2/start", b"", JSON).json["state"] == "running"
    assert client.get("/admin/experiments/nobody").status == 404
