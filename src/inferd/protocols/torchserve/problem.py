"""Word an error as TorchServe does: ``{"code": 404, "type": "ModelNotFoundException", "message": "..."}``."""

from __future__ import annotations

import orjson

from inferd.core import errors
from inferd.protocols.shared.error_member import explain_briefly
from inferd.protocols.shared.status import http_status_plain


class DefaultVersionKept(errors.PermissionDenied):
    """The default version goes last."""


_BAD_REQUEST, _FAILED = "BadRequestException", "InternalServerException"
_TYPES: dict[type[Exception], str] = {
    errors.ModelNotFound: "ModelNotFoundException",
    errors.VersionNotFound: "ModelVersionNotFoundException",
    errors.RouteNotFound: "ResourceNotFoundException",
    errors.MethodNotAllowed: "MethodNotAllowedException",
    errors.Unsupported: "MethodNotAllowedException",
    errors.Conflict: "ConflictStatusException",
    errors.ModelNotReady: "ServiceUnavailableException",
    errors.Overloaded: "ServiceUnavailableException",
    errors.DeadlineExceeded: "ServiceUnavailableException",
    errors.Unauthenticated: "InvalidKeyException",
    errors.PermissionDenied: "InvalidKeyException",
    DefaultVersionKept: "InvalidModelVersionException",
}
"""As TorchServe's clients know them."""


def phrase(error: Exception, request_id: str) -> tuple[int, bytes]:
    """Status and body of ``error``."""
    status = http_status_plain(error)
    usual = _BAD_REQUEST if status < 500 else _FAILED
    kind = next((_TYPES[each] for each in type(error).__mro__ if each in _TYPES), usual)
    return status, orjson.dumps({"code": status, "type": kind, "message": explain_briefly(error, request_id)})
