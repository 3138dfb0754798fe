"""How one answer of a model differs from another: values within tolerance, labels, the classes ranked highest.

A label is what an output without floats holds in a row. Where a model has no such output, it is the class ranked
highest in a row of each float output of two dimensions and at least two columns. Classes are ranked by value, NaN
as minus infinity, equal values by index. Rows run along the first dimension; an output without dimensions is one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from inferd.core.tensors import datatype_name

Outputs = Mapping[str, np.ndarray]

_NUMBERS = "iubf"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of how many rows how many agree. Adds up, as counts do; a sum of shares would not."""

    agreeing: int = 0
    rows: int = 0

    @property
    def share(self) -> float | None:
        """Share of rows that agree; None where there is no row to judge."""
        return self.agreeing / self.rows if self.rows else None

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.agreeing + other.agreeing, self.rows + other.rows)


@dataclass(frozen=True, slots=True)
class Difference:
    """How an answer differs from the one that was expected.

    ``reason`` is one line about the output that differs most, "" when everything is within tolerance. ``largest`` is
    the largest absolute difference in any float output: 0 between NaN and NaN, infinite between NaN and a number, None
    where no float output can be compared. ``labels`` counts the rows of each output that holds labels. ``top_k`` counts
    those of each float output of two dimensions with more than k columns: a row agrees when the same k classes are
    ranked highest, in any order.
    """

    reason: str
    largest: float | None
    labels: Agreement
    top_k: Agreement

    @property
    def equal(self) -> bool:
        """Whether everything that was expected is there, within tolerance."""
        return not self.reason


class _OutputDifference(NamedTuple):
    """``share`` of the values are wrong; 1 for an output that cannot be compared."""

    share: float
    reason: str
    largest: float | None


def compare_answers(expected: Outputs, got: Outputs, *, rtol: float, atol: float, top_k: int = 5) -> Difference:
    """Hold ``got`` against ``expected``. Outputs that nobody expected are not looked at.

    Floats may differ by ``atol + rtol * |expected|``, and NaN is equal to NaN; all else is equal or not. An output that
    is missing, or has another shape or datatype, differs. Pure; any thread may call it.
    """
    found = [_compare_output(name, array, got.get(name), rtol, atol) for name, array in expected.items()]
    worst = max((each for each in found if each.reason), key=lambda each: each.share, default=None)
    distances = [each.largest for each in found if each.largest is not None]
    return Difference(
        worst.reason if worst else "",
        max(distances, default=None),
        _label_agreement(expected, got),
        sum((_top_agreement(array, got.get(name), top_k) for name, array in expected.items()), Agreement()),
    )


def explain_difference(expected: np.ndarray, got: np.ndarray, rtol: float, atol: float) -> str:
    """How many values of ``got`` are not those ``expected``, and the worst of them; "" when there is none. Datatypes
    may differ."""
    return _compare_values(expected, got, rtol, atol).reason


def unequal_rows(expected: Outputs, got: Outputs, *, rtol: float, atol: float) -> list[int] | None:
    """Which rows of ``got`` differ in any output, as ``compare_answers`` says; None where the answers are not made of
    the same rows."""
    wrong: np.ndarray | None = None
    for name, array in expected.items():
        other = got.get(name)
        if other is None or other.shape != array.shape or _datatype(other) != _datatype(array):
            return None
        values = np.atleast_1d(_wrong_values(array, other, rtol, atol)[0])
        rows: np.ndarray = np.asarray(values.any(axis=tuple(range(1, values.ndim))))
        if wrong is not None and wrong.size != rows.size:
            return None
        wrong = rows if wrong is None else wrong | rows
    return [] if wrong is None else [int(row) for row in np.flatnonzero(wrong)]


def _compare_output(
    name: str, expected: np.ndarray, got: np.ndarray | None, rtol: float, atol: float
) -> _OutputDifference:
    if got is None:
        return _OutputDifference(1.0, f"output {name!r} is missing", None)
    share, reason, largest = _compare_values(expected, got, rtol, atol)
    wanted, found = _datatype(expected), _datatype(got)
    if wanted != found:
        share, reason = 1.0, f"is {found} where {wanted} is expected"
    return _OutputDifference(share, f"output {name!r} {reason}" if reason else "", largest)


