"""Where a running experiment stands: since when, and at which step of its ramp."""

from __future__ import annotations

from dataclasses import dataclass, replace

from inferd.experiments.definition import Experiment


@dataclass(frozen=True, slots=True)
class Position:
    """It runs since ``started_ms``; a ramp is at ``step``, from 0, since ``step_ms``. Both count from 1970."""

    step: int = 0
    step_ms: int = 0
    started_ms: int = 0


UNSTARTED = Position()


def at_position(experiment: Experiment, position: Position) -> Experiment:
    """``experiment`` with the coverage that it has there. A definition that lost steps meanwhile is at its last."""
    steps = experiment.steps
    return replace(experiment, coverage=steps[min(position.step, len(steps) - 1)].coverage) if steps else experiment
