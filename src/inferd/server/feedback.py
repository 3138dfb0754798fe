"""``POST /feedback``: what came of a prediction, told by whoever sees it; and the report over it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request

from inferd.core.errors import Expired, FeedbackNotFound, InvalidRequest, ModelNotReady
from inferd.experiments.events import Feedback, hash_unit
from inferd.experiments.log import ExposureLog
from inferd.experiments.registry import ExperimentRegistry
from inferd.experiments.report import Report, report
from inferd.experiments.report_html import report_html
from inferd.experiments.store import Result, Store
from inferd.experiments.summary import summarise

FLUSH_TIMEOUT_S = 5.0
MAX_BATCH = 1000
_REPORT = "/admin/experiments/{experiment_id}/report"


class Outcome(BaseModel):
    """The value of one metric, for a prediction or for a unit of an experiment. ``key`` makes it safe to send again."""

    model_config = ConfigDict(extra="forbid")

    metric: str = Field(min_length=1, max_length=128)
    value: float = Field(allow_inf_nan=False)
    prediction_id: str = Field("", max_length=64)
    experiment: str = Field("", max_length=128)
    unit: str = Field("", max_length=1024)
    key: str = Field("", max_length=128)

    @model_validator(mode="after")
    def _names_one(self) -> Outcome:
        if bool(self.prediction_id) == bool(self.experiment and self.unit):
            raise ValueError("name either the prediction_id, or the experiment and the unit")
        return self


def mount_feedback(app: FastAPI, registry: ExperimentRegistry, log: ExposureLog, store: Store, window_s: float) -> None:
    """Add ``/feedback`` and the report."""

    @app.post("/feedback", tags=["experiments"], summary="Tell what came of one or many predictions")
    async def feedback(outcomes: Outcome | list[Outcome]) -> JSONResponse:
        batch = outcomes if isinstance(outcomes, list) else [outcomes]
        if len(batch) > MAX_BATCH:
            raise InvalidRequest(f"{len(batch)} outcomes in one request; at most {MAX_BATCH} are taken")
        events = [_event(each, registry) for each in batch]
        results = await asyncio.to_thread(_store, log, store, events, window_s)
        if not isinstance(outcomes, list):
            _raise_for(results[0], batch[0])
        counts: Mapping[str, int] = {
            kind: results.count(kind) for kind in ("stored", "duplicate", "unknown", "expired")
        }
        return JSONResponse({**counts, "results": results} if isinstance(outcomes, list) else counts)

    @app.get(_REPORT, tags=["experiments"], summary="What the experiment has found; as a page for browsers")
    async def show_report(experiment_id: str, request: Request) -> Response:
        experiment = registry.get(experiment_id).experiment

        def make() -> Report:
            log.flush(FLUSH_TIMEOUT_S)
            return report(experiment, summarise(experiment, store.columns(experiment)))

        found = await asyncio.to_thread(make)
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(report_html(found))
        return JSONResponse(asdict(found))


def _event(outcome: Outcome, registry: ExperimentRegistry) -> Feedback:
    unit = ""
    if outcome.unit:
        unit = hash_unit(registry.get(outcome.experiment).experiment.salt, outcome.unit)
    about = outcome.prediction_id or f"{outcome.experiment}/{unit}"
    # Without a key, the same metric of the same prediction told again is the same outcome; of a unit it is a new one.
    own = outcome.key or ("" if outcome.prediction_id else str(time.time_ns()))
    key = sha256(f"{about}\0{outcome.metric}\0{own}".encode()).hexdigest()
    return Feedback(
        outcome.metric,
        outcome.value,
        time.time_ns() // 1_000_000,
        key,
        outcome.prediction_id,
        outcome.experiment,
        unit,
    )


def _store(log: ExposureLog, store: Store, events: list[Feedback], window_s: float) -> list[Result]:
    """Raises ``ModelNotReady`` while the database does not answer: whoever sends may send again."""
    log.flush(FLUSH_TIMEOUT_S)
    try:
        return store.add_feedback(events, window_s=window_s, now_ms=time.time_ns() // 1_000_000)
    except Exception as error:
        raise ModelNotReady("the experiments' store does not answer; send it again", retry_after_s=5) from error


def _raise_for(result: Result, outcome: Outcome) -> None:
    about = outcome.prediction_id or f"unit {outcome.unit!r} of {outcome.experiment!r}"
    if result == "unknown":
        raise FeedbackNotFound(f"nobody was shown a variant under {about}")
    if result == "expired":
        raise Expired(f"the time to tell of {about} is over")
