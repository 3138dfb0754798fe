"""The captures of a server's models: begun by an administrator, taken up by each version that comes, ended in time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from inferd.abc import Exchange
from inferd.core.errors import CaptureNotFound, Conflict, InvalidRequest
from inferd.serving.capture import KEPT, Capture, CaptureSettings
from inferd.serving.engine import Engine
from inferd.serving.servable import Servable
from inferd.telemetry.exposition import Page, labels

logger = logging.getLogger("inferd.server")


class ModelCapture:
    """One capture and its time. ``passed_over`` are versions that do not have what is to be redacted, of which nothing
    is kept; ``asked`` is what it was begun with."""

    def __init__(self, capture: Capture, asked: Mapping[str, Any], for_s: float) -> None:
        self.capture = capture
        self.passed_over: set[int] = set()
        self.running = True
        self.timer: asyncio.TimerHandle | None = None
        self._asked = asked
        self._since_ms = time.time_ns() // 1_000_000
        self._until_ms = self._since_ms + round(for_s * 1000)

    def describe(self) -> dict[str, Any]:
        """How it stands."""
        capture = self.capture
        return {
            **self._asked,
            "running": self.running,
            "since_ms": self._since_ms,
            "until_ms": self._until_ms,
            "seen": capture.seen,
            "captured": capture.kept,
            "dropped": dict(capture.dropped),
            "held": len(capture),
            "held_bytes": capture.held_bytes,
            "versions_passed_over": sorted(self.passed_over),
        }


class Captures:
    """At most one capture a model. Used on the loop's thread, but for ``write_metrics``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._captures: dict[str, ModelCapture] = {}
        self._totals: dict[str, Counter[str]] = {}

    def start(
        self,
        model: str,
        settings: CaptureSettings,
        asked: Mapping[str, Any],
        *,
        for_s: float,
        unit_of: Callable[[Exchange], str] | None,
    ) -> ModelCapture:
        """Begin to capture the requests to all versions of ``model``, for ``for_s`` seconds or until it is stopped.

        Raises ``Conflict`` when that is done already, and ``InvalidRequest`` for the name of a tensor that no version
        which is ready has: what was to be redacted would be kept.
        """
        if model in self._captures:
            raise Conflict(f"requests to {model!r} are captured already", hint="take what is there, and stop it first")
        serving = [each.servable for each in self._engine.table.models.get(model, {}).values() if each.servable]
        _check_names(model, settings, serving)
        capture = Capture(settings, unit_of=unit_of, totals=self._totals.setdefault(model, Counter()))
        self._captures[model] = found = ModelCapture(capture, {"model": model, **asked}, for_s)
        for servable in serving:
            self.adopt(servable)
        found.timer = asyncio.get_running_loop().call_later(for_s, self._end, model, found)
        return found

    def adopt(self, servable: Servable) -> None:
        """Let a version that becomes ready take part in its model's capture."""
        found = self._captures.get(servable.name)
        if found is None or not found.running:
            return
        if _named(found.capture.settings) <= _tensors(servable):
            servable.capture = found.capture
        else:
            found.passed_over.add(servable.version)
            logger.warning(
                "%s version %d is not captured: it lacks what is to be redacted", servable.name, servable.version
            )

    def get(self, model: str) -> ModelCapture:
        """Raises ``CaptureNotFound``."""
        found = self._captures.get(model)
        if found is None:
            raise CaptureNotFound(f"no requests to {model[:130]!r} are captured", hint="inferd capture begins it")
        return found

    def stop(self, model: str) -> ModelCapture:
        """Keep nothing more, and forget what was kept. Raises ``CaptureNotFound``."""
        found = self.get(model)
        self._end(model, found)
        del self._captures[model]
        return found

    def write_metrics(self, page: Page) -> None:
        """Add what a scrape tells of captures; on any thread."""
        totals = [(labels(model=model), dict(each)) for model, each in dict(self._totals).items()]
        page.counters("inferd_captured_total", "Captured requests.", [(key, each.get(KEPT, 0)) for key, each in totals])
        page.counters(
            "inferd_capture_dropped_total",
            "Captured requests that had to make room, and sampled ones that were not kept.",
            [(f'{key},reason="{why}"', count) for key, each in totals for why, count in each.items() if why != KEPT],
        )

    def _end(self, model: str, found: ModelCapture) -> None:
        """Sample no more; what was kept stays."""
        found.running = False
        found.capture.end()
        if found.timer is not None:  # it holds the ring
            found.timer.cancel()
        for status in self._engine.table.models.get(model, {}).values():
            if status.servable is not None and status.servable.capture is found.capture:
                status.servable.capture = None


def _named(settings: CaptureSettings) -> frozenset[str]:
    return frozenset((*settings.redact, *settings.leave_out))


def _tensors(servable: Servable) -> frozenset[str]:
    return frozenset(
        spec.name for signature in servable.signatures.values() for spec in (*signature.inputs, *signature.outputs)
    )


def _check_names(model: str, settings: CaptureSettings, serving: list[Servable]) -> None:
    named = _named(settings)
    if not named:
        return
    if not serving:
        raise Conflict(f"no version of {model!r} is ready, so nobody can tell what is to be redacted; load one first")
    known = frozenset[str]().union(*map(_tensors, serving))
    for name in sorted(named - known):
        raise InvalidRequest(
            f"{model!r} has no input or output named {name[:100]!r}; there are: {', '.join(sorted(known))}",
            got=name[:100],
            expected=sorted(known),
        )
