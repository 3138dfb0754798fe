"""Read the JSON body of a cold route; what does not fit is refused with its place in the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from inferd.core.errors import InferdError, InvalidRequest, UnsupportedMediaType
from inferd.core.toml_file import dotted
from inferd.protocols.shared.json_exact import read_exact
from inferd.protocols.shared.json_members import MAX_SHOWN
from inferd.protocols.shared.json_tensors import show
from inferd.protocols.shared.media import JSON_HINT

_Body = TypeVar("_Body", bound=BaseModel)


async def read_json(request: Request) -> Any:
    """The body's value. Raises ``UnsupportedMediaType`` for another content type and ``MalformedRequest``."""
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(
            f"the content type is {content_type[:100]!r} where application/json is expected",
            expected="application/json",
            **JSON_HINT,
        )
    return read_exact(await request.body(), non_finite=False)


def fit(model: type[_Body], value: Any, *place: str | int) -> _Body:
    """``value``, which stands at ``place`` in the body, as a ``model``. Raises ``InvalidRequest``."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(error.errors(), *place) from None


def refusal(errors: Sequence[Mapping[str, Any]], *place: str | int) -> InferdError:
    """The first of pydantic's ``errors``; their ``loc`` continues ``place``."""
    first = errors[0]
    if isinstance(first.get("input"), bytes):  # FastAPI reads only what is declared as JSON
        needed = "application/json"
        return UnsupportedMediaType(f"the body needs the content type {needed}", expected=needed, **JSON_HINT)
    path = dotted((*place, *first["loc"]))
    reason = first["msg"].removeprefix("Value error, ")
    message = f"{path}: {reason}" if path else reason
    return InvalidRequest(message, path=path[:MAX_SHOWN], got=show(first.get("input")))
