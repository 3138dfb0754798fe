"""What is counted about requests, batches and models, and its exposition as Prometheus text or OpenMetrics.

Hot: ``VersionMetrics`` is called once per answered request and once per batch. A request's times are only kept
(0.3 µs) and sorted into the histograms with numpy, hundreds at a time (0.4 µs each); prometheus_client's children take
0.5 to 1 µs for each of the five things recorded. The library chooses a scrape's format and knows the process's figures.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Protocol

import numpy as np

from inferd import __version__
from inferd.core.lifecycle import VersionState
from inferd.telemetry.exposition import Page, bounds, labels

BUCKETS_S = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds of the time histograms: 50 µs to 60 s."""
BUCKETS_ROWS = tuple(2**power for power in range(13))
"""Upper bounds of the batch-size histogram: 1 to 4096 rows."""
MAX_BATCH_SIZES = 1024
"""How many different batch sizes have times of their own; a model without batching may see any number of them."""
SETTLE_AT = 512
"""How many requests' times are kept before they are sorted into the histograms."""


class ServableState(Protocol):
    """What a scrape asks of each version the server knows, loaded or not."""

    @property
    def model(self) -> str: ...  # noqa: D102 - said by the class
    @property
    def version(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> VersionState: ...  # noqa: D102
    @property
    def queue_rows(self) -> int: ...  # noqa: D102
    @property
    def inflight(self) -> int: ...  # noqa: D102
    @property
    def load_s(self) -> float: ...  # noqa: D102


class VersionMetrics:
    """The counts of one version. Every method is called on the loop's thread; a scrape only copies.

    A histogram is one list: a count per bucket, the count above the last bound, then the sum of what was observed.
    Times are nanoseconds; zero or less means the request never got that far and is left out. ``batch_times`` holds the
    count and the compute time of the batches of each size; ``last_batch_s`` is on the monotonic clock, 0 for none.
    """

    __slots__ = (
        "batch_rows",
        "batch_times",
        "batch_wait",
        "bounds_ns",
        "cached",
        "cancelled",
        "compute",
        "dispatched",
        "encode",
        "expired",
        "failed_ns",
        "labels",
        "last_batch_s",
        "outcomes",
        "padded_rows",
        "pending",
        "queue",
        "rejected",
        "request",
        "rows",
    )

    def __init__(self, model: str, version: int, buckets_s: Sequence[float] = BUCKETS_S) -> None:
        self.labels = labels(model=model, version=version)
        self.bounds_ns = tuple(round(bound * 1e9) for bound in buckets_s)
        self.pending: list[tuple[int, int, int, int]] = []
        self.request, self.queue, self.batch_wait, self.compute, self.encode = (
            [0] * (len(buckets_s) + 2) for _ in range(5)
        )
        self.batch_rows = [0] * (len(BUCKETS_ROWS) + 2)
        self.batch_times: dict[int, list[int]] = {}
        self.last_batch_s = 0.0
        self.failed_ns = 0
        self.rows = 0
        self.padded_rows = 0
        self.outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.dispatched: defaultdict[str, int] = defaultdict(int)
        self.rejected: defaultdict[str, int] = defaultdict(int)
        self.cached: defaultdict[str, int] = defaultdict(int)
        self.expired: defaultdict[str, int] = defaultdict(int)
        self.cancelled: defaultdict[str, int] = defaultdict(int)

    def observe_batch(self, reason: str, requests: int, rows: int, compute_ns: int, padded_rows: int = 0) -> None:
        """Count one executed batch of ``rows`` callers' rows (``padded_rows`` were added to them).

        ``reason`` tells why it was dispatched. Its compute time counts once for each of its ``requests``.
        """
        self.dispatched[reason] += 1
        self.batch_rows[bisect_left(BUCKETS_ROWS, rows)] += 1
        self.batch_rows[-1] += rows
        times = self.batch_times.get(rows)
        if times is None:
            times = [0, 0]
            if len(self.batch_times) < MAX_BATCH_SIZES:
                self.batch_times[rows] = times
        times[0] += 1
        times[1] += compute_ns
        self.last_batch_s = monotonic()
        self.rows += rows
        self.padded_rows += padded_rows
        self.compute[bisect_left(self.bounds_ns, compute_ns)] += requests
        self.compute[-1] += compute_ns * requests

    def observe_request(
        self, protocol: str, outcome: str, total_ns: int, queue_ns: int, batch_wait_ns: int, encode_ns: int
    ) -> None:
        """Count one answered request; ``outcome`` is "ok" or the neutral error code in lower case."""
        self.outcomes[protocol, outcome] += 1
        if outcome != "ok":
            self.failed_ns += total_ns
        self.pending.append((total_ns, queue_ns, batch_wait_ns, encode_ns))
        if len(self.pending) >= SETTLE_AT:
            self.settle()

    def settle(self) -> None:
        """Sort the kept times into the histograms."""
        if not self.pending:
            return
        columns = np.array(self.pending, np.int64).T
        bounds_ns = np.array(self.bounds_ns, np.int64)
        self.pending.clear()
        size = len(bounds_ns) + 1
        for counts, column in zip((self.request, self.queue, self.batch_wait, self.encode), columns, strict=True):
            times = column[column > 0]
            added = np.bincount(bounds_ns.searchsorted(times), minlength=size).tolist()
            for bucket, count in enumerate(added):
                counts[bucket] += count
            counts[-1] += int(times.sum())

    def count_cached(self, result: str) -> None:
        """Count a request that met the response cache: "hit", "miss", or "shared" with one under way."""
        self.cached[result] += 1

    def count_rejected(self, reason: str) -> None:
        """Count a request refused before it was queued."""
        self.rejected[reason] += 1

    def count_expired(self, stage: str) -> None:
        """Count a request whose deadline or time-out ran out, in "queue" or "compute"."""
        self.expired[stage] += 1

    def count_cancelled(self, stage: str) -> None:
        """Count a request whose caller left, in "queue" or "running"."""
        self.cancelled[stage] += 1


class Metrics:
    """Everything the process exposes. ``snapshot`` is called once per scrape, on the scraping thread, and lists the
    versions there are now. Counts are kept through a reload of the same version, until ``forget``."""

    def __init__(self, snapshot: Callable[[], Iterable[ServableState]], buckets_s: Sequence[float] = BUCKETS_S) -> None:
        self._snapshot = snapshot
        self._buckets_s = tuple(buckets_s)
        self._versions: dict[tuple[str, int], VersionMetrics] = {}
        self._unrouted: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._writers: list[Callable[[Page], None]] = []

    def add_writer(self, write: Callable[[Page], None]) -> None:
        """Let ``write`` add families of another part of the server to each scrape, on the scraping thread."""
        self._writers.append(write)

    def version(self, model: str, version: int) -> VersionMetrics:
        """The counts of that version, made at the first call."""
        found = self._versions.get((model, version))
        if found is None:
            found = self._versions[model, version] = VersionMetrics(model, version, self._buckets_s)
        return found

    def forget(self, model: str, version: int) -> None:
        """Drop the counts of a version that will not come back."""
        self._versions.pop((model, version), None)

    def count_unrouted(self, protocol: str, outcome: str) -> None:
        """Count a request that reached no model. Its name is the caller's invention and never becomes a label."""
        self._unrouted[protocol, outcome] += 1

    def settle(self) -> None:
        """Bring every histogram up to date; on the loop's thread, before a scrape."""
        for version in self._versions.values():
            version.settle()

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """The content type and body of a scrape: OpenMetrics when the ``Accept`` header names it, else text. It shows
        the histograms as they were when last settled.

        May be called on any thread: each list and dictionary is copied in one step under the interpreter's lock, so
        no count is ever seen to go down.
        """
        from prometheus_client import ProcessCollector
        from prometheus_client.exposition import choose_encoder

        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the header has a version that is no number
            encode, content_type = choose_encoder("")
        page = Page(openmetrics="openmetrics" in content_type)
        self._write(page)
        for write in self._writers:
            write(page)
        return content_type, page.encode() + encode(ProcessCollector(registry=None))

    def _write(self, page: Page) -> None:
        versions = [*self._versions.values()]
        page.gauges("inferd_build_info", "The running program; always 1.", [(_BUILD, 1)])
        page.counters("inferd_requests_total", "Answered requests.", self._outcomes(versions))
        for name, label, help_text, pick in _COUNTERS:
            page.counters(name, help_text, _labelled(versions, label, pick))
        les = bounds(self._buckets_s)
        for name, help_text, pick_times in _TIMES:
            page.histograms(name, help_text, les, 1e-9, ((v.labels, pick_times(v)[:]) for v in versions))
        rows = ((v.labels, v.batch_rows[:]) for v in versions)
        page.histograms("inferd_batch_rows", "Callers' rows in one executed batch.", bounds(BUCKETS_ROWS), 1, rows)
        ratios = [(v.labels, v.padded_rows / (v.rows + v.padded_rows)) for v in versions if v.padded_rows]
        page.gauges("inferd_padding_ratio", "Share of padding in all rows executed since the start.", ratios)
        self._write_state(page, list(self._snapshot()))

    def _write_state(self, page: Page, now: list[ServableState]) -> None:
        keyed = [(labels(model=s.model, version=s.version), s) for s in now]
        page.gauges("inferd_queue_depth", "Rows waiting.", [(key, s.queue_rows) for key, s in keyed])
        page.gauges("inferd_inflight", "Requests taken and not yet answered.", [(key, s.inflight) for key, s in keyed])
        page.gauges(
            "inferd_model_state",
            "1 for the state a version is in.",
            [(f'{key},state="{s.state.value}"', 1) for key, s in keyed],
        )
        page.gauges("inferd_model_load_seconds", "Time a load took.", [(key, s.load_s) for key, s in keyed if s.load_s])

    def _outcomes(self, versions: list[VersionMetrics]) -> Iterator[tuple[str, int]]:
        nobody = labels(model="", version="")
        for key, outcomes in [(nobody, self._unrouted), *((v.labels, v.outcomes) for v in versions)]:
            for (protocol, outcome), count in dict(outcomes).items():
                yield f"{key},{labels(protocol=protocol, outcome=outcome)}", count


_BUILD = labels(version=__version__, python=platform.python_version())
_COUNTERS: tuple[tuple[str, str, str, Callable[[VersionMetrics], Mapping[str, int]]], ...] = (
    ("inferd_batch_dispatch_total", "reason", "Executed batches, by why they were dispatched.", lambda v: v.dispatched),
    ("inferd_rejected_total", "reason", "Requests refused before they were queued.", lambda v: v.rejected),
    ("inferd_cache_total", "result", "Requests that met the response cache.", lambda v: v.cached),
    ("inferd_expired_total", "stage", "Requests whose time ran out.", lambda v: v.expired),
    ("inferd_cancelled_total", "stage", "Requests whose caller left before the answer.", lambda v: v.cancelled),
)
_TIMES: tuple[tuple[str, str, Callable[[VersionMetrics], list[int]]], ...] = (
    ("inferd_request_seconds", "From the request's arrival to its answer.", lambda v: v.request),
    ("inferd_queue_seconds", "Waiting in the queue.", lambda v: v.queue),
    (
        "inferd_batch_wait_seconds",
        "From leaving the queue in a batch to the start of its execution.",
        lambda v: v.batch_wait,
    ),
    ("inferd_compute_seconds", "Execution of the batch, counted once for each request in it.", lambda v: v.compute),
    ("inferd_encode_seconds", "Encoding of the answer.", lambda v: v.encode),
)


def _labelled(
    versions: list[VersionMetrics], label: str, pick: Callable[[VersionMetrics], Mapping[str, int]]
) -> Iterator[tuple[str, int]]:
    for version in versions:
        for value, count in dict(pick(version)).items():
            yield f'{version.labels},{label}="{value}"', count
