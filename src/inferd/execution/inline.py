"""An instance that runs on the loop: only for built-in models measured to be cheaper than a thread hop (50 µs)."""

from __future__ import annotations

from inferd.abc import Model
from inferd.execution.batch import Batch


class InlineInstance:
    """Executes each batch at once, on the caller's thread, the loop's."""

    mode = "inline"

    def __init__(self, model: Model, allowed_sizes: tuple[int, ...] = ()) -> None:
        self._model = model
        self._allowed_sizes = allowed_sizes

    def execute(self, batch: Batch) -> None:
        """Execute ``batch`` and complete it before returning."""
        batch.execute(self._model, self._allowed_sizes)
        batch.on_done(batch)

    def close(self) -> None:
        """Nothing to stop."""

    def __repr__(self) -> str:
        return "<InlineInstance>"
