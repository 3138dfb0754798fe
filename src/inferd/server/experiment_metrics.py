"""What a scrape tells of each running experiment: requests by variant, fallbacks, shadows, and how much it covers."""

from __future__ import annotations

from inferd.experiments.registry import ExperimentRegistry
from inferd.telemetry.exposition import Page, labels


def write_experiments(page: Page, registry: ExperimentRegistry) -> None:
    """Add the families; on any thread."""
    running = [entry for entry in registry.entries if entry.state == "running"]
    variants = [(entry, variant.name) for entry in running for variant in entry.experiment.variants]
    keyed = [(labels(experiment=entry.experiment.id, variant=name), entry.live, name) for entry, name in variants]
    page.counters(
        "inferd_experiment_requests_total",
        "Requests assigned to a variant.",
        [(key, live.assigned[name]) for key, live, name in keyed],
    )
    page.counters(
        "inferd_experiment_fallbacks_total",
        "Requests that got control because nothing was ready for their variant.",
        [(key, live.fallbacks[name]) for key, live, name in keyed],
    )
    page.counters(
        "inferd_shadow_total",
        "Requests of the sample, by what came of running them a second time.",
        [
            (f"{key},{labels(result=result)}", count)
            for key, live, name in keyed
            if live.shadows is not None
            for result, count in dict(live.shadows.counts.get(name, {})).items()
        ],
    )
    page.gauges(
        "inferd_experiment_share",
        "The share of the experiment's requests that a variant gets now, which a bandit changes.",
        [
            (labels(experiment=entry.experiment.id, variant=variant.name), share)
            for entry in running
            for variant, share in zip(entry.experiment.variants, entry.live.experiment.shares, strict=True)
        ],
    )
    page.gauges(
        "inferd_experiment_coverage",
        "The share of units that takes part.",
        [(labels(experiment=entry.experiment.id), entry.live.experiment.coverage) for entry in running],
    )
