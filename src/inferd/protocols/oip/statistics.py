"""The counts of a version as V2 shows them.

Shape: Triton's "Statistics Extension". ``inference_count`` counts rows, ``execution_count`` batches, ``last_inference``
is in milliseconds since 1970, every ``ns`` is a sum. ``compute_input`` is the time from leaving the queue to the start
of the model, ``compute_output`` the encoding of the answer; per batch size only the model's own time is kept, and
of the cache only what it counted.
"""

from __future__ import annotations

import time
from typing import Any

from inferd.serving.servable import Servable
from inferd.telemetry.metrics import VersionMetrics


def model_statistics(servable: Servable) -> dict[str, Any]:
    """One entry of ``model_stats``."""
    metrics = servable.metrics
    metrics.settle()
    return {
        "name": servable.name,
        "version": str(servable.version),
        "last_inference": _since_1970_ms(metrics.last_batch_s),
        "inference_count": metrics.rows,
        "execution_count": sum(metrics.dispatched.values()),
        "inference_stats": _request_statistics(metrics),
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _sum(count, 0),
                "compute_infer": _sum(count, compute_ns),
                "compute_output": _sum(count, 0),
            }
            for size, (count, compute_ns) in sorted(metrics.batch_times.items())
        ],
    }


def _since_1970_ms(monotonic_s: float) -> int:
    """When that was, by the wall clock as it is now; 0 for never."""
    return int((time.time() - time.monotonic() + monotonic_s) * 1000) if monotonic_s else 0


def _request_statistics(metrics: VersionMetrics) -> dict[str, Any]:
    succeeded = sum(count for (_, outcome), count in metrics.outcomes.items() if outcome == "ok")
    failed = sum(metrics.outcomes.values()) - succeeded
    return {
        "success": _sum(succeeded, metrics.request[-1] - metrics.failed_ns),
        "fail": _sum(failed, metrics.failed_ns),
        "queue": _sum(sum(metrics.queue[:-1]), metrics.queue[-1]),
        "compute_input": _sum(sum(metrics.batch_wait[:-1]), metrics.batch_wait[-1]),
        "compute_infer": _sum(sum(metrics.compute[:-1]), metrics.compute[-1]),
        "compute_output": _sum(sum(metrics.encode[:-1]), metrics.encode[-1]),
        "cache_hit": _sum(metrics.cached.get("hit", 0) + metrics.cached.get("shared", 0), 0),
        "cache_miss": _sum(metrics.cached.get("miss", 0), 0),
    }


def _sum(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
