"""The records of all models: which stand for a version now, and which are over."""

from __future__ import annotations

from pathlib import Path

from inferd.core.lifecycle import VersionState
from inferd.repository.desired import WantedModel
from inferd.repository.record import VersionRecord
from inferd.serving.table import VersionStatus

_OVER = (VersionState.UNLOADED, VersionState.FAILED)
_GOING = frozenset({VersionState.DRAINING, VersionState.UNLOADING, VersionState.UNLOADED})


class VersionRecords:
    """By model, those of one model by version. Used on the loop's thread only."""

    def __init__(self) -> None:
        self._by_model: dict[str, list[VersionRecord]] = {}

    def all(self) -> list[VersionRecord]:
        """All of them, those of one model together."""
        return [record for records in self._by_model.values() for record in records]

    def of(self, name: str) -> list[VersionRecord]:
        """Those of one model."""
        return list(self._by_model.get(name, ()))

    def begin(self, model: WantedModel, version: int, *, initial: bool = False) -> VersionRecord:
        """A new record beside the one that serves the version, if any, and instead of one that no longer does."""
        gone = [each for each in self.of(model.name) if each.version == version and each.state in _OVER]
        attempt = max((each.attempt for each in gone if each.current and each.retry_at), default=0) + 1
        record = VersionRecord(model.config, version, model.versions[version], attempt, initial)
        self._put(record, gone)
        return record

    def refuse(self, model: WantedModel, version: int, reason: str, *, initial: bool = False) -> VersionRecord:
        """A failed record instead of any other of a version that cannot even be tried."""
        record = VersionRecord(model.config, version, Path(), initial=initial)
        record.advance(VersionState.FAILED, reason)
        self._put(record, [each for each in self.of(model.name) if each.version == version])
        return record

    def sleep(self, record: VersionRecord) -> None:
        """Put a dormant record in the place of ``record``."""
        self._put(VersionRecord(record.config, record.version, record.artefact, dormant=True), [record])

    def retire(self, record: VersionRecord) -> None:
        """Drop an unloaded record of whose version there is another."""
        others = [each for each in self.of(record.model) if each is not record]
        if record.version in {each.version for each in others}:
            self._by_model[record.model] = others

    def forget(self, name: str, model: WantedModel | None) -> None:
        """Drop what is over of versions that are neither wanted nor there any more."""
        wanted = {*model.versions, *model.problems} if model is not None else set()
        keep = {*wanted, *model.there} if model is not None else set()

        def stays(record: VersionRecord) -> bool:
            if record.dormant:
                return record.current and record.version in wanted
            if record.state not in _OVER or record.version in wanted:
                return True
            return record.state is VersionState.UNLOADED and record.version in keep

        kept = list(filter(stays, self.of(name)))
        if kept:
            self._by_model[name] = kept
        else:
            self._by_model.pop(name, None)

    def statuses(self) -> list[VersionStatus]:
        """What the table shows: of two records of one version, the one that serves."""
        shown: dict[tuple[str, int], VersionRecord] = {}
        for record in self.all():
            key = (record.model, record.version)
            if key not in shown or record.state is VersionState.READY or shown[key].state in _GOING:
                shown[key] = record
        return [
            VersionStatus(
                each.model,
                each.version,
                each.state,
                each.reason,
                each.servable if each.state not in _GOING else None,
                each.loads_on_call,
                each.dormant and not each.reason,
            )
            for each in shown.values()
        ]

    def _put(self, record: VersionRecord, instead_of: list[VersionRecord]) -> None:
        others = [each for each in self.of(record.model) if not any(each is gone for gone in instead_of)]
        self._by_model[record.model] = sorted([*others, record], key=lambda each: each.version)