def _compare_values(expected: np.ndarray, got: np.ndarray, rtol: float, atol: float) -> _OutputDifference:
    if expected.shape != got.shape:
        return _OutputDifference(1.0, f"has shape {list(got.shape)} where {list(expected.shape)} is expected", None)
    wrong, distance, exact = _wrong_values(expected, got, rtol, atol)
    largest = None if exact else float(distance.max(initial=0.0))
    count = np.count_nonzero(wrong)
    if not count:
        return _OutputDifference(0.0, "", largest)
    where = np.unravel_index(int(np.argmax(np.where(wrong, distance, -1.0))), wrong.shape)
    place = f" at {[int(index) for index in where]}" if where else ""
    bounds = "" if exact else f" beyond rtol {rtol:g} and atol {atol:g}"
    values = _show(expected[where]), _show(got[where])
    if values[0] == values[1]:
        values = str(expected[where]), str(got[where])
    reason = (
        f"differs in {count} of {wrong.size} values{bounds}; the worst{place}: expected {values[0]}, got {values[1]}"
    )
    return _OutputDifference(count / wrong.size, reason, largest)


def _wrong_values(
    expected: np.ndarray, got: np.ndarray, rtol: float, atol: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Of two arrays of one shape which values are wrong and by how much, and whether they must be equal exactly."""
    if not (is_float(expected) and (is_float(got) or got.dtype.kind in _NUMBERS)):
        wrong = _unequal(expected, got)
        return wrong, wrong.astype(np.float64), True
    wide, other = expected.astype(np.float64), got.astype(np.float64)
    return ~np.isclose(other, wide, rtol=rtol, atol=atol, equal_nan=True), _distance(wide, other), False


def _distance(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(got - expected)
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))  # infinity less infinity is no number
    return np.where(same, 0.0, np.nan_to_num(distance, nan=np.inf, posinf=np.inf))


def _unequal(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Where two arrays of one shape differ: numbers by value, all else by its text."""
    if expected.dtype.kind in _NUMBERS and got.dtype.kind in _NUMBERS:
        return np.asarray(expected != got)
    return np.asarray(_as_text(expected) != _as_text(got), dtype=bool)


def _label_agreement(expected: Outputs, got: Outputs) -> Agreement:
    names = [name for name, array in expected.items() if not is_float(array)]
    if names:
        return sum((_equal_rows(expected[name], got.get(name)) for name in names), Agreement())
    return sum((_top_agreement(array, got.get(name), 1) for name, array in expected.items()), Agreement())


def _equal_rows(expected: np.ndarray, got: np.ndarray | None) -> Agreement:
    rows = len(np.atleast_1d(expected))
    if got is None or got.shape != expected.shape:
        return Agreement(0, rows)
    wrong = np.atleast_1d(_unequal(expected, got))
    return Agreement(rows - int(np.count_nonzero(wrong.any(axis=tuple(range(1, wrong.ndim))))), rows)


def _top_agreement(expected: np.ndarray, got: np.ndarray | None, k: int) -> Agreement:
    if not _ranks_classes(expected, k):
        return Agreement()
    rows = len(expected)
    if got is None or not _ranks_classes(got, k) or len(got) != rows:
        return Agreement(0, rows)
    return Agreement(int(np.count_nonzero((_top(expected, k) == _top(got, k)).all(axis=1))), rows)


def _ranks_classes(array: np.ndarray, k: int) -> bool:
    return is_float(array) and array.ndim == 2 and array.shape[1] > k


def _top(array: np.ndarray, k: int) -> np.ndarray:
    """Of each row the indices of its ``k`` largest values, ascending; without a sort, for models of many classes."""
    values = array.astype(np.float64)
    values[np.isnan(values)] = -np.inf
    least = -np.partition(-values, k - 1, axis=1)[:, k - 1 : k]
    above, level = values > least, values == least
    level &= np.cumsum(level, axis=1) <= k - np.count_nonzero(above, axis=1, keepdims=True)
    return np.nonzero(above | level)[1].reshape(-1, k)


def is_float(array: np.ndarray) -> bool:
    """Whether ``array`` holds floats, BF16 among them."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _datatype(array: np.ndarray) -> str:
    try:
        return datatype_name(array.dtype)
    except ValueError:
        return str(array.dtype)


def _as_text(array: np.ndarray) -> np.ndarray:
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    result = np.empty(len(texts), dtype=object)
    result[:] = texts
    return result.reshape(array.shape)


def _show(value: object) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bytes):
        return repr(value.decode("utf-8", "replace"))
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


class Differences:
    """Many differences, added up: ``equal`` of ``compared`` answers are within tolerance; the rest as in each."""

    __slots__ = ("compared", "equal", "labels", "largest", "top_k")

    def __init__(self, differences: Iterable[Difference] = ()) -> None:
        self.compared = 0
        self.equal = 0
        self.largest: float | None = None
        self.labels = Agreement()
        self.top_k = Agreement()
        for difference in differences:
            self.add(difference)

    def add(self, difference: Difference) -> None:
        """Count one more."""
        self.compared += 1
        self.equal += difference.equal
        self.labels += difference.labels
        self.top_k += difference.top_k
        if difference.largest is not None:
            self.largest = max(difference.largest, self.largest or 0.0)
