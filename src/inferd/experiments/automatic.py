"""What is measured of every experiment without feedback: failures, refusals and latency of each prediction."""

from __future__ import annotations

from inferd.experiments.definition import Experiment, Metric

ERROR, REJECTED, LATENCY = "error", "rejected", "latency_us"
"""Columns that each prediction has: 0 or 1, 0 or 1, and microseconds."""
DISAGREEMENT = "disagreement"
"""Column of those that control answered too, as a shadow: 1 where the answers differ, else 0."""
_DISAGREEMENT = Metric(DISAGREEMENT, "proportion", DISAGREEMENT, goal="decrease")
REJECTIONS = frozenset({"unavailable", "resource_exhausted"})
"""Outcomes of requests that were turned away before a model saw them."""
AUTOMATIC = (
    Metric(ERROR, "proportion", ERROR, goal="decrease"),
    Metric(REJECTED, "proportion", REJECTED, goal="decrease"),
    Metric(LATENCY, "mean", LATENCY, goal="decrease"),
    *(
        Metric(f"latency_p{percent}_us", "quantile", LATENCY, quantile=percent / 100, goal="decrease")
        for percent in (50, 95, 99)
    ),
)


def measured(experiment: Experiment) -> tuple[Metric, ...]:
    """All metrics of ``experiment``, its own first; the last may be one that control does not have."""
    found = (*experiment.metrics, *automatic_metrics(experiment))
    if experiment.shadow is None or any(metric.name == DISAGREEMENT for metric in found):
        return found
    return (*found, _DISAGREEMENT)


def automatic_metrics(experiment: Experiment) -> tuple[Metric, ...]:
    """Those that ``experiment`` does not define itself under the same name."""
    own = {metric.name for metric in experiment.metrics}
    return tuple(metric for metric in AUTOMATIC if metric.name not in own)
