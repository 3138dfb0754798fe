import threading
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from inferd.core.lifecycle import VersionState
from inferd.telemetry.metrics import BUCKETS_S, Metrics
from inferd.testing import Client

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass
class State:
    model: str = "iris"
    version: int = 1
    state: VersionState = VersionState.READY
    queue_rows: int = 5
    inflight: int = 2
    load_s: float = 0.25


def used() -> Metrics:
    """Metrics in which every family has a sample."""
    metrics = Metrics(lambda: [State()])
    version = metrics.version("iris", 1)
    version.observe_request("native", "ok", 1_000_000, 60_000, 20_000, 8_000)
    version.observe_batch("full", 3, 6, 400_000, padded_rows=2)
    version.count_rejected("queue_full")
    version.count_expired("queue")
    version.count_cancelled("running")
    return metrics


def samples(metrics: Metrics, accept: str = "") -> dict[str, float]:
    metrics.settle()
    return scrape(metrics, accept)


def scrape(metrics: Metrics, accept: str = "") -> dict[str, float]:
    content_type, body = metrics.render(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[f"{name}{sorted(({'model': 'iris', 'version': '1'} | labels).items())}"]


def test_both_formats_are_read_by_the_official_parsers_and_say_the_same():
    metrics = used()
    text, openmetrics = samples(metrics), samples(metrics, OPENMETRICS)
    ours = [key for key in text if key.startswith("inferd_")]
    assert len(ours) > 100
    assert {key: text[key] for key in ours} == {key: openmetrics[key] for key in ours}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=cat", "text/plain; version=0.0.4"),
    ],
)
def test_the_accept_header_chooses_the_format(accept, expected):
    assert used().render(accept)[0].startswith(expected)


def test_a_request_is_counted_by_outcome_and_in_its_histograms():
    metrics = used()
    assert value(metrics, "inferd_requests_total", protocol="native", outcome="ok") == 1
    assert value(metrics, "inferd_request_seconds_bucket", le="0.0005") == 0
    assert value(metrics, "inferd_request_seconds_bucket", le="0.001") == 1
    assert value(metrics, "inferd_request_seconds_bucket", le="+Inf") == 1
    assert value(metrics, "inferd_request_seconds_sum") == pytest.approx(0.001)
    assert value(metrics, "inferd_queue_seconds_sum") == pytest.approx(60e-6)
    assert value(metrics, "inferd_batch_wait_seconds_sum") == pytest.approx(20e-6)
    assert value(metrics, "inferd_encode_seconds_sum") == pytest.approx(8e-6)


def test_a_batch_counts_its_compute_time_once_for_each_request():
    metrics = used()
    assert value(metrics, "inferd_compute_seconds_count") == 3
    assert value(metrics, "inferd_compute_seconds_sum") == pytest.approx(3 * 400e-6)
    assert value(metrics, "inferd_batch_dispatch_total", reason="full") == 1
    assert value(metrics, "inferd_batch_rows_sum") == 6
    assert value(metrics, "inferd_batch_rows_bucket", le="4.0") == 0
    assert value(metrics, "inferd_padding_ratio") == 0.25


def test_what_a_request_never_reached_is_left_out():
    metrics = Metrics(list)
    metrics.version("iris", 1).observe_request("native", "invalid_argument", 1000, 0, -5, 0)
    names = {key.split("[")[0] for key in samples(metrics)}
    assert "inferd_request_seconds_count" in names
    assert not names & {"inferd_queue_seconds_count", "inferd_batch_wait_seconds_count", "inferd_encode_seconds_count"}


def test_a_time_above_the_last_bound_is_counted_only_as_unbounded():
    metrics = Metrics(list, buckets_s=(0.1, 1.0))
    metrics.version("iris", 1).observe_request("native", "ok", 2_000_000_000, -1, -1, -1)
    assert value(metrics, "inferd_request_seconds_bucket", le="1.0") == 0
    assert value(metrics, "inferd_request_seconds_bucket", le="+Inf") == 1


def test_the_default_buckets_reach_from_50_microseconds_to_a_minute():
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (50e-6, 60.0)
    assert list(BUCKETS_S) == sorted(set(BUCKETS_S))


def test_a_version_without_a_request_has_state_but_no_counts():
    metrics = Metrics(lambda: [State()])
    metrics.version("iris", 1)
    ours = {key.split("[")[0] for key in samples(metrics) if key.startswith("inferd_")}
    assert ours == {
        "inferd_build_info",
        "inferd_queue_depth",
        "inferd_inflight",
        "inferd_model_state",
        "inferd_model_load_seconds",
    }


def test_counts_survive_a_reload_and_end_with_forget():
    metrics = used()
    metrics.version("iris", 1).observe_request("native", "ok", 1000, 1, 1, 1)
    assert value(metrics, "inferd_requests_total", protocol="native", outcome="ok") == 2
    metrics.forget("iris", 1)
    assert not [key for key in samples(metrics) if key.startswith("inferd_requests_total")]


def test_a_request_that_reached_no_model_has_no_model_name():
    metrics = Metrics(list)
    metrics.count_unrouted("native", "not_found")
    assert value(metrics, "inferd_requests_total", model="", version="", protocol="native", outcome="not_found") == 1


def test_state_and_depth_are_asked_at_the_scrape():
    state = State()
    metrics = Metrics(lambda: [state])
    assert value(metrics, "inferd_model_state", state="READY") == 1
    assert value(metrics, "inferd_queue_depth") == 5
    state.state, state.queue_rows = VersionState.DRAINING, 0
    assert value(metrics, "inferd_model_state", state="DRAINING") == 1
    assert value(metrics, "inferd_queue_depth") == 0


def test_scrapes_on_another_thread_never_see_a_count_go_down():
    metrics = Metrics(list)
    version = metrics.version("iris", 1)
    version.observe_request("native", "ok", 1000, 1, 1, 1)
    seen: list[dict[str, float]] = []
    scraper = threading.Thread(target=lambda: seen.extend(scrape(metrics) for _ in range(10)))
    scraper.start()
    while scraper.is_alive():
        version.observe_request("native", "ok", 1000, 1, 1, 1)
        version.observe_batch("idle", 1, 1, 1000)
        metrics.settle()
    for before, after in pairwise(seen):
        assert all(after[key] >= count for key, count in before.items() if key.startswith("inferd_"))


def test_every_exposed_metric_is_documented_and_nothing_else_is(tmp_path):
    page = Path(__file__).parents[3] / "docs" / "metrics.md"
    documented = {line.split("`")[1].split("{")[0] for line in page.read_text().splitlines() if line.startswith("| `")}
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.py").write_text("def predict(x: float) -> float:\n    return x\n")
    with Client(tmp_path, experiments=str(tmp_path)) as client:
        page_of_all = used().render()[1] + client.get("/metrics").body
    exposed = {line.split()[2] for line in page_of_all.decode().splitlines() if line.startswith("# TYPE")}
    assert documented == exposed
