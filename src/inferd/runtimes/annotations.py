"""Tensors as the arguments and results of a plain Python function: specs from annotations, values both ways."""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

import numpy as np

from inferd.core.errors import ExecutionFailed, InvalidInput, LoadFailed
from inferd.core.tensors import DATATYPES, TensorSpec, datatype_name, describe

Specs = Mapping[str, TensorSpec]

_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)
_TEXT = re.compile(r"\s*([A-Z0-9]+)\s*(?:\[([-\d,\s]*)\])?\s*")
_DATATYPES = {float: "FP64", int: "INT64", bool: "BOOL", str: "BYTES", bytes: "BYTES"}
# How far a kind of Python number reaches: a list of ints may become floats, never the other way round.
_WIDTH = {"b": 0, "i": 1, "u": 1, "f": 2}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a user's function: the tensor it takes, and how that becomes the value the annotation names."""

    spec: TensorSpec
    convert: Callable[[np.ndarray], Any]


def parse_spec(name: str, text: object) -> TensorSpec:
    """The spec written as ``FP32[-1, 4]``; no brackets or empty ones mean a scalar.

    Raises ``LoadFailed`` when ``text`` is not of that form.
    """
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1] not in DATATYPES:
        raise LoadFailed(
            f"{text!r} does not describe the tensor {name!r}; write a datatype and a shape such as 'FP32[-1, 4]' "
            f"(datatypes: {', '.join(DATATYPES)})"
        )
    sizes = [size.strip() for size in (match[2] or "").split(",") if size.strip()]
    return TensorSpec(name, match[1], tuple(int(size) for size in sizes))


def declared_specs(owner: object, attribute: str) -> dict[str, TensorSpec]:
    """What the class or module ``owner`` says in ``inputs = {"x": "FP32[-1, 4]"}``; empty when it says nothing."""
    declared = getattr(owner, attribute, None) or {}
    if not isinstance(declared, Mapping):
        raise LoadFailed(f'{attribute} must be a dict such as {attribute} = {{"x": "FP32[-1, 4]"}}')
    return {name: parse_spec(name, text) for name, text in declared.items()}


def arguments_of(function: Callable[..., Any], declared: Specs, where: str) -> tuple[Argument, ...]:
    """The tensors ``function`` takes, in order; ``declared`` ones win over the annotations.

    ``where`` names the function in messages. An argument called ``parameters`` is the request's and no tensor.
    Raises ``LoadFailed`` saying what to write for an argument of which datatype or shape are unknown.
    """
    hints = _hints(function)
    parameters = _named_parameters(function, where)
    unknown = [name for name in declared if name not in parameters]
    if unknown:
        raise LoadFailed(f"{where} has no argument {unknown[0]!r}; it has {', '.join(parameters) or 'none'}")
    return tuple(
        _argument(parameter, hints.get(name), declared.get(name), where)
        for name, parameter in parameters.items()
        if name != "parameters"
    )


def takes_parameters(function: Callable[..., Any]) -> bool:
    """Whether ``function`` wants the request's parameters, in an argument of that name."""
    return "parameters" in inspect.signature(function).parameters


def results_of(function: Callable[..., Any], declared: Specs, where: str) -> tuple[TensorSpec, ...]:
    """The tensors ``function`` returns: the ``declared`` ones, else what its return annotation says.

    Raises ``LoadFailed`` saying what to write when neither is there.
    """
    if declared:
        return tuple(declared.values())
    annotation = _yielded(_hints(function).get("return"))
    if is_dataclass(annotation) or typing.is_typeddict(annotation) or hasattr(annotation, "_fields"):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return tuple(_result(name, hint, where) for name, hint in hints.items())
    return (_result("output", annotation, where),)


