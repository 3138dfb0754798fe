"""Try a bandit on made-up traffic whose truth is known, many times over: what it loses while it learns, and how often
the estimates made from what it logged hold the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np

from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.evaluation import Evaluation, PolicyValue, named_policies
from inferd.experiments.bandits.learned import bandit_of, chances, learn, reward_of
from inferd.experiments.definition import Experiment
from inferd.experiments.population import Population
from inferd.experiments.simulation import Progress, Rate, Traffic


@dataclass(frozen=True, slots=True)
class BanditTrials:
    """What happened on average to a run. ``control`` earns that much a unit; the second variant earns ``lift`` more or,
    where the bandit chooses by a context, so much more where the first number of it is above its mean and so much less
    elsewhere; others earn as much as control.

    ``regret`` is what was lost in all to always choosing the best, ``regret_by_weights`` the same of the weights alone,
    and ``best_at_the_end`` the share of the last units that got the best. ``covered_…`` counts the variants whose
    interval held what they earn: those of a planned look at the end, by inverse propensities, normalised and doubly
    robust, and the last one's that holds at any time. ``sound`` says that this broke no promise beyond what chance
    explains, and that the bandit lost less than its weights did where there was something to lose.
    """

    experiment: str
    policy: str
    reward: str
    traffic: Traffic
    delay_days: float
    alpha: float
    control: float
    lift: float
    regret: float
    regret_by_weights: float
    best_at_the_end: float
    covered_weighted: Rate
    covered_normalised: Rate
    covered_robust: Rate
    covered_anytime: Rate
    sound: bool


@dataclass(frozen=True, slots=True)
class _World:
    """What can be earned: populations by variant, where the first number of a context is not above 0 and where it
    is."""

    below: tuple[Population, ...]
    above: tuple[Population, ...]
    goal: float

    @property
    def means(self) -> np.ndarray:
        """FP64[2, arms]: for each half of the contexts."""
        return np.array([[each.metric for each in half] for half in (self.below, self.above)])

    def drawn(self, arm: np.ndarray, is_above: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """FP64[rows]: an outcome of each variant and context."""
        found = np.zeros(len(arm))
        for half, populations in enumerate((self.below, self.above)):
            for number, population in enumerate(populations):
                rows = np.flatnonzero((arm == number) & (is_above == bool(half)))
                units = population.units[rng.integers(0, len(population.units), len(rows))]
                found[rows] = units[:, 0] / units[:, 1]
        return found


@dataclass(slots=True)
class _Run:
    """What one run lost, and what was logged of it."""

    regret: float
    by_weights: float
    best: float
    decisions: Decisions


def simulate_bandit(
    experiment: Experiment,
    population: Population,
    traffic: Traffic,
    lift: float,
    delay_days: float = 0.0,
    progress: Progress = lambda runs: None,
) -> BanditTrials:
    """Let the bandit learn at each look of each run, from rewards that are known ``delay_days`` later. ``progress`` is
    told how many runs are done since the last time."""
    rng = np.random.default_rng([traffic.seed, 2])
    world = _world(experiment, population, lift, rng)
    delay = ceil(delay_days / traffic.days * traffic.looks)
    runs, covered = [], []
    for _ in range(traffic.runs):
        run = _run(experiment, world, traffic, delay, rng)
        covered += _covered(experiment, world, run.decisions)
        runs.append((run.regret, run.by_weights, run.best))
        progress(1)
    regret, by_weights, best = np.mean(runs, axis=0).tolist()
    weighted, normalised, robust, anytime = (_rate([each[kind] for each in covered]) for kind in range(4))
    missed = Rate(anytime.runs - anytime.count, anytime.runs)
    alpha = experiment.analysis.alpha
    return BanditTrials(
        experiment.id,
        bandit_of(experiment).policy,
        bandit_of(experiment).reward,
        traffic,
        delay_days,
        alpha,
        population.metric,
        lift,
        regret,
        by_weights,
        best,
        weighted,
        normalised,
        robust,
        anytime,
        missed.may_be_at_most(alpha) and (by_weights == 0 or regret < by_weights),
    )


def _world(experiment: Experiment, population: Population, lift: float, rng: np.random.Generator) -> _World:
    others = (population,) * (len(experiment.variants) - 2)
    above = (population, population.lifted(lift, rng), *others)
    is_linear = bandit_of(experiment).policy == "linucb"
    below = (population, population.lifted(-lift, rng), *others) if is_linear else above
    return _World(below, above, 1.0 if reward_of(experiment).goal == "increase" else -1.0)


def _run(experiment: Experiment, world: _World, traffic: Traffic, delay: int, rng: np.random.Generator) -> _Run:
    """Look after look: draw contexts, choose, earn, and learn from what is known by then."""
    metric, learned = reward_of(experiment).name, None
    shares, gains = np.array(experiment.shares), world.goal * world.means
    edges = np.linspace(0, traffic.units, traffic.looks + 1).astype(np.int64)
    log = _Log(traffic.units, len(bandit_of(experiment).context), metric)
    regret = by_weights = best = 0.0
    for look, (start, stop) in enumerate(pairwise(edges.tolist())):
        context = rng.normal(size=(stop - start, log.context.shape[1]))
        is_above = context[:, 0] > 0 if context.shape[1] else np.ones(stop - start, bool)
        found = chances(experiment, learned, context)
        arm = (rng.random((stop - start, 1)) > np.cumsum(found, axis=1)[:, :-1]).sum(axis=1)
        log.add(start, arm, found, world.drawn(arm, is_above, rng), context)
        gain = gains[is_above.astype(np.int64)]
        top = gain.max(axis=1)
        lost = top - gain[np.arange(len(arm)), arm]
        regret += lost.sum()
        by_weights += (top - gain @ shares).sum()
        best = float((lost == 0).mean()) if len(arm) else best
        now = learn(experiment, log.decisions(edges[max(0, look + 1 - delay)]))
        learned = now if now.is_news(learned, experiment) else learned
    return _Run(regret, by_weights, best, log.decisions(traffic.units))


class _Log:
    """Rows of one run as they come."""

    def __init__(self, rows: int, width: int, metric: str) -> None:
        self.context = np.zeros((rows, width))
        self._arm, self._propensity, self._value = np.zeros(rows, np.int64), np.zeros(rows), np.zeros(rows)
        self._metric = metric

    def add(self, start: int, arm: np.ndarray, chance: np.ndarray, value: np.ndarray, context: np.ndarray) -> None:
        rows = slice(start, start + len(arm))
        self._arm[rows], self._value[rows], self.context[rows] = arm, value, context
        self._propensity[rows] = chance[np.arange(len(arm)), arm]

    def decisions(self, rows: int) -> Decisions:
        """The first so many."""
        values: Mapping[str, np.ndarray] = {self._metric: self._value[:rows]}
        return Decisions(np.arange(rows), self._arm[:rows], self._propensity[:rows], values, self.context[:rows])


def _covered(experiment: Experiment, world: _World, decisions: Decisions) -> list[tuple[bool, ...]]:
    """Of each variant with enough rewards, whether its intervals hold what it earns."""
    evaluation = Evaluation(experiment, decisions, reward_of(experiment).name)
    policies = [evaluation.value(name, target) for name, target in named_policies(experiment).items()]
    truth = world.means.mean(axis=0)
    return [_holds(found, mean) for found, mean in zip(policies[:-1], truth, strict=True) if found.robust is not None]


def _holds(found: PolicyValue, truth: float) -> tuple[bool, ...]:
    kinds = [each for each in (found.weighted, found.normalised, found.robust) if each is not None]
    ends = [*(each.fixed for each in kinds), kinds[-1].anytime]
    return tuple(each.low <= truth <= each.high for each in ends)


def _rate(held: list[bool]) -> Rate:
    return Rate(int(np.count_nonzero(held)), len(held))
