"""Judge a running experiment by what its store holds now. Blocking; never called on the event loop."""

from __future__ import annotations

from dataclasses import replace

from inferd.experiments.bandits.learned import Learned, learn, reward_of
from inferd.experiments.bandits.report import BanditReport, bandit_report, compared_metrics
from inferd.experiments.definition import Experiment
from inferd.experiments.log import EventLog
from inferd.experiments.ramp import Evidence, evidence_of
from inferd.experiments.report import Report, report
from inferd.experiments.shadow_report import ShadowReport, compare_shadows, shadow_report
from inferd.experiments.store import Store
from inferd.experiments.summary import Summary, summarise

FLUSH_TIMEOUT_S = 5.0


class Judge:
    """All raise ``StoreUnavailable``. ``since_ms`` counts from 1970: what came before is left out."""

    def __init__(self, log: EventLog, store: Store) -> None:
        self._log = log
        self._store = store

    def report(self, experiment: Experiment, since_ms: int) -> Report | ShadowReport | BanditReport:
        """What the data say now."""
        if experiment.mode == "shadow":
            self._log.flush(FLUSH_TIMEOUT_S)
            return shadow_report(experiment, self._store.shadows(experiment, since_ms))
        found: Report | BanditReport
        if experiment.mode == "bandit":
            self._log.flush(FLUSH_TIMEOUT_S)
            found = bandit_report(experiment, self._store.decisions(experiment, compared_metrics(experiment)))
        else:
            found = report(experiment, self._summary(experiment, since_ms))
        if experiment.shadow is None:
            return found
        return replace(found, shadows=compare_shadows(experiment, self._store.shadows(experiment, since_ms)))

    def evidence(self, experiment: Experiment, since_ms: int) -> Evidence:
        """What a ramp needs to know of them."""
        return evidence_of(experiment, self._summary(experiment, since_ms))

    def learned(self, experiment: Experiment) -> Learned:
        """What the rewards of a bandit teach."""
        self._log.flush(FLUSH_TIMEOUT_S)
        return learn(experiment, self._store.decisions(experiment, [reward_of(experiment)]))

    def _summary(self, experiment: Experiment, since_ms: int) -> Summary:
        self._log.flush(FLUSH_TIMEOUT_S)
        return summarise(experiment, self._store.columns(experiment, since_ms))
