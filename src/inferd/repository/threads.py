"""Slow steps off the loop, each in a thread that holds up neither the others nor the end of the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

NAME = "inferd-step"
_idle: list[SimpleQueue[Callable[[], object]]] = []

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result], *, undo: Callable[[Result], object] = lambda result: None) -> Result:
    """What ``work()`` returns or raises. A caller who is cancelled waits no longer; ``undo`` is then told the result,
    in the same way, once there is one."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        elif error is None:
            _start(lambda: undo(result))

    def run() -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # whatever it is, it is the caller's
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop has closed: nobody is left to tell
            if failure is None:
                undo(result)

    _start(run)
    return await future


def any_left() -> bool:
    """Whether a step has not ended."""
    return sum(thread.name == NAME for thread in threading.enumerate()) > len(_idle)


def _start(run: Callable[[], object]) -> None:
    try:
        inbox = _idle.pop()
    except IndexError:
        inbox = SimpleQueue()
        # A daemon, unlike the threads of an executor, which are waited for at the end of the process.
        threading.Thread(target=_work, args=(inbox,), name=NAME, daemon=True).start()
    inbox.put(run)


def _work(inbox: SimpleQueue[Callable[[], object]]) -> None:
    """In the thread: what is given, one after the other. A new thread for each step would have the C library keep
    memory for each."""
    while True:
        inbox.get()()
        _idle.append(inbox)
