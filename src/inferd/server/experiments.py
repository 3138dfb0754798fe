"""The control routes of experiments: define, describe, start, stop, and tell who changed what."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from inferd.core.errors import InvalidRequest
from inferd.experiments.bandits.learned import bandit_of
from inferd.experiments.control import ExperimentControl
from inferd.experiments.definition import Experiment
from inferd.experiments.definition_store import Change
from inferd.experiments.definition_toml import experiment_of, values_of
from inferd.experiments.live import LiveExperiment
from inferd.experiments.position import learned_at
from inferd.experiments.registry import Entry, ExperimentRegistry
from inferd.experiments.shadows import RESULTS
from inferd.server.admin import who
from inferd.server.json_body import read_json

_ALL = "/admin/experiments"
_ONE = "/admin/experiments/{experiment_id}"
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "description": "The keys of a definition's file; see docs/experiments/assignment.md.",
                "required": ["id", "model", "variant"],
            }
        }
    },
}


def mount_experiments(app: FastAPI, registry: ExperimentRegistry, control: ExperimentControl) -> None:
    """Add ``/admin/experiments…``."""
    _mount_reading(app, registry, control)
    _mount_definitions(app, control)
    _mount_state(app, control)


def _mount_reading(app: FastAPI, registry: ExperimentRegistry, control: ExperimentControl) -> None:
    @app.get(_ALL, tags=["experiments"], summary="Every experiment and where it stands")
    async def list_experiments(archived: bool = False) -> JSONResponse:
        shown = [entry for entry in registry.entries if archived or entry.state != "archived"]
        return JSONResponse({"experiments": [_summary(entry) for entry in shown]})

    @app.get(_ONE, tags=["experiments"], summary="One experiment, its definition, its variants and its counts")
    async def describe(experiment_id: str) -> JSONResponse:
        return _answer(registry.get(experiment_id))

    @app.get(f"{_ONE}/history", tags=["experiments"], summary="What changed, by whom, why; the latest first")
    async def history(experiment_id: str, limit: int = 100) -> JSONResponse:
        changes = await control.history(experiment_id, max(1, min(limit, 10_000)))
        return JSONResponse({"history": [_change(each) for each in changes]})


def _mount_definitions(app: FastAPI, control: ExperimentControl) -> None:
    @app.post(
        _ALL,
        tags=["experiments"],
        summary="Define an experiment; it runs when started, or at once with start=true",
        openapi_extra={"requestBody": _BODY},
    )
    async def create(request: Request, start: bool = False) -> JSONResponse:
        experiment = experiment_of(_object(await read_json(request)))
        return _answer(await control.create(experiment, who(request), start=start), status=201)

    @app.put(
        _ONE,
        tags=["experiments"],
        summary="Replace a definition; If-Match, or version in the body, names the one that was changed",
        openapi_extra={"requestBody": _BODY},
    )
    async def replace(experiment_id: str, request: Request) -> JSONResponse:
        values = _object(await read_json(request))
        version = _version(request, values.pop("version", None))
        if version is None:
            raise InvalidRequest(
                "say which version you changed, as If-Match or as version in the body, so that nobody's change is lost"
            )
        return _answer(await control.replace(_named(values, experiment_id), version, who(request)))

    @app.delete(_ONE, tags=["experiments"], summary="Archive an experiment: it ends, its report and history stay")
    async def archive(experiment_id: str, request: Request) -> JSONResponse:
        return _answer(await control.archive(experiment_id, _version(request, None), who(request)))


def _mount_state(app: FastAPI, control: ExperimentControl) -> None:
    @app.post(f"{_ONE}/stop", tags=["experiments"], summary="Kill switch: everyone gets the model's usual version")
    async def stop(experiment_id: str, request: Request, why: str = "") -> JSONResponse:
        name = who(request)
        reason = why[:1000] or f"stopped by {name or 'somebody without a key'}"
        return _answer(await control.stop(experiment_id, name, reason))

    @app.post(f"{_ONE}/advance", tags=["experiments"], summary="Let a ramp go on to its next step now")
    async def advance(experiment_id: str, request: Request) -> JSONResponse:
        name = who(request)
        return _answer(await control.advance(experiment_id, name, f"by {name or 'somebody without a key'}"))

    @app.post(f"{_ONE}/start", tags=["experiments"], summary="Run an experiment, for the first time or again")
    async def start(experiment_id: str, request: Request) -> JSONResponse:
        return _answer(await control.start(experiment_id, who(request)))


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise InvalidRequest("a definition is an object with the keys of a definition's file")
    return body


def _named(values: dict[str, Any], experiment_id: str) -> Experiment:
    experiment = experiment_of({"id": experiment_id, **values})
    if experiment.id != experiment_id:
        raise InvalidRequest(f"the definition is of {experiment.id!r}, the path says {experiment_id!r}", path="id")
    return experiment


def _version(request: Request, given: Any) -> int | None:
    """Of the body or, as an entity tag (RFC 9110, 13.1.1), of ``If-Match``; ``*`` is any."""
    tag = request.headers.get("if-match", "").strip().removeprefix("W/").strip('"')
    if given is None and tag in ("", "*"):
        return None
    if given is None and tag.isascii() and tag.isdigit() and len(tag) < 10:
        return int(tag)
    if type(given) is not int or not 0 < given < 2**31:
        raise InvalidRequest("a version is a whole number above 0", path="version")
    return given


def _answer(entry: Entry, status: int = 200) -> JSONResponse:
    return JSONResponse(_details(entry), status_code=status, headers={"etag": f'"{entry.version}"'})


def _summary(entry: Entry) -> dict[str, Any]:
    summary = {
        "id": entry.experiment.id,
        "model": entry.experiment.model,
        "state": entry.state,
        "version": entry.version,
        "defined_in": entry.origin or "the store",
    }
    return {**summary, "reason": entry.reason} if entry.reason else summary


def _details(entry: Entry) -> dict[str, Any]:
    experiment, live = entry.experiment, entry.live
    return {
        **_summary(entry),
        "unit": experiment.unit,
        "coverage": live.experiment.coverage,
        "mode": experiment.mode,
        **({"ramp": _ramp(entry)} if experiment.steps else {}),
        **({"bandit": _bandit(entry)} if experiment.bandit is not None else {}),
        "variants": [
            {
                "name": variant.name,
                "target": variant.target,
                "share": share,
                "requests": live.assigned[variant.name],
                "fallbacks": live.fallbacks[variant.name],
            }
            for variant, share in zip(experiment.variants, live.experiment.shares, strict=True)
        ],
        **_shadows(live),
        "unassigned": dict(live.unassigned),
        "definition": values_of(experiment),
    }


def _ramp(entry: Entry) -> dict[str, Any]:
    position = entry.position
    return {
        "step": position.step + 1,
        "steps": len(entry.experiment.steps),
        "step_since_ms": position.step_ms,
        "started_ms": position.started_ms,
        "held": entry.state == "running" and bool(entry.reason),
    }


def _bandit(entry: Entry) -> dict[str, Any]:
    """What it goes by: how many rewards each variant had when that was learned, and what they were on average."""
    learned = learned_at(entry.experiment, entry.position)
    policy = {"policy": bandit_of(entry.experiment).policy}
    if learned is None:
        return policy
    found = zip(entry.experiment.variants, learned.rewards, learned.averages, strict=True)
    return {**policy, "learned": {each.name: {"rewards": count, "average": mean} for each, count, mean in found}}


def _shadows(live: LiveExperiment) -> dict[str, Any]:
    """What came of running requests a second time, by variant, since the server runs."""
    if live.shadows is None:
        return {}
    nothing, running = dict.fromkeys(RESULTS, 0), live.shadows.running
    counts = live.shadows.counts.items()
    return {"shadows": {name: {**nothing, **found, "running": running[name]} for name, found in counts}}


def _change(change: Change) -> dict[str, Any]:
    keys = sorted({*change.before, *change.after})
    differing = [key for key in keys if change.before.get(key) != change.after.get(key)]
    return {
        "at_ms": change.at_ms,
        "who": change.who,
        "what": change.what,
        "why": change.why,
        "version": change.version,
        "from": {key: change.before[key] for key in differing if key in change.before},
        "to": {key: change.after[key] for key in differing if key in change.after},
    }
