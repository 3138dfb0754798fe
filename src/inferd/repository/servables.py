"""From a loaded version to one that takes requests: its instances, its scheduler, and what is told about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from inferd.execution.batcher import Batcher
from inferd.execution.instance import ModelInstance
from inferd.repository.loader import LoadedVersion
from inferd.serving.servable import Servable
from inferd.telemetry.metrics import Metrics


def make_servable(loaded: LoadedVersion, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> Servable:
    """Put ``loaded`` behind a scheduler. Called on the loop's thread."""
    config = loaded.config
    version_metrics = metrics.version(config.name, loaded.version)
    batcher = Batcher(
        [_instance(loaded, loop, index) for index in range(instance_count(loaded))],
        config.batching,
        version_metrics,
        loop,
        batchable=loaded.model.batchable,
        compute_timeout_ms=config.execution.compute_timeout_ms,
        inline_max_us=config.execution.inline_max_us,
    )
    return Servable(
        config,
        loaded.version,
        signatures=loaded.signatures,
        metadata=loaded.metadata,
        batchable=loaded.model.batchable,
        batcher=batcher,
        metrics=version_metrics,
        info=describe_version(loaded),
        streaming=getattr(loaded.model, "streaming", False),
    )


def instance_count(loaded: LoadedVersion) -> int:
    """Instances that execute this version: the configured number, or an async model's calls in flight."""
    return max(loaded.config.instances.count, getattr(loaded.model, "max_concurrency", 1))


def _instance(loaded: LoadedVersion, loop: asyncio.AbstractEventLoop, index: int) -> ModelInstance:
    return ModelInstance(
        loaded.models[index % len(loaded.models)],
        loop,
        f"inferd-{loaded.config.name}-{loaded.version}-{index}",
        inline_rows=loaded.measured.inline_rows,
        allowed_sizes=loaded.config.batching.allowed_sizes,
    )


def describe_version(loaded: LoadedVersion) -> Mapping[str, Any]:
    """What ``/model/info`` shows of a loaded version, besides its signature."""
    config, metadata, measured = loaded.config, loaded.metadata, loaded.measured
    return {
        "runtime": loaded.runtime,
        "runtime_version": metadata.runtime_version,
        "platform": metadata.platform,
        "device": metadata.device,
        "digest": loaded.digest,
        "load_s": round(loaded.load_s, 4),
        "warmup_s": round(loaded.warmup_s, 4),
        "batching": {
            "enabled": measured.batching,
            "max_batch_size": config.batching.max_batch_size if measured.batching else 1,
            "max_wait_ms": config.batching.max_wait_ms,
            "max_queue_size": config.batching.max_queue_size,
            "queue_timeout_ms": config.batching.queue_timeout_ms,
            "allowed_sizes": list(config.batching.allowed_sizes),
            "max_batch_difference": measured.max_batch_difference,
        },
        "execution": {
            "inline_rows": measured.inline_rows,
            "instances": instance_count(loaded),
            "cost_us": round(measured.cost_us, 1),
            "cost_of_rows": measured.cost_of_rows,
            "inline_max_us": config.execution.inline_max_us,
            "compute_timeout_ms": config.execution.compute_timeout_ms,
        },
        "nan": config.nan,
        "classes": list(metadata.classes),
        "feature_names": list(metadata.feature_names),
        "provenance": dict(metadata.provenance),
    }
