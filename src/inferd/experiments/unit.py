"""Find the unit of a request: what an experiment keeps together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

import orjson

from inferd.abc import Exchange

UnitOf = Callable[[Exchange], str]


def unit_reader(unit: str) -> UnitOf:
    """What reads the unit that ``Experiment.unit`` names; it gives "" when the request does not carry one."""
    kind, _, name = unit.partition(":")
    if kind == "header":
        key = name.lower().encode("latin-1")
        return lambda exchange: exchange.headers.get(key, b"").decode("utf-8", "surrogateescape")
    if kind == "cookie":
        return lambda exchange: _cookie(exchange.headers.get(b"cookie", b""), name)
    if kind == "parameter":
        return lambda exchange: _text(parameters_of(exchange).get(name))
    if kind == "api-key":
        return lambda exchange: exchange.principal
    return lambda exchange: ""


def parameters_of(exchange: Exchange) -> Mapping[str, Any]:
    """The ``parameters`` of a JSON body; nothing when there are none or the body cannot be read, which its own codec
    will say."""
    length = exchange.headers.get(b"inference-header-content-length", b"")
    body = exchange.body[: int(length)] if length.isdigit() and len(length) < 20 else exchange.body
    try:
        tree = orjson.loads(body)
    except ValueError:
        return {}
    found = tree.get("parameters") if type(tree) is dict else None
    return found if type(found) is dict else {}


def _cookie(header: bytes, name: str) -> str:
    try:
        cookies = SimpleCookie(header.decode("latin-1"))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


def _text(value: Any) -> str:
    """A parameter as the text that is hashed: 7 and "7" are one unit."""
    if type(value) is str:
        return value
    return "" if value is None or type(value) in (bool, dict, list, float) else str(value)