def bind(arguments: Sequence[Argument], inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Keyword arguments for a call; an optional input that did not come keeps the function's default."""
    return {
        argument.spec.name: argument.convert(inputs[argument.spec.name])
        for argument in arguments
        if argument.spec.name in inputs
    }


def collect(specs: Sequence[TensorSpec], result: object, who: str) -> dict[str, np.ndarray]:
    """A function's result as the named tensors of ``specs``: a dict or dataclass by name, anything else the only one.

    ``who`` returned it, in messages. Raises ``ExecutionFailed`` when names, datatype or shape are not the declared.
    """
    if isinstance(result, Mapping):
        named = dict(result)
    elif is_dataclass(result):
        named = {field.name: getattr(result, field.name) for field in fields(result)}
    elif hasattr(result, "_asdict"):
        named = result._asdict()
    elif len(specs) == 1:
        named = {specs[0].name: result}
    else:
        names = ", ".join(spec.name for spec in specs)
        raise ExecutionFailed(f"{who} returned one value where {names} were expected; return a dict")
    needed = {spec.name for spec in specs if not spec.optional}
    if not needed <= named.keys() <= {spec.name for spec in specs}:
        expected = ", ".join(spec.name for spec in specs)
        raise ExecutionFailed(f"{who} returned {', '.join(map(str, named)) or 'an empty dict'}; expected: {expected}")
    return {spec.name: to_tensor(spec, named[spec.name], who) for spec in specs if spec.name in named}


def to_tensor(spec: TensorSpec, value: object, who: str) -> np.ndarray:
    """``value`` as the tensor ``spec`` describes. Arrays change their datatype only without loss; Python's numbers,
    which have no width of their own, take the declared one. Raises ``ExecutionFailed`` when it does not fit."""
    try:
        array = _bytes_array(value) if spec.datatype == "BYTES" else _number_array(spec, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ExecutionFailed(f"{who} returned no {spec.datatype} tensor for {spec.name!r}: {error}") from error
    if not spec.accepts_shape(array.shape):
        got = f"{spec.datatype}{list(array.shape)}"
        raise ExecutionFailed(f"{who} returned {got} for {spec.name!r}, declared as {describe(spec)}")
    return array


def require_rows(specs: Sequence[TensorSpec], where: str) -> None:
    """Raise ``LoadFailed`` unless the first dimension of each spec is the free one of a batch."""
    for spec in specs:
        if spec.shape[:1] != (-1,):
            raise LoadFailed(
                f"{where} says batchable = True, but {spec.name!r} is {describe(spec)}; the first dimension of every "
                f"input and output must be -1, the number of rows"
            )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Resolved annotations; none where a name in them exists for type checkers only."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


def _named_parameters(function: Callable[..., Any], where: str) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(function).parameters)
    for parameter in parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise LoadFailed(f"{where} must name its arguments; {parameter} cannot be passed by name")
    return parameters


def _argument(parameter: inspect.Parameter, hint: Any, declared: TensorSpec | None, where: str) -> Argument:
    optional = parameter.default is not parameter.empty
    spec = declared or _spec(parameter.name, hint)
    if spec is None:
        name = parameter.name
        raise LoadFailed(
            f"{where} does not say the datatype and shape of {name!r}; write "
            f'{name}: Annotated[np.ndarray, "FP32[-1, 4]"], or beside it inputs = {{"{name}": "FP32[-1, 4]"}}, '
            f"or an [[input]] in model.toml"
        )
    bare = _strip(hint)[0]
    if isinstance(bare, type) and bare in _DATATYPES and any(size != 1 for size in spec.shape):
        raise LoadFailed(
            f"{where} takes {parameter.name!r} as one {bare.__name__}, but it is declared {describe(spec)}; "
            f"annotate it list[{bare.__name__}] or np.ndarray"
        )
    return Argument(TensorSpec(spec.name, spec.datatype, spec.shape, optional), _converter(bare))


def _yielded(annotation: Any) -> Any:
    """What each value of ``Iterator[T]``, ``Generator[T, ...]`` and their asynchronous kin is; else the annotation."""
    is_stream = typing.get_origin(annotation) in _STREAMS
    return typing.get_args(annotation)[0] if is_stream else annotation


def _result(name: str, hint: Any, where: str) -> TensorSpec:
    spec = _spec(name, hint)
    if spec is None:
        raise LoadFailed(
            f"{where} does not say the datatype and shape of what it returns ({name!r}); write "
            f'-> Annotated[np.ndarray, "FP32[-1, 3]"], or beside it outputs = {{"{name}": "FP32[-1, 3]"}}, '
            f"or an [[output]] in model.toml"
        )
    return spec


def _strip(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type and the notes of ``Annotated[type, notes...] | None``."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        hint = rest[0] if len(rest) == 1 else None
    if typing.get_origin(hint) is Annotated:
        return hint.__origin__, hint.__metadata__
    return hint, ()


def _spec(name: str, hint: Any) -> TensorSpec | None:
    bare, notes = _strip(hint)
    text = next((note for note in notes if isinstance(note, str)), None)
    if text is not None:
        return parse_spec(name, text)
    if typing.get_origin(bare) is list:
        item = _DATATYPES.get(typing.get_args(bare)[0])
        return TensorSpec(name, item, (-1,)) if item else None
    scalar = _DATATYPES.get(bare) if isinstance(bare, type) else None
    return TensorSpec(name, scalar, ()) if scalar else None


def _converter(bare: Any) -> Callable[[np.ndarray], Any]:
    if bare is str:
        return lambda array: _decode(array.item())
    if bare in (float, int, bool, bytes):
        return lambda array: array.item()
    if typing.get_origin(bare) is list:
        if typing.get_args(bare)[0] is str:
            return lambda array: _DECODE_ALL(array).tolist()
        return lambda array: array.tolist()
    return lambda array: array


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"text must be UTF-8; byte {error.start} is not") from error


def _encode(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise TypeError(f"{type(value).__name__} is neither str nor bytes")


_DECODE_ALL = np.frompyfunc(_decode, 1, 1)
_ENCODE_ALL = np.frompyfunc(_encode, 1, 1)


def _bytes_array(value: object) -> np.ndarray:
    return np.asarray(_ENCODE_ALL(np.asarray(value, dtype=object)), dtype=object)


def _number_array(spec: TensorSpec, value: object) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == spec.dtype:
        return array
    if hasattr(value, "dtype"):
        if not np.can_cast(array.dtype, spec.dtype, "safe"):
            raise TypeError(f"it is {_type_name(array)}, which would lose something; use .astype(np.{spec.dtype})")
        return array.astype(spec.dtype)
    if array.size and _WIDTH.get(array.dtype.kind, 3) > _WIDTH.get(spec.dtype.kind, 2):
        raise TypeError(f"it is {_type_name(array)}")
    return np.asarray(value, dtype=spec.dtype)


def _type_name(array: np.ndarray) -> str:
    try:
        return datatype_name(array.dtype)
    except ValueError:
        return str(array.dtype)
