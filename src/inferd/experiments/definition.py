"""What an experiment is: frozen values, the same whether read from a file or made by a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["mean", "proportion", "ratio", "quantile"]
Correction = Literal["holm", "benjamini-hochberg", "none"]
Mode = Literal["fixed", "ramp", "shadow", "bandit"]
Policy = Literal["epsilon-greedy", "thompson", "ucb1", "linucb"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm. ``target`` is ``model``, ``model@3`` or ``model@label``; its share is ``weight`` over all weights."""

    name: str
    target: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Targeting:
    """A condition on the caller: ``header`` (any case) or ``attribute`` must hold one of these texts."""

    one_of: tuple[str, ...]
    header: str = ""
    attribute: str = ""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A slice, from ``start`` up to but without ``end``, of all units. Experiments whose slices of one namespace do not
    overlap never share a unit."""

    name: str
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True)
class Holdout:
    """A share of all units that sees none of the experiments that name this holdout."""

    share: float
    name: str = "global"


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured, from columns of the outcome log.

    ``mean`` and ``proportion`` (outcomes 0 or 1) average ``column`` over outcomes; ``ratio`` divides the sum of
    ``column`` by the sum of ``denominator``; ``quantile`` is the ``quantile`` of ``column``. ``covariate`` is a column
    known before exposure that predicts the metric. ``min_effect`` is the smallest relative change worth finding.
    ``baseline`` and ``deviation`` (of one unit) describe the metric to a simulation that has no log.
    """

    name: str
    kind: Kind
    column: str = ""
    denominator: str = ""
    quantile: float = 0.5
    goal: Literal["increase", "decrease"] = "increase"
    covariate: str = ""
    min_effect: float | None = None
    baseline: float | None = None
    deviation: float | None = None


@dataclass(frozen=True, slots=True)
class Guardrail:
    """What a metric must not do: get worse by more than ``margin`` of control's, or, where ``limit`` is given instead,
    be on the wrong side of that value, whatever control's is. ``action`` is what a ramp does when it is broken."""

    metric: str
    margin: float | None = None
    limit: float | None = None
    action: Literal["rollback", "hold", "notify"] = "rollback"


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a ramp: ``coverage`` of all units take part, for at least ``minutes`` and until each variant has been
    seen by ``units`` units since the experiment began."""

    coverage: float
    minutes: float = 0.0
    units: int = 0


@dataclass(frozen=True, slots=True)
class Ramp:
    """How the steps are climbed. The data are looked at every ``every_s``; after the last step the treated variant goes
    to everyone by the model's ``label``, or by being served alone, unless ``finish`` leaves that to a person. Each
    decision is posted to ``webhook``."""

    every_s: float = 60.0
    finish: Literal["promote", "hold"] = "promote"
    label: str = ""
    webhook: str = ""


@dataclass(frozen=True, slots=True)
class Shadow:
    """How requests are run a second time. In mode ``shadow`` control answers, and every other variant is its shadow; in
    the others control is the shadow of whichever treated variant answered.

    ``sample`` is the share of requests; at most ``max_concurrency`` of a variant's run or are compared at once, the
    rest is shed. Floats may differ by ``atol + rtol * |control's|``; the ``top_k`` highest ranked classes are compared
    too. Of at most ``keep`` disagreements inputs and outputs are kept, without the tensors named in ``redact``.
    """

    sample: float = 1.0
    max_concurrency: int = 8
    rtol: float = 1e-3
    atol: float = 1e-4
    top_k: int = 5
    keep: int = 100
    redact: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bandit:
    """How a bandit learns. ``reward`` is the metric that it makes as good as it can. The share ``explore`` of requests
    goes by the variants' weights, and all of them do until each variant has ``warm_up`` rewards; the rest goes by
    ``policy``. What was earned is looked at every ``every_s``. ``span`` holds the least and the highest reward that
    ucb1 counts with; ``context`` names numbers of a request, ``header:NAME`` or ``parameter:NAME``, that are logged and
    that linucb chooses by, and ``width`` is that of its confidence bounds."""

    reward: str
    policy: Policy = "thompson"
    explore: float = 0.1
    every_s: float = 60.0
    warm_up: int = 30
    span: tuple[float, ...] = ()
    context: tuple[str, ...] = ()
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class Analysis:
    """How outcomes are judged. ``tuning_units`` is the number of units at which the anytime-valid interval is tightest;
    it must be fixed before data are seen."""

    alpha: float = 0.05
    power: float = 0.8
    correction: Correction = "holm"
    tuning_units: int = 5000
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question put to live traffic. The first variant is the control. ``unit`` says what is kept together:
    ``header:NAME``, ``cookie:NAME``, ``parameter:NAME``, ``api-key`` or ``request-id``; ``salt`` makes its split
    independent of other experiments'. With a ``ramp`` its ``steps`` say the coverage. In mode ``shadow`` control
    answers everyone; a ``bandit`` begins with the weights and changes them."""

    id: str
    model: str
    unit: str
    salt: str
    variants: tuple[Variant, ...]
    coverage: float = 1.0
    mode: Mode = "fixed"
    namespace: Namespace | None = None
    holdout: Holdout | None = None
    targeting: tuple[Targeting, ...] = ()
    metrics: tuple[Metric, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    ramp: Ramp | None = None
    steps: tuple[Step, ...] = ()
    shadow: Shadow | None = None
    bandit: Bandit | None = None
    analysis: Analysis = field(default_factory=Analysis)

    @property
    def control(self) -> Variant:
        """The variant the others are compared with."""
        return self.variants[0]

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each variant among assigned units, in order."""
        if self.mode == "shadow":
            return (1.0, *(0.0 for _ in self.variants[1:]))
        total = sum(variant.weight for variant in self.variants)
        return tuple(variant.weight / total for variant in self.variants)
