"""Sums of doubles and of their products without any rounding, so that the parts of a sum may be added in any order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

_HALF_BITS = 27
_SPLITTER = float(2**_HALF_BITS + 1)


def exact_sum(values: np.ndarray) -> Fraction:
    """The sum of finite FP64[n], exact."""
    mantissas, exponents = np.frexp(values)
    return _total(mantissas, exponents)


def exact_dot(left: np.ndarray, right: np.ndarray) -> Fraction:
    """The sum of the products of two finite FP64[n], exact.

    Each product is a rounded double and its error, itself a double (Dekker, *Numerische Mathematik* 18, 1971). That
    holds without overflow because only the mantissas, 0.5 to 1, are multiplied.
    """
    left_mantissas, left_exponents = np.frexp(left)
    right_mantissas, right_exponents = np.frexp(right)
    product = left_mantissas * right_mantissas
    (a, b), (c, d) = _split(left_mantissas), _split(right_mantissas)
    error = ((a * c - product) + a * d + b * c) + b * d
    exponents = left_exponents + right_exponents
    return _total(product, exponents) + _total(error, exponents)


def _split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two doubles of at most 27 bits each whose sum is the value."""
    scaled = values * _SPLITTER
    high = scaled - (scaled - values)
    return high, values - high


def _total(values: np.ndarray, exponents: np.ndarray) -> Fraction:
    """The sum of ``values * 2 ** exponents``, in integers: by exponent, in halves that cannot overflow 64 bits before
    2**36 values."""
    mantissas, shifts = np.frexp(values)
    integers = np.ldexp(mantissas, 53).astype(np.int64)
    shifts = shifts + exponents - 53
    lowest = int(shifts.min(initial=0))
    kinds, which = np.unique(shifts, return_inverse=True)
    halves = np.zeros((2, kinds.size), np.int64)
    np.add.at(halves[0], which, integers >> _HALF_BITS)
    np.add.at(halves[1], which, integers & (2**_HALF_BITS - 1))
    total = sum(
        ((int(high) << _HALF_BITS) + int(low)) << (int(kind) - lowest)
        for kind, high, low in zip(kinds, *halves, strict=True)
    )
    return Fraction(total) * Fraction(2) ** lowest
