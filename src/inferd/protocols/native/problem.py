"""Phrase an error as a problem document (RFC 9457, "Problem Details for HTTP APIs")."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import orjson

from inferd.core.errors import Code, InferdError
from inferd.protocols.shared.status import http_status

CONTENT_TYPE = b"application/problem+json"
_SHOWN = ("tensor", "path", "got", "expected", "hint", "offset", "retry_after_s")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def problem(
    error: BaseException, *, request_id: str, instance_path: str = "", example: object | None = None
) -> tuple[int, bytes]:
    """Status and ``application/problem+json`` body of ``error``.

    ``instance_path`` is the path that was asked. ``example`` is a valid request for the same model, shown where the
    caller's body was at fault, unless the error carries a better one. Anything but an ``InferdError`` becomes a
    500 that tells nothing of the exception.
    """
    status = http_status(error)
    members: dict[str, Any] = {"type": "about:blank", "title": _title(error), "status": status}
    if isinstance(error, InferdError):
        members["type"] = f"urn:inferd:error:{_slug(error)}"
        members["detail"] = error.message
        members["code"] = error.code.value
        members.update((name, error.details[name]) for name in _SHOWN if name in error.details)
        shown = error.details.get("example", example)
        if shown is not None and status in (400, 422):
            members["example"] = shown
    else:
        members["detail"] = "the server failed; the log has the details under this request id"
        members["code"] = Code.INTERNAL.value
    if instance_path:
        members["instance"] = instance_path
    members["request_id"] = request_id
    try:
        return status, _json(members)
    except TypeError:  # a model may give any details, and JSON has neither halves of surrogate pairs nor huge integers
        return status, _json({name: value for name, value in members.items() if name not in (*_SHOWN, "example")})


def _json(members: dict[str, Any]) -> bytes:
    return orjson.dumps(members, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _title(error: BaseException) -> str:
    if isinstance(error, InferdError):
        return _slug(error).replace("-", " ").capitalize()
    return HTTPStatus.INTERNAL_SERVER_ERROR.phrase


def _slug(error: InferdError) -> str:
    return _WORDS.sub("-", type(error).__name__).lower()
