"""Choose the variant of one request of a bandit, by a chance that is known exactly.

Hot where a model has such an experiment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from inferd.abc import Exchange
from inferd.experiments.assignment import BUCKETS, bucket
from inferd.experiments.bandits.learned import Learned, bandit_of
from inferd.experiments.bandits.linear import Scorer
from inferd.experiments.bandits.policies import dealt, explored
from inferd.experiments.definition import Experiment, Variant
from inferd.experiments.unit import parameters_of


class Choice(NamedTuple):
    """What a request gets, the chance with which it got that, and what it was chosen by."""

    variant: Variant
    propensity: float
    context: tuple[float, ...] = ()


class Chooser:
    """``learned`` is what is gone by; without it, and for a request that lacks a part of the context, the weights
    are."""

    def __init__(self, experiment: Experiment, learned: Learned | None) -> None:
        bandit = bandit_of(experiment)
        self._variants = experiment.variants
        self._salt = f"{experiment.salt}:variant"
        self._read = [_reader(name) for name in bandit.context]
        self._by_weight = _Deal(dealt(experiment.shares))
        self._usual = self._by_weight
        self._scorer: Scorer | None = None
        if learned is not None and learned.linear is not None:
            self._scorer = Scorer(learned.linear)
        elif learned is not None:
            self._usual = _Deal(learned.buckets)
        shares = np.array(experiment.shares)
        self._by_best = [_Deal(dealt(explored(each, shares, bandit.explore))) for each in np.eye(len(shares))]

    def choose(self, exchange: Exchange, draw: str) -> Choice:
        """``draw`` is hashed: what is chosen is the same for the same text, and at random for a new one."""
        context = tuple(read(exchange) for read in self._read)
        deal = self._usual if self._scorer is None else self._dealt(self._scorer, context)
        arm, propensity = deal.at(bucket(self._salt, draw))
        return Choice(self._variants[arm], propensity, context)

    def _dealt(self, scorer: Scorer, context: tuple[float, ...]) -> _Deal:
        if any(map(isnan, context)):
            return self._by_weight
        return self._by_best[int(scorer.scores(np.array([context])).argmax())]


class _Deal:
    """How the buckets are dealt out to the variants, in order."""

    __slots__ = ("_bounds", "_propensities")

    def __init__(self, buckets: tuple[int, ...]) -> None:
        self._bounds = list(accumulate(buckets))
        self._propensities = [each / BUCKETS for each in buckets]

    def at(self, place: int) -> tuple[int, float]:
        """Whose a bucket is, and the chance of that."""
        arm = bisect_right(self._bounds, place)
        return arm, self._propensities[arm]


def _reader(source: str) -> Callable[[Exchange], float]:
    """What reads ``header:NAME`` or ``parameter:NAME`` as a number; not a number where it is none."""
    kind, _, name = source.partition(":")
    if kind == "parameter":
        return lambda exchange: _number(parameters_of(exchange).get(name))
    key = name.lower().encode("latin-1")
    return lambda exchange: _number(exchange.headers.get(key))


def _number(value: object) -> float:
    """Booleans are 0 and 1; what is not finite, or beyond 1e30, is not a number."""
    if not isinstance(value, int | float | str | bytes):
        return nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return nan
    return number if abs(number) <= 1e30 else nan
