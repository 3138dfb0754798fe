"""An instance: one thread, one model, one batch at a time; two hops a batch, not a request."""

from __future__ import annotations

import asyncio
from queue import SimpleQueue
from threading import Thread

from inferd.abc import Model
from inferd.execution.batch import Batch


class ThreadInstance:
    """Executes batches in a thread of its own, started with the first batch, and completes them on the loop."""

    mode = "thread"

    def __init__(
        self, model: Model, loop: asyncio.AbstractEventLoop, name: str, allowed_sizes: tuple[int, ...] = ()
    ) -> None:
        self._model = model
        self._loop = loop
        self._name = name
        self._allowed_sizes = allowed_sizes
        self._inbox: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread: Thread | None = None

    def execute(self, batch: Batch) -> None:
        """Hand ``batch`` to the thread; ``batch.on_done`` is called on the loop."""
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
            batch.execute(model, sizes)
            try:
                call_soon(batch.on_done, batch)
            except RuntimeError:  # the loop has closed: nobody is left to tell
                return
            # Not kept while waiting: a batch holds its callers' tensors.
            del batch

    def __repr__(self) -> str:
        return f"<ThreadInstance {self._name}>"
