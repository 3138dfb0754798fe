"""The one table from error classes to HTTP statuses, and from neutral codes to those of gRPC."""

from __future__ import annotations

from inferd.core import errors

HTTP_STATUS: dict[type[errors.InferdError], int] = {
    errors.MalformedRequest: 400,
    errors.InvalidRequest: 422,
    errors.InvalidInput: 422,
    errors.UnsupportedMediaType: 415,
    errors.NotAcceptable: 406,
    errors.PayloadTooLarge: 413,
    errors.HeadersTooLarge: 431,
    errors.RequestTimeout: 408,
    errors.AmbiguousModel: 400,
    errors.ModelNotFound: 404,
    errors.VersionNotFound: 404,
    errors.ExperimentNotFound: 404,
    errors.CaptureNotFound: 404,
    errors.FeedbackNotFound: 404,
    errors.Expired: 410,
    errors.StoreUnavailable: 503,
    errors.RouteNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.ModelNotReady: 503,
    errors.ModelNotLoaded: 503,
    errors.Overloaded: 503,
    errors.DeadlineExceeded: 504,
    errors.Cancelled: 499,
    errors.LoadFailed: 400,
    errors.OutOfMemory: 507,
    errors.GateFailed: 400,
    errors.ConfigError: 400,
    errors.MissingExtra: 400,
    errors.Conflict: 409,
    errors.Unsupported: 501,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.QuotaExceeded: 429,
    errors.ExecutionFailed: 500,
    errors.NotFinite: 500,
    errors.WrongRowCount: 500,
}
GRPC_STATUS: dict[errors.Code, int] = {
    errors.Code.CANCELLED: 1,
    errors.Code.INVALID_ARGUMENT: 3,
    errors.Code.DEADLINE_EXCEEDED: 4,
    errors.Code.NOT_FOUND: 5,
    errors.Code.ALREADY_EXISTS: 6,
    errors.Code.PERMISSION_DENIED: 7,
    errors.Code.RESOURCE_EXHAUSTED: 8,
    errors.Code.FAILED_PRECONDITION: 9,
    errors.Code.UNIMPLEMENTED: 12,
    errors.Code.INTERNAL: 13,
    errors.Code.UNAVAILABLE: 14,
    errors.Code.UNAUTHENTICATED: 16,
}
"""Numbers: gRPC, "Status codes and their use in gRPC"."""


def http_status(error: BaseException) -> int:
    """The status of ``error`` on the native routes; a class without a row takes its parent's, anything else is 500.
    499 is for the log only: the caller it would go to has left."""
    return next((HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS), 500)


def http_status_plain(error: BaseException) -> int:
    """The status for protocols that know no 422 (Open Inference Protocol, TF Serving, TorchServe)."""
    status = http_status(error)
    return 400 if status == 422 else status
