"""Check a plain value against the type of a dataclass field, and say what is accepted when it does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from sys import float_info
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_MAX_SHOWN = 200
_NAMES = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def field_types(kind: type) -> Mapping[str, Any]:
    """The type of each field of a dataclass."""
    return MappingProxyType(_type_hints(kind))


_type_hints = cache(get_type_hints)  # it compiles each annotation anew


def accepted(hint: Any) -> str:
    """``a whole number``, ``"text" or "json"``, ``a list of text``: what a field of this type takes."""
    hint = inner(hint)
    if get_origin(hint) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of {_NAMES[get_args(hint)[0]].removeprefix('a ')}{'' if get_args(hint)[0] is str else 's'}"
    return _NAMES[hint]


def inner(hint: Any) -> Any:
    """The type without ``| None``."""
    if get_origin(hint) in (Union, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def conform(value: object, hint: Any) -> Any:
    """``value`` as a field of type ``hint`` holds it; a list becomes a tuple and a whole number a float where the
    field wants that. Raises ``ValueError`` naming what is accepted."""
    hint = inner(hint)
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
    elif get_origin(hint) is tuple:
        if isinstance(value, list | tuple):
            return tuple(conform(item, get_args(hint)[0]) for item in value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max:
            return float(value)
    elif type(value) is hint:
        return value
    got = repr(value)
    raise ValueError(f"takes {accepted(hint)}, got {got if len(got) <= _MAX_SHOWN else got[:_MAX_SHOWN] + '…'}")


def parse(text: str, hint: Any) -> Any:
    """``text`` from the environment or the command line as a field of type ``hint`` holds it; a list is separated by
    commas. Raises ``ValueError`` naming what is accepted."""
    hint = inner(hint)
    if hint is bool and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if get_origin(hint) is tuple:
        return tuple(parse(part.strip(), get_args(hint)[0]) for part in text.split(",") if part.strip())
    if hint in (int, float):
        try:
            return conform(hint(text), hint)
        except ValueError:
            pass
    return conform(text, hint)


def suggestion(word: str, known: list[str]) -> str:
    """``; did you mean 'port'?``, or the list of what is known when nothing is near."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
