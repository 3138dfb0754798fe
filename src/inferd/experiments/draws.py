"""Draw many runs of an experiment at once, as the sums of products at each look."""

from __future__ import annotations

import numpy as np

from inferd.experiments.population import Population
from inferd.experiments.statistics.moments import Arm, arm_of_gram

_FEW_KINDS = 64
_ROWS_AT_ONCE = 500_000
# Which of the ten sums of products of (1, numerator, denominator, covariate) stands where in their symmetric matrix.
_UPPER = np.triu_indices(4)
_PLACE = np.zeros((4, 4), np.int64)
_PLACE[_UPPER] = _PLACE.T[_UPPER] = np.arange(10)


class Draws:
    """Draws units of one population, with replacement. Where they are of few kinds, as 0 and 1 are, only how many of
    each kind came is drawn."""

    def __init__(self, population: Population) -> None:
        kinds, sizes = np.unique(population.units, axis=0, return_counts=True)
        few = len(kinds) <= _FEW_KINDS
        self._products = _products(kinds if few else population.units)
        self._shares = sizes / sizes.sum() if few else None

    def arms(self, counts: np.ndarray, rng: np.random.Generator) -> Arm:
        """The arm at each look of each run. ``counts`` INT64[runs, looks] are the units that came since the look
        before."""
        if self._shares is not None:
            sums = rng.multinomial(counts, self._shares) @ self._products
        else:
            sums = _drawn(self._products, counts.ravel(), rng).reshape(*counts.shape, -1)
        return arm_of_gram(np.cumsum(sums, axis=1)[..., _PLACE])


def _products(units: np.ndarray) -> np.ndarray:
    """FP64[units, 10]: what each unit adds to the sums."""
    columns = np.column_stack([np.ones(len(units)), units])
    products: np.ndarray = columns[:, _UPPER[0]] * columns[:, _UPPER[1]]
    return products


def _drawn(products: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """FP64[counts, 10]: for each count, the sum over as many rows at random."""
    sums = np.zeros((counts.size, products.shape[1]))
    owner, sizes = _pieces(counts)
    ends = np.cumsum(sizes)
    start = 0
    while start < sizes.size:
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _ROWS_AT_ONCE, "right")))
        some = sizes[start:stop]
        rows = products[rng.integers(0, len(products), some.sum())]
        np.add.at(sums, owner[start:stop], np.add.reduceat(rows, np.cumsum(some) - some))
        start = stop
    return sums


def _pieces(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each count above 0 in pieces small enough to be drawn at once: whose each is, and its size."""
    pieces = -(-counts // _ROWS_AT_ONCE)
    owner = np.repeat(np.arange(counts.size), pieces)
    last = np.cumsum(pieces)[pieces > 0] - 1
    sizes = np.full(owner.size, _ROWS_AT_ONCE)
    sizes[last] = (counts - (pieces - 1) * _ROWS_AT_ONCE)[pieces > 0]
    return owner, sizes
