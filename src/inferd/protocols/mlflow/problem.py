"""Word an error as MLflow does: ``{"error_code": "BAD_REQUEST", "message": "..."}``.

Source: ``mlflow.exceptions`` and the scoring server of MLflow 3. A model that fails is 500 here, not 400; a content
type that is not read has this shape too; and no answer holds a stack trace.
"""

from __future__ import annotations

import orjson

from inferd.core import errors
from inferd.protocols.shared.error_member import explain_briefly
from inferd.protocols.shared.status import http_status_plain

_BAD_REQUEST, _FAILED = "BAD_REQUEST", "INTERNAL_ERROR"
_CODES: dict[type[Exception], str] = {
    errors.InvalidRequest: "INVALID_PARAMETER_VALUE",
    errors.RouteNotFound: "ENDPOINT_NOT_FOUND",
    errors.ModelNotFound: "RESOURCE_DOES_NOT_EXIST",
    errors.VersionNotFound: "RESOURCE_DOES_NOT_EXIST",
    errors.ModelNotReady: "TEMPORARILY_UNAVAILABLE",
    errors.Overloaded: "TEMPORARILY_UNAVAILABLE",
    errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
    errors.Cancelled: "CANCELLED",
    errors.QuotaExceeded: "REQUEST_LIMIT_EXCEEDED",
    errors.Unauthenticated: "UNAUTHENTICATED",
    errors.PermissionDenied: "PERMISSION_DENIED",
    errors.Unsupported: "NOT_IMPLEMENTED",
}


def phrase(error: Exception, request_id: str) -> tuple[int, bytes]:
    """Status and body of ``error``."""
    status = http_status_plain(error)
    usual = _BAD_REQUEST if status < 500 else _FAILED
    code = next((_CODES[each] for each in type(error).__mro__ if each in _CODES), usual)
    return status, orjson.dumps({"error_code": code, "message": explain_briefly(error, request_id)})
