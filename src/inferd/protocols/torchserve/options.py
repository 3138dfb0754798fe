"""Read the options of a management request, which come as its query or as a JSON object."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from inferd.core.errors import InvalidRequest
from inferd.protocols.shared.json_exact import read_exact
from inferd.protocols.shared.json_tensors import kind_of

_TRUTH = {"true": True, "false": False}


class Options:
    """The options of one request by name; those nobody asks for mean nothing."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        """A text. Raises ``InvalidRequest``, as all of these do."""
        value = self._values.get(name, default)
        if type(value) is not str:
            raise InvalidRequest(f"{name} is {kind_of(value)} where a string is expected")
        return value

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number between ``least`` and ``most``."""
        value = self._values.get(name, default)
        if type(value) is str and value.isascii() and value.removeprefix("-").isdecimal() and len(value) < 10:
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise InvalidRequest(f"{name} takes a whole number from {least} to {most}, got {str(value)[:40]!r}")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._values.get(name, default)
        if type(value) is str:
            value = _TRUTH.get(value.lower(), value)
        if type(value) is not bool:
            raise InvalidRequest(f"{name} takes true or false, got {str(value)[:40]!r}")
        return value


async def read_options(request: Request) -> Options:
    """The query's, and those of a JSON body over them."""
    body = await request.body()
    tree = read_exact(body, non_finite=False) if body else {}
    if type(tree) is not dict:
        raise InvalidRequest(f"the body is {kind_of(tree)} where an object of options is expected")
    return Options({**request.query_params, **tree})
