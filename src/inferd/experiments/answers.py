"""Whether a variant answers like control: the distribution of what predictions said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inferd.experiments.columns import SCORE, Columns
from inferd.experiments.definition import Experiment
from inferd.experiments.statistics.distance import label_distance, score_distance

SHUFFLES = 200
TOP_LABELS = 10


@dataclass(frozen=True, slots=True)
class Answers:
    """What the predictions of one variant said: ``label`` [n], a text or ``None``, ``score`` FP64[n], not a number
    where there is a label, and INT64[n] which of its ``units`` each belongs to."""

    label: np.ndarray
    score: np.ndarray
    owner: np.ndarray
    units: int

    def __add__(self, other: Answers) -> Answers:
        """Those of disjoint sets of units together."""
        return Answers(
            np.concatenate([self.label, other.label]),
            np.concatenate([self.score, other.score]),
            np.concatenate([self.owner, other.owner + self.units]),
            self.units + other.units,
        )


@dataclass(frozen=True, slots=True)
class LabelShare:
    """How often a label was answered, by control and by the variant."""

    label: str
    control: float
    treated: float


@dataclass(frozen=True, slots=True)
class AnswerComparison:
    """How far the answers of ``variant`` are from control's, between 0 and 1. ``by_chance`` is what 95% of pairs stay
    below that do not differ, for a look planned in advance; ``shares`` are the most frequent labels."""

    variant: str
    kind: Literal["label", "score"]
    control_answers: int
    treated_answers: int
    distance: float
    by_chance: float
    differs: bool
    shares: tuple[LabelShare, ...] = ()


def answers_of(columns: Columns, wanted: np.ndarray) -> Answers:
    """The answers of the units that BOOL[units] ``wanted`` marks."""
    score = columns.named(SCORE)
    label = np.full(len(score), None) if columns.label is None else columns.label
    said = (~np.isnan(score) | (label != np.array(None))) & wanted[columns.unit]
    units, owner = np.unique(columns.unit[said], return_inverse=True)
    return Answers(label[said], score[said], owner, len(units))


def compare_answers(experiment: Experiment, arms: tuple[Answers, ...]) -> tuple[AnswerComparison, ...]:
    """Each variant against control, for labels and for scores where both have such."""
    found = []
    for variant, treated in zip(experiment.variants[1:], arms[1:], strict=True):
        for kind in ("label", "score"):
            pair = _of_kind(arms[0], kind), _of_kind(treated, kind)
            if all(len(values) for values, _, _ in pair):
                found.append(_compare(variant.name, kind, *pair, experiment.analysis.seed))
    return tuple(found)


_Side = tuple[np.ndarray, np.ndarray, int]


def _of_kind(arm: Answers, kind: Literal["label", "score"]) -> _Side:
    """Values, owners and the number of units."""
    keep = ~np.isnan(arm.score) if kind == "score" else arm.label != np.array(None)
    return getattr(arm, kind)[keep], arm.owner[keep], arm.units


def _compare(
    variant: str, kind: Literal["label", "score"], control: _Side, treated: _Side, seed: int
) -> AnswerComparison:
    values = np.concatenate([control[0], treated[0]])
    owner = np.concatenate([control[1], treated[1] + control[2]])
    is_treated = np.arange(control[2] + treated[2]) >= control[2]
    measure = label_distance if kind == "label" else score_distance
    found = measure(values, owner, is_treated, SHUFFLES, seed)
    return AnswerComparison(
        variant,
        kind,
        len(control[0]),
        len(treated[0]),
        found.distance,
        found.by_chance,
        found.distance > found.by_chance,
        _shares(control[0], treated[0]) if kind == "label" else (),
    )


def _shares(control: np.ndarray, treated: np.ndarray) -> tuple[LabelShare, ...]:
    one, other = Counter(control.tolist()), Counter(treated.tolist())
    return tuple(
        LabelShare(label, one[label] / len(control), other[label] / len(treated))
        for label, _ in (one + other).most_common(TOP_LABELS)
    )
