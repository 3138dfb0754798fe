"""An instance: one model, one batch at a time, on a thread of its own, or on the loop for what is measured to be cheap.

A hop to a thread and back costs about 50 µs and a change of hands of the interpreter's lock; a small model's batch
costs 20.
"""

from __future__ import annotations

import asyncio
from queue import SimpleQueue
from threading import Thread

from inferd.abc import Model
from inferd.execution.batch import Batch


class ModelInstance:
    """Executes a batch of at most ``inline_rows`` rows at once on the caller's thread, the loop's, and completes it
    before ``execute`` returns; a larger or a background one in the instance's thread, which completes it on the loop.

    The thread is started with the first batch that needs it.
    """

    def __init__(
        self,
        model: Model,
        loop: asyncio.AbstractEventLoop,
        name: str,
        *,
        inline_rows: int = 0,
        allowed_sizes: tuple[int, ...] = (),
    ) -> None:
        self.inline_rows = inline_rows
        self._model = model
        self._loop = loop
        self._name = name
        self._allowed_sizes = allowed_sizes
        self._inbox: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread: Thread | None = None

    def execute(self, batch: Batch) -> None:
        """Take ``batch``; ``batch.on_done`` is called on the loop's thread, once."""
        if batch.rows <= self.inline_rows and not batch.background:
            batch.execute(self._model, self._allowed_sizes)
            batch.on_done(batch)
            return
        if self._thread is None:
            # A daemon: a wedged model must not keep a stopped server alive.
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._inbox.put(batch)

    def close(self) -> None:
        """Stop the thread after the batch in hand; does not wait for it."""
        self._inbox.put(None)

    def _work(self) -> None:
        inbox, model, sizes, call_soon = self._inbox, self._model, self._allowed_sizes, self._loop.call_soon_threadsafe
        while (batch := inbox.get()) is not None:
            batch.drop_answered()
            batch.execute(model, sizes)
            try:
                call_soon(batch.on_done, batch)
            except RuntimeError:  # the loop has closed: nobody is left to tell
                return
            # Not kept while waiting: a batch holds its callers' tensors.
            del batch

    def __repr__(self) -> str:
        return f"<ModelInstance {self._name} inline_rows={self.inline_rows}>"
