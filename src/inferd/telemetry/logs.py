"""Log lines as text or JSON, each with the id of the request it is about, and the access log.

A request's id comes with the line (``extra={"request_id": ...}``) on hot routes, which share one task context, and
from ``request_id_context`` on cold ones. Nothing is written for a successful request unless the access log is on.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from time import monotonic_ns
from typing import Literal, Protocol

from inferd.core.plain_text import one_line, plain_lines

request_id_context: ContextVar[str] = ContextVar("inferd_request_id", default="")
"""Id of the request that the current task answers, "" outside of one."""

_LOGGERS = ("inferd", "uvicorn", "asyncio")
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "request_id"}
_switched_off: set[int] = set()
_access = logging.getLogger("inferd.access")


class Answered(Protocol):
    """What the access log asks of an exchange that has been answered."""

    method: bytes
    path: bytes
    principal: str
    request_id: str
    received_ns: int
    status: int


def configure_logging(log_format: Literal["text", "json"], level: str) -> None:
    """Write the lines of this program to stderr in ``log_format``, from ``level`` ("debug" … "error") up.

    May be called again. The program's own lines follow ``level``; those of uvicorn and asyncio start at warning.
    """
    handler = _Handler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(lambda record: record.levelno not in _switched_off)
    _switched_off.clear()
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [known for known in logger.handlers if not isinstance(known, _Handler)]
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Change the least severe line written, at any time. Raises ``ValueError`` for an unknown level."""
    logging.getLogger("inferd").setLevel(level.upper())


def is_written(level: int) -> bool:
    """Whether the program's own lines of this level are written."""
    return level not in _switched_off and logging.getLogger("inferd").isEnabledFor(level)


def switch(level: int, *, on: bool) -> None:
    """Write or drop the program's lines of one level from now on; debug's by the least severe level written."""
    logger = logging.getLogger("inferd")
    if on:
        _switched_off.discard(level)
        logger.setLevel(min(logger.level, level))
    elif level == logging.DEBUG:
        logger.setLevel(max(logger.level, logging.INFO))
    else:
        _switched_off.add(level)


def access_line(exchange: Answered, client: tuple[str, int] | None, sent_bytes: int) -> None:
    """Write the access log's line of one answered request; ``client`` is the caller's address and port."""
    took_ms = (monotonic_ns() - exchange.received_ns) / 1e6
    method, path = exchange.method.decode("latin-1"), exchange.path.decode("ascii", "backslashreplace")
    address = f"{client[0]}:{client[1]}" if client else "-"
    _access.info(
        "%s %s %s %d %d bytes %.3f ms",
        *(address, method, path, exchange.status, sent_bytes, took_ms),
        extra={
            "request_id": exchange.request_id,
            "client": address,
            "method": method,
            "path": path,
            "status": exchange.status,
            "principal": exchange.principal,
            "sent_bytes": sent_bytes,
            "took_ms": round(took_ms, 3),
        },
    )


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z WARNING inferd.server: what happened [request id]``.

    A line is a line, whatever stands in the name of a file or in a model's own error.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it when there is one."""
        request_id = _request_id(record)
        where = f" [{request_id}]" if request_id else ""
        line = f"{_time(record)} {record.levelname} {record.name}: {one_line(record.getMessage())}{where}"
        return f"{line}\n{plain_lines(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, exception, and whatever came as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, always without a line break inside."""
        import orjson

        members: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = _request_id(record)
        if request_id:
            members["request_id"] = request_id
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        members |= {name: value for name, value in record.__dict__.items() if name not in _OWN}
        return orjson.dumps(members, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


class _Handler(logging.StreamHandler):
    """To stderr. A type of its own, so that configuring again finds and replaces it."""


def _request_id(record: logging.LogRecord) -> str:
    return getattr(record, "request_id", "") or request_id_context.get()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
