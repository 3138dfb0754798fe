"""Word an error as OpenAI's API does: ``{"error": {"message": "...", "type": "...", "param": ..., "code": ...}}``."""

from __future__ import annotations

import orjson

from inferd.core import errors
from inferd.protocols.shared.error_member import explain_briefly
from inferd.protocols.shared.status import http_status_plain

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: dict[type[errors.InferdError], str] = {
    errors.ModelNotFound: "model_not_found",
    errors.VersionNotFound: "model_not_found",
    errors.Unauthenticated: "invalid_api_key",
}


def phrase(error: Exception, request_id: str) -> tuple[int, bytes]:
    """Status and body of ``error``."""
    status = http_status_plain(error)
    usual = "invalid_request_error" if status < 500 else "server_error"
    details = error.details if isinstance(error, errors.InferdError) else {}
    code = next((_CODES[each] for each in type(error).__mro__ if each in _CODES), None)
    body = {
        "message": explain_briefly(error, request_id),
        "type": _TYPES.get(status, usual),
        "param": details.get("path") or None,
        "code": code,
    }
    return status, orjson.dumps({"error": body}, default=str)
