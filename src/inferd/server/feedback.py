"""``POST /feedback``: what came of a prediction, told by whoever sees it; and the report over it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import asdict
from hashlib import sha256
from typing import Annotated, Any

import orjson
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from starlette.requests import Request

from inferd.core.errors import ExperimentNotFound, Expired, FeedbackNotFound, InvalidRequest
from inferd.experiments.columns import is_measurable
from inferd.experiments.events import Feedback, hash_unit
from inferd.experiments.judge import FLUSH_TIMEOUT_S, Judge
from inferd.experiments.log import EventLog
from inferd.experiments.registry import ExperimentRegistry
from inferd.experiments.report_html import report_html
from inferd.experiments.store import Result, Store
from inferd.server.json_body import fit, read_json

MAX_BATCH = 1000
_REPORT = "/admin/experiments/{experiment_id}/report"
_Name = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00]*$")]  # PostgreSQL stores no NUL


class Outcome(BaseModel):
    """The value of one metric, for a prediction or for a unit of an experiment. ``key`` makes it safe to send again."""

    model_config = ConfigDict(extra="forbid")

    metric: _Name = Field(min_length=1)
    value: float = Field(allow_inf_nan=False)
    prediction_id: _Name = ""
    experiment: _Name = ""
    unit: str = Field("", max_length=1024)
    key: _Name = ""

    @field_validator("value")
    @classmethod
    def _is_measurable(cls, value: float) -> float:
        if not is_measurable(value):
            raise ValueError("is too far from 1 to be analysed: give 0, or sizes from 1e-60 to 1e60")
        return value

    @model_validator(mode="after")
    def _names_one(self) -> Outcome:
        if bool(self.prediction_id) == bool(self.experiment and self.unit):
            raise ValueError("name either the prediction_id, or the experiment and the unit")
        return self


_OUTCOME = Outcome.model_json_schema()
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"anyOf": [_OUTCOME, {"type": "array", "maxItems": MAX_BATCH, "items": _OUTCOME}]}
        }
    },
}


def mount_feedback(
    app: FastAPI,
    registry: ExperimentRegistry,
    log: EventLog,
    store: Store,
    judge: Judge,
    window_s: float,
    threads: Executor,
) -> None:
    """Add ``/feedback`` and the report. Whatever waits for the database does so on ``threads``."""

    @app.post(
        "/feedback",
        tags=["experiments"],
        summary="Tell what came of one or many predictions",
        openapi_extra={"requestBody": _BODY},
    )
    async def feedback(request: Request) -> JSONResponse:
        body = await read_json(request)
        batch = _outcomes(body)
        events = [_event(each, registry) for each in batch]
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(threads, _store, log, store, events, window_s)
        if not isinstance(body, list):
            _raise_for(results[0], batch[0], registry)
        counts = {kind: results.count(kind) for kind in ("stored", "duplicate", "unknown", "expired")}
        return JSONResponse({**counts, "results": results} if isinstance(body, list) else counts)

    @app.get(_REPORT, tags=["experiments"], summary="What the experiment has found; as a page for browsers")
    async def show_report(experiment_id: str, request: Request) -> Response:
        entry = registry.get(experiment_id)
        entry.live.tally()
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(threads, judge.report, entry.experiment, entry.since_ms)
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(report_html(found))
        # What is not a number becomes null, which JSONResponse refuses to write.
        return Response(orjson.dumps(asdict(found)), media_type="application/json")


def _outcomes(body: Any) -> list[Outcome]:
    if not isinstance(body, list):
        return [fit(Outcome, body)]
    if len(body) > MAX_BATCH:
        raise InvalidRequest(f"{len(body)} outcomes in one request; at most {MAX_BATCH} are taken")
    return [fit(Outcome, each, number) for number, each in enumerate(body)]


def _event(outcome: Outcome, registry: ExperimentRegistry) -> Feedback:
    unit = _unit(outcome, registry)
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


def _unit(outcome: Outcome, registry: ExperimentRegistry) -> str:
    """Its hash, or "" for a prediction and for an experiment that nobody knows, which nobody was exposed to either."""
    try:
        return hash_unit(registry.get(outcome.experiment).experiment.salt, outcome.unit) if outcome.unit else ""
    except ExperimentNotFound:
        return ""


def _store(log: EventLog, store: Store, events: list[Feedback], window_s: float) -> list[Result]:
    """Raises ``StoreUnavailable`` while the database does not answer: whoever sends may send again."""
    complete = log.flush(FLUSH_TIMEOUT_S)
    now_ms = time.time_ns() // 1_000_000
    return store.add_feedback(events, window_s=window_s, now_ms=now_ms, complete=complete)


def _raise_for(result: Result, outcome: Outcome, registry: ExperimentRegistry) -> None:
    about = outcome.prediction_id or f"unit {outcome.unit!r} of {outcome.experiment!r}"
    if result == "unknown":
        if outcome.unit:
            registry.get(outcome.experiment)
        raise FeedbackNotFound(f"nobody was shown a variant under {about}")
    if result == "expired":
        raise Expired(f"the time to tell of {about} is over")
