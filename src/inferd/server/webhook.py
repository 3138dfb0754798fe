"""Tell a URL what a ramp did, from a thread, a few times if need be, in nobody's way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Event
from urllib.request import Request, urlopen

import orjson

from inferd.experiments.ramp_runner import Notice

logger = logging.getLogger("inferd.experiments")

TIMEOUT_S = 5.0
PAUSES_S = (1.0, 5.0)
"""Between attempts; after the last one the notice is given up."""


class Webhooks:
    """Posts notices as JSON, in order. Any thread may call it."""

    def __init__(self, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._pauses_s = pauses_s
        self._ended = Event()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="inferd-webhook")

    def notify(self, url: str, notice: Notice) -> None:
        """Post ``notice`` to ``url``, later."""
        self._threads.submit(self._post, url, notice)

    def close(self) -> None:
        """Give up what waits."""
        self._ended.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _post(self, url: str, notice: Notice) -> None:
        request = Request(url, orjson.dumps(asdict(notice)), {"Content-Type": "application/json"})
        for pause_s in (*self._pauses_s, 0.0):
            try:
                with urlopen(request, timeout=TIMEOUT_S):
                    return
            # Whatever a network raises, including answers that are no HTTP (OSError, HTTPException, ValueError).
            except Exception as error:
                logger.warning("the webhook of experiment %s does not answer: %s", notice.experiment, error)
            if self._ended.wait(pause_s):
                break
        logger.error("the webhook of experiment %s was not told: %s", notice.experiment, notice.event)
