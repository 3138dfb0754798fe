"""The store, over a real SQLite file and a real PostgreSQL server."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect, text

from inferd.core.difference import Agreement, Difference
from inferd.core.errors import ConfigError, StoreUnavailable
from inferd.experiments import migrations
from inferd.experiments.definition import Guardrail, Shadow
from inferd.experiments.events import Feedback, ShadowOutcome, UnstorableEvents
from inferd.experiments.report import report
from inferd.experiments.store import Store
from inferd.experiments.summary import summarise
from inferd.experiments.tables import METADATA


@pytest.fixture
def store(url):
    store = Store.open(url)
    yield store
    store.close()


def test_a_units_first_exposure_decides_its_variant(store, exposure):
    store.add_events([exposure(0, "control"), exposure(1, "candidate"), exposure(1, "candidate")])
    feedback = Feedback("m", 1.0, 5, "k", experiment="e", unit="u")
    assert store.add_feedback([feedback, feedback], window_s=60, now_ms=1000) == ["stored", "duplicate"]
    store.add_events([])


def test_a_fallback_is_no_exposure_of_its_unit(store, exposure):
    store.add_events([exposure(0, outcome="fallback")])
    feedback = Feedback("m", 1.0, 5, "k", experiment="e", unit="u")
    assert store.add_feedback([feedback], window_s=60, now_ms=1000) == ["unknown"]


def test_the_revisions_make_the_tables_that_the_code_reads(store, url, exposure):
    made = inspect(store._engine)
    for table in METADATA.tables.values():
        columns = {column["name"]: column["nullable"] for column in made.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        assert {index["name"] for index in made.get_indexes(table.name)} == {index.name for index in table.indexes}
    Store.open(url).close()


def test_two_servers_write_to_one_database(store, url, exposure):
    other = Store.open(url)
    batches = [[exposure(10 * i + n, unit=f"u-{n}") for n in range(10)] for i in range(20)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: (store, other)[i % 2].add_events(batches[i]), range(20)))
    told = [Feedback("m", 1.0, 5, f"k-{n}", experiment="e", unit=f"u-{n}") for n in range(10)]
    assert set(other.add_feedback(told, window_s=60, now_ms=1000)) == {"stored"}
    assert set(store.add_feedback(told, window_s=60, now_ms=1000)) == {"duplicate"}
    other.close()


def test_the_order_of_a_batch_is_kept_in_its_results(store, exposure):
    store.add_events([exposure(0, unit="late"), exposure(10_000, unit="now")])
    told = [Feedback("m", 1.0, 5, f"k-{unit}", experiment="e", unit=unit) for unit in ("now", "nobody", "late", "now")]
    told.append(Feedback("m", 1.0, 5, "k-p", prediction_id="p-10000"))
    assert store.add_feedback(told, window_s=5, now_ms=11_000) == [
        *("stored", "unknown", "expired", "duplicate", "stored")
    ]
    assert store.add_feedback([], window_s=5, now_ms=0) == []


def test_nothing_is_stored_while_an_exposure_may_be_on_its_way(store, exposure):
    store.add_events([exposure()])
    known, waiting = (Feedback("m", 1.0, 5, f"k-{unit}", experiment="e", unit=unit) for unit in ("u", "w"))
    with pytest.raises(StoreUnavailable, match="may still wait"):
        store.add_feedback([known, waiting], window_s=60, now_ms=1000, complete=False)
    assert store.add_feedback([known], window_s=60, now_ms=1000, complete=False) == ["stored"]


def test_the_parts_of_a_ratio_are_told_apart_and_added_up(store, exposure, define):
    experiment = define(add='[[metric]]\nname = "rate"\nkind = "ratio"\ncolumn = "clicks"\ndenominator = "views"\n')
    seen = [replace(exposure(number, unit=f"u-{number}"), experiment=experiment.id) for number in range(3)]
    store.add_events(seen)
    told = [("u-0", "clicks", 2.0), ("u-0", "clicks", 1.0), ("u-0", "views", 10.0), ("u-1", "views", 4.0)]
    rows = [
        Feedback(metric, value, 5, f"k-{number}", experiment=experiment.id, unit=unit)
        for number, (unit, metric, value) in enumerate([*told, ("u-2", "views", 5.0), ("u-2", "clicks", 0.0)])
    ]
    store.add_feedback(rows, window_s=60, now_ms=1000)
    control = summarise(experiment, store.columns(experiment)).moments["rate"][0]
    assert (control.count, *map(float, control.sums)) == (2, 3, 15, 0)


def test_what_each_prediction_came_to_is_read_without_feedback(store, exposure, define):
    experiment = define()
    seen = [
        exposure(0, unit="u-0"),
        exposure(1, unit="u-0", outcome="unavailable"),
        exposure(2, "candidate", unit="u-1", outcome="internal"),
        exposure(3, "candidate", unit="u-1", outcome="fallback"),
        exposure(4, "candidate", unit="u-2"),
    ]
    said = [{"label": "cat"}, {}, {}, {"label": "never"}, {"score": 2.5}]
    store.add_events([replace(each, experiment=experiment.id, **more) for each, more in zip(seen, said, strict=True)])
    summary = summarise(experiment, store.columns(experiment))
    assert summary.counts == (1, 2)
    sums = {name: [tuple(map(float, arm.sums[:2])) for arm in arms] for name, arms in summary.moments.items()}
    assert sums["error"] == [(1, 2), (1, 2)]
    assert sums["rejected"] == [(1, 2), (0, 2)]
    assert sums["latency_us"] == [(10, 1), (10, 1)]
    assert [list(arm.label) for arm in summary.answers] == [["cat"], [None]]
    assert summary.answers[1].score.tolist() == [2.5]


def test_data_of_an_older_release_stay_through_an_update(url, exposure, define):
    store = Store.open(url)
    store.add_events([replace(exposure(), experiment="ranker-2")])
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with store._engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
    store.close()
    store = Store.open(url)
    assert summarise(define(), store.columns(define())).counts == (1, 0)
    store.close()


OPEN = """
import sys
from inferd.experiments.report import report
from inferd.experiments.store import Store
print("ready", flush=True)
sys.stdin.readline()
Store.open(sys.argv[1]).close()
"""


def test_servers_that_start_at_once_share_one_fresh_database(url):
    command = [sys.executable, "-W", "error", "-c", OPEN, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    servers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    assert {server.stdout.readline() for server in servers} == {"ready\n"}
    for server in servers:
        server.stdin.write("go\n")
        server.stdin.flush()
    for server in servers:
        assert server.communicate(timeout=60)[1] == ""
        assert server.returncode == 0


def test_a_database_of_a_newer_release_is_refused(store, url):
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="of a newer inferd; update this one"):
        Store.open(url)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("nonsense", "no database URL"),
        ("postgresql://u:word@host:port/db", "no database URL"),
        ("nothing://x", "cannot be nothing://x/"),
        ("postgresql+asyncpg://x/db", r"cannot be postgresql\+asyncpg://x/db"),
        ("mysql:///db", "cannot be mysql:///db"),
        ("sqlite://", "cannot be sqlite:///"),
        ("sqlite:////no/such/folder/e.db", "cannot be opened: unable to open"),
        ("postgresql://127.0.0.1:1/db?nonsense=1", "cannot be opened: invalid"),
    ],
)
def test_a_store_that_cannot_be_opened_is_told(wrong, reason):
    with pytest.raises(ConfigError, match=reason):
        Store.open(wrong)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "postgresql+asyncpg"])
@pytest.mark.parametrize("password", ["hush", "hu@sh", "hu@sh/hush@hush", "hu:sh", "hu/sh?sh", "hu%40sh"])
@pytest.mark.parametrize(
    "place", ["{scheme}://me:{password}@127.0.0.1:1/db", "{scheme}://127.0.0.1:1/db?password={password}"]
)
def test_no_error_tells_a_part_of_the_password(scheme, password, place):
    with pytest.raises(ConfigError) as caught:
        Store.open(place.format(scheme=scheme, password=password))
    assert "hu" not in caught.value.message
    assert "sh" not in caught.value.message


def test_a_store_that_goes_away_says_when_to_come_back(postgresql, store, url, exposure, define):
    if url.startswith("sqlite"):
        other = sqlite3.connect(url.removeprefix("sqlite:///"))
        other.execute("DROP TABLE predictions")
        other.execute("DROP TABLE exposed_units")
        other.close()
    else:
        name = url.partition("?")[0].rpartition("/")[2]
        postgresql.psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false;")
        postgresql.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}';")
    feedback = Feedback("m", 1.0, 5, "k", experiment="e", unit="u")
    for use in (
        lambda: store.add_events([exposure()]),
        lambda: store.add_feedback([feedback], window_s=60, now_ms=1000),
        lambda: store.columns(define()),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            use()
        assert caught.value.details["retry_after_s"] > 0


def outcome(number, outcome="ok", variant="candidate", **values):
    return ShadowOutcome(f"p-{number}", "ranker-2", variant, 1000 + number, outcome, **values)


SAME = Difference("", 0.0, Agreement(2, 2), Agreement(1, 2))
OTHER = Difference("output 'y' differs", float("inf"), Agreement(0, 1), Agreement())


def test_what_came_of_shadows_is_read_by_variant(store, define):
    answered = [
        outcome(0, difference=SAME, control_us=10, variant_us=20),
        outcome(1, difference=OTHER, control_us=None, variant_us=20, details='{"reason": "other"}', keep=1),
        outcome(1, variant="third", difference=replace(SAME, largest=None)),
    ]
    lost = [outcome(2, "internal"), outcome(3, "shed", requests=7), outcome(4, "shed", requests=2)]
    store.add_events([*answered, *lost])
    store.add_events(answered)
    found = store.shadows(define())
    assert found.keys() == {"candidate", "third"}
    record = found["candidate"]
    assert record.outcomes == {"ok": 2, "internal": 1, "shed": 9}
    assert (record.equal, record.labels, record.top_k) == (1, Agreement(2, 3), Agreement(1, 2))
    assert sorted(record.largest) == [0, float("inf")]
    assert (record.control_us.tolist(), record.variant_us.tolist()) == ([10], [20])
    assert record.kept == [{"prediction_id": "p-1", "at_ms": 1001, "reason": "other"}]
    assert found["third"].largest.size == 0
    assert store.shadows(define(), since_ms=1004)["candidate"].outcomes == {"shed": 2}
    assert store.shadows(define('id = "ranker-2"', 'id = "another"')) == {}


def test_only_so_many_disagreements_of_a_variant_are_kept_whoever_stores_them(store, url, define):
    other = Store.open(url)
    for number in range(6):
        batch = [
            outcome(10 * number + n, variant=variant, difference=OTHER, details=f'{{"n": {n}}}', keep=4)
            for n, variant in enumerate(["candidate", "third"])
        ]
        (store, other)[number % 2].add_events(batch)
    found = store.shadows(define())
    assert [each["prediction_id"] for each in found["candidate"].kept] == ["p-0", "p-10", "p-20", "p-30"]
    assert len(found["third"].kept) == 4
    other.close()


@pytest.mark.parametrize(
    "poison",
    [
        {"at_ms": 2**70},
        {"variant": "half of a character \ud800"},
    ],
)
def test_what_a_database_will_never_take_is_told_from_a_database_that_is_gone(store, exposure, define, poison):
    with pytest.raises(UnstorableEvents):
        store.add_events([exposure(), replace(exposure(1), **poison)])
    assert store.columns(replace(define(), id="e")).unit_count == 0, "none of the batch is kept"


def test_whether_a_prediction_disagrees_with_control_is_known_of_its_unit(store, exposure, define):
    experiment = replace(define(), shadow=Shadow(), guardrails=(Guardrail("disagreement", limit=0.5),))
    seen = [exposure(0, unit="u-0")] + [exposure(number, "candidate", unit=f"u-{number}") for number in (1, 2, 3)]
    store.add_events([replace(each, experiment=experiment.id) for each in seen])
    store.add_events([outcome(1, difference=SAME), outcome(2, difference=OTHER), outcome(3, "internal")])
    summary = summarise(experiment, store.columns(experiment))
    control, candidate = summary.moments["disagreement"]
    assert control.count == 0
    assert tuple(map(float, candidate.sums[:2])) == (1, 2)
    found = report(experiment, summary)
    assert found.guardrails[0].observed == 0.5
    assert "disagreement" not in {each.metric for each in found.automatic}, "control has none to compare with"
    later = store.columns(experiment, since_ms=1002)
    assert int(np.nansum(later.named("disagreement"))) == 1
