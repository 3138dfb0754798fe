"""Members of a JSON body that every protocol has: parameters, and the words for those that do not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

import orjson

from inferd.core.errors import InvalidRequest
from inferd.protocols.shared.json_tensors import Path, kind_of, show

MAX_SHOWN = 100


def read_parameters(parameters: Any, member: str = "parameters") -> Mapping[str, Any]:
    """As ``orjson`` reads them, whichever reader came before, so that values do not depend on the path taken.
    ``member`` is what the body calls them.

    Raises ``InvalidRequest`` for anything but an object, and for a number out of range.
    """
    if type(parameters) is not dict:
        refuse(f"{member} is {kind_of(parameters)} where an object is expected", member, parameters)
    try:
        return orjson.loads(json.dumps(parameters, allow_nan=False))  # type: ignore[no-any-return]
    except (ValueError, TypeError):
        raise InvalidRequest(f"{member} holds a number out of range", path=member) from None


def at(prefix: str, index: tuple[int, ...]) -> str:
    """``prefix[1][2]``: an element's place in the body."""
    return prefix + "".join(f"[{position}]" for position in index)


def prefixed(prefix: str) -> Path:
    """The places of the elements of a tensor that stands at ``prefix``."""
    return lambda index: at(prefix, index)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or nothing when no known name is near."""
    close = get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def refuse(message: str, path: str, got: Any) -> NoReturn:
    """Raise ``InvalidRequest`` about the value ``got`` at ``path``."""
    raise InvalidRequest(message, path=path[:MAX_SHOWN], got=show(got))
