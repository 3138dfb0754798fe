"""A ready version: its model behind a scheduler, its checks, and the count of requests that hold it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.tensors import Check, Signature, compile_check
from inferd.execution.batcher import Batcher
from inferd.serving.capture import Capture
from inferd.serving.policy import Observer
from inferd.serving.response_cache import ResponseCache
from inferd.telemetry.metrics import VersionMetrics


class Servable:
    """One loaded version. Routing pins it, the answer releases it, unloading waits until nobody holds it.

    ``background`` counts those of the requests in flight that nobody waits for. ``bound`` keeps what each protocol
    prepared for this version. Used on the loop's thread only.
    """

    __slots__ = (
        "_released",
        "background",
        "batchable",
        "batcher",
        "bound",
        "cache",
        "capture",
        "check",
        "checks",
        "config",
        "default_outputs",
        "inflight",
        "info",
        "metadata",
        "metrics",
        "name",
        "signature",
        "signatures",
        "streaming",
        "ticket",
        "version",
    )

    def __init__(
        self,
        config: ModelConfig,
        version: int,
        *,
        signatures: Mapping[str, Signature],
        metadata: ModelMetadata,
        batchable: bool,
        batcher: Batcher,
        metrics: VersionMetrics,
        info: Mapping[str, Any],
        streaming: bool = False,
    ) -> None:
        self.config = config
        self.name = config.name
        self.version = version
        self.signatures = signatures
        self.signature = next(iter(signatures.values()))
        self.checks: dict[str, Check] = {
            name: compile_check(signature, batchable=batchable) for name, signature in signatures.items()
        }
        self.check = next(iter(self.checks.values()))
        self.default_outputs = config.select_outputs
        self.metadata = metadata
        self.batchable = batchable
        self.streaming = streaming
        self.batcher = batcher
        self.metrics = metrics
        self.info = info
        self.bound: dict[str, Any] = {}
        self.cache: ResponseCache | None = None
        if config.cache.max_mb and not streaming:
            limit_bytes = int(config.cache.max_mb * (1 << 20))
            self.cache = ResponseCache(metrics, max_bytes=limit_bytes, ttl_s=config.cache.ttl_s)
        self.capture: Capture | None = None
        self.inflight = 0
        self.background = 0
        self.ticket = Ticket(self)
        self._released: asyncio.Event | None = None

    async def drained(self) -> None:
        """Return when no request holds this version any more. Background requests that have not begun are given up."""
        self.batcher.stop_background()
        while self.inflight:
            await self._release_of_one()

    async def answered(self) -> None:
        """Return when nobody waits for this version any more: as ``drained``, but what runs in the background may still
        do so."""
        self.batcher.stop_background()
        while self.inflight > self.background:
            await self._release_of_one()

    async def _release_of_one(self) -> None:
        if self._released is None:
            self._released = asyncio.Event()
        self._released.clear()
        await self._released.wait()

    def release(self) -> None:
        """One request less holds this version."""
        self.inflight -= 1
        if self._released is not None:
            self._released.set()

    def statistics(self) -> dict[str, int]:
        """Requests in flight and where the scheduler stands."""
        return {"inflight": self.inflight, **self.batcher.statistics()}

    def __repr__(self) -> str:
        return f"<Servable {self.name}@{self.version} inflight={self.inflight} {self.batcher!r}>"


class Ticket:
    """What routing decided for one request; it pins the servable until ``release``, called exactly once.

    ``head`` is header lines for the answer. ``observer`` is told of the request when a policy chose the version;
    without one, all requests to a version share its ticket.
    """

    __slots__ = ("head", "observer", "servable")

    def __init__(self, servable: Servable, head: bytes = b"", observer: Observer | None = None) -> None:
        self.servable = servable
        self.head = head
        self.observer = observer

    def release(self) -> None:
        """Let go of the servable."""
        self.servable.release()
