"""The error tree, with transport-neutral codes.

HTTP and gRPC numbers live with the protocols (``protocols/shared/status.py``); nothing here knows a transport.
"""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """Neutral outcome of a request that failed; the names are gRPC's."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"


class InferdError(Exception):
    """Base of everything inferd raises on purpose.

    ``message`` is safe to show to a caller: no path of the server, no traceback. ``details`` are the optional
    members a protocol may show beside it: ``tensor``, ``path`` (a JSON path), ``got``, ``expected``, ``example``,
    ``hint``, ``offset`` (bytes), ``retry_after_s``. Text is kept as UTF-8 has it, halves of surrogate pairs escaped:
    models raise errors too, about what callers sent, and an answer that cannot be written is none.
    """

    code: Code = Code.INTERNAL

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = _as_utf8(str(message))
        self.details = {name: _as_utf8(each) if isinstance(each, str) else each for name, each in details.items()}


def _as_utf8(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class MalformedRequest(InferdError):
    """The body is not what its content type says: not JSON, broken framing, a wrong length."""

    code = Code.INVALID_ARGUMENT


class InvalidRequest(InferdError):
    """Well-formed, but does not fit the model's signature: shape, datatype, missing or unknown input."""

    code = Code.INVALID_ARGUMENT


class InvalidInput(InvalidRequest):
    """Raised by a model's own code to refuse the rows it was given; becomes the caller's error, not the server's."""


class UnsupportedMediaType(InferdError):
    """The content type is one this route does not speak."""

    code = Code.INVALID_ARGUMENT


class NotAcceptable(InferdError):
    """None of the content types the caller accepts can carry this answer."""

    code = Code.INVALID_ARGUMENT


class PayloadTooLarge(InferdError):
    """The body is over the configured limit."""

    code = Code.RESOURCE_EXHAUSTED


class HeadersTooLarge(InferdError):
    """The headers are over the configured limit."""

    code = Code.RESOURCE_EXHAUSTED


class RequestTimeout(InferdError):
    """The caller took too long to send its headers or its body."""

    code = Code.DEADLINE_EXCEEDED


class ModelNotFound(InferdError):
    """No model of that name is known."""

    code = Code.NOT_FOUND


class AmbiguousModel(InferdError):
    """The request names no model, and several are served without a default."""

    code = Code.INVALID_ARGUMENT


class VersionNotFound(InferdError):
    """The model is known, that version of it is not."""

    code = Code.NOT_FOUND


class ExperimentNotFound(InferdError):
    """No experiment of that id."""

    code = Code.NOT_FOUND


class CaptureNotFound(InferdError):
    """No requests of that model are captured."""

    code = Code.NOT_FOUND


class FeedbackNotFound(InferdError):
    """Feedback for a prediction or unit that was never part of an experiment."""

    code = Code.NOT_FOUND


class Expired(InferdError):
    """Feedback that comes after its time."""

    code = Code.NOT_FOUND


class StoreUnavailable(InferdError):
    """The experiments' database does not answer. ``retry_after_s`` says when to come back."""

    code = Code.UNAVAILABLE


class RouteNotFound(InferdError):
    """No route of that path."""

    code = Code.NOT_FOUND


class MethodNotAllowed(InferdError):
    """The route exists, but not for this method."""

    code = Code.UNIMPLEMENTED


class ModelNotReady(InferdError):
    """The version is loading, warming, draining or failed. ``retry_after_s`` says when to come back."""

    code = Code.UNAVAILABLE


class ModelNotLoaded(ModelNotReady):
    """The version is loaded on its first call; ``model`` and ``version`` say which."""

    def __init__(self, model: str, version: int, reason: str = "") -> None:
        why = f" ({reason})" if reason else ""
        super().__init__(
            f"model {model!r} version {version} is loaded on its first call{why}; ask again", retry_after_s=1
        )
        self.model = model
        self.version = version


class Overloaded(InferdError):
    """The queue is full. ``retry_after_s`` is computed from the observed rate of work."""

    code = Code.UNAVAILABLE


class DeadlineExceeded(InferdError):
    """The request's deadline, its time in the queue, or its compute time ran out."""

    code = Code.DEADLINE_EXCEEDED


class Cancelled(InferdError):
    """The caller left before the answer."""

    code = Code.CANCELLED


class LoadFailed(InferdError):
    """A version could not be loaded; the message is the readable reason."""

    code = Code.FAILED_PRECONDITION


class GateFailed(LoadFailed):
    """A version was loaded and does not prove what it must before it is served."""


class OutOfMemory(LoadFailed):
    """A version could not be loaded because there is no memory for it; there may be once others are unloaded."""

    code = Code.RESOURCE_EXHAUSTED


class ConfigError(LoadFailed):
    """A configuration file or setting is wrong; the message names the file, the line and the way out."""


class Conflict(InferdError):
    """What is asked contradicts what is there."""

    code = Code.ALREADY_EXISTS


class Unsupported(InferdError):
    """Known, but not offered by this server or model."""

    code = Code.UNIMPLEMENTED


class MissingExtra(LoadFailed):
    """A framework or library that belongs to an extra is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra that is not installed: pip install 'inferd[{extra}]'", extra=extra)
        self.extra = extra


class Unauthenticated(InferdError):
    """No key, or a key nobody knows."""

    code = Code.UNAUTHENTICATED


class PermissionDenied(InferdError):
    """The key is good, its scopes do not cover this route."""

    code = Code.PERMISSION_DENIED


class QuotaExceeded(InferdError):
    """This key's own quota is used up."""

    code = Code.RESOURCE_EXHAUSTED


class ExecutionFailed(InferdError):
    """The model raised, or answered something that cannot be a result. Details go to the log, not to the caller."""

    code = Code.INTERNAL


class NotFinite(ExecutionFailed):
    """The model answered NaN or infinity, which its NaN policy keeps out of JSON. It is the caller's mistake where an
    input held such a value."""

    def __init__(self, output: str) -> None:
        super().__init__(
            f"output {output!r} holds NaN or infinity, and the model's NaN policy is 'error'; "
            'nan = "null" or nan = "string" in its model.toml would let it through'
        )


class WrongRowCount(ExecutionFailed):
    """The model answered another number of rows than it was given: nobody can be told which rows are theirs."""
