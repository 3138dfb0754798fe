"""What the server hands to every protocol when it is put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from inferd.protocols.shared.regions import SharedRegions
from inferd.repository.control import ModelControl
from inferd.serving.engine import Engine
from inferd.telemetry.metrics import Metrics
from inferd.telemetry.tracing import Tracer


@dataclass(frozen=True, slots=True)
class ProtocolContext:
    """The engine and what is configured for all protocols alike. ``tracer`` is None when tracing is off.

    ``control`` gives what loads and unloads models, None where protocols may not.
    ``regions`` is None where tensors may not lie in shared memory.
    ``blockers`` says why the server, or the model of that name, is not ready; nothing when it is.
    """

    engine: Engine
    metrics: Metrics
    loop: asyncio.AbstractEventLoop
    decode_pool: Executor
    decode_offload_bytes: int
    blockers: Callable[[str | None], Sequence[Mapping[str, Any]]]
    control: Callable[[], ModelControl] | None = None
    server_timing: bool = True
    max_body_bytes: int = 64 << 20
    tracer: Tracer | None = None
    regions: SharedRegions | None = None
