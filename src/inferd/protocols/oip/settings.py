"""Log and trace settings by request: what may be changed while the server runs, until it ends.

Names: Triton's "Logging Extension" and "Trace Extension". A setting whose value is null goes back to its default, that
of a model to the server's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from inferd.abc import Target
from inferd.core.errors import Unsupported
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.json_members import did_you_mean, refuse
from inferd.protocols.shared.json_tensors import kind_of, show
from inferd.telemetry.logs import is_written, switch
from inferd.telemetry.tracing import SwitchedTracer

_LEVELS = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
_FIXED_LOG = {"log_file": "", "log_format": "default"}
_FIXED_TRACE = {"log_frequency": "0", "trace_file": "", "trace_mode": "opentelemetry"}
_TRACE_LEVELS = ("OFF", "TIMESTAMPS")
_MAX_INT = 2**31 - 1


def log_settings() -> dict[str, Any]:
    """All log settings as they are."""
    levels = {name: is_written(level) for name, level in _LEVELS.items()}
    return {**_FIXED_LOG, **levels, "log_verbose_level": int(is_written(logging.DEBUG))}


def change_log_settings(values: Any) -> dict[str, Any]:
    """Change those in ``values``; all of them afterwards. Raises ``InvalidRequest`` and ``Unsupported``, and then has
    changed nothing."""
    switches: dict[int, bool] = {}
    for name, value in _object(values, (*_FIXED_LOG, *_LEVELS, "log_verbose_level")).items():
        if name in _FIXED_LOG:
            _unchanged(name, value, _FIXED_LOG[name])
        elif name in _LEVELS:
            if value is not None and type(value) is not bool:
                refuse(f"{name} is {show(value)}; it takes true or false", name, value)
            switches[_LEVELS[name]] = value is not False
        else:
            switches[logging.DEBUG] = _whole(name, 0 if value is None else value, least=0) > 0
    for level, on in switches.items():
        switch(level, on=on)
    return log_settings()


def trace_settings(context: ProtocolContext, model: str = "") -> dict[str, Any]:
    """All trace settings as they are, of the server or of one model. Numbers are text on this wire.

    Raises ``ModelNotFound``.
    """
    if model and model not in context.engine.table.models:
        raise context.engine.table.explain(Target(model))
    tracer = context.tracer
    if not isinstance(tracer, SwitchedTracer):
        return {"trace_level": ["OFF"], "trace_rate": "1", "trace_count": "-1", **_FIXED_TRACE}
    return {
        "trace_level": ["TIMESTAMPS" if tracer.sampler.setting("on", model) else "OFF"],
        "trace_rate": str(tracer.sampler.setting("rate", model)),
        "trace_count": str(tracer.sampler.setting("count", model)),
        **_FIXED_TRACE,
    }


def change_trace_settings(context: ProtocolContext, model: str, values: Any) -> dict[str, Any]:
    """Change those in ``values``, of the server or of one model; all of them afterwards. What a model has not of its
    own is as the server's, also after that has changed.

    Raises ``InvalidRequest``, ``ModelNotFound`` and ``Unsupported``, and then has changed nothing.
    """
    trace_settings(context, model)
    given: dict[str, int | None] = {}
    for name, value in _object(values, ("trace_level", "trace_rate", "trace_count", *_FIXED_TRACE)).items():
        if name in _FIXED_TRACE:
            _unchanged(name, _single(value), _FIXED_TRACE[name])
        elif name == "trace_level":
            given["on"] = None if value is None else _level(value)
        elif name == "trace_rate":
            given["rate"] = None if value is None else _whole(name, _single(value), least=1)
        else:
            given["count"] = None if value is None else _whole(name, _single(value), least=-1)
    tracer = context.tracer
    if isinstance(tracer, SwitchedTracer):
        tracer.sampler.change(model, given)
    elif any(given.values()):
        raise Unsupported("tracing is off; start the server with --otel")
    return trace_settings(context, model)


def _level(value: Any) -> bool:
    """Whether requests are traced. Tensors are never part of a trace."""
    levels = value if type(value) is list else [value]
    for level in levels:
        if level == "TENSORS":
            raise Unsupported("tensors are never part of a trace here; trace_level takes OFF or TIMESTAMPS")
        if level not in _TRACE_LEVELS:
            refuse(f"trace_level is {show(level)}; it takes {' or '.join(_TRACE_LEVELS)}", "trace_level", value)
    return "TIMESTAMPS" in levels


def _single(value: Any) -> Any:
    """gRPC's settings are lists of text, of one."""
    return value[0] if type(value) is list and len(value) == 1 else value


def _object(values: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    if type(values) is not dict:
        refuse(f"the body is {kind_of(values)} where an object of settings is expected", "", values)
    for name in values:
        if name not in known:
            refuse(f"unknown setting {show(name)}{did_you_mean(name, known)}", name, values[name])
    return values  # type: ignore[no-any-return]


def _unchanged(name: str, value: Any, only: str) -> None:
    if value not in (None, only):
        raise Unsupported(f"{name} is the server's configuration: it stays {only!r}")


def _whole(name: str, value: Any, *, least: int) -> int:
    if type(value) is str and value.removeprefix("-").isdecimal() and value.isascii() and len(value) < 12:
        value = int(value)
    if type(value) is not int or not least <= value <= _MAX_INT:
        refuse(f"{name} is {show(value)}; it takes a whole number from {least} up", name, value)
    return value  # type: ignore[no-any-return]
