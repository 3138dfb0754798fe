"""A whole server in this process, asked without a socket: the real assembly, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from inferd.core.errors import LoadFailed
from inferd.core.lifecycle import VersionState
from inferd.server.assembly import Assembly, assemble
from inferd.server.keys import Key, load_keys
from inferd.server.live import wanted_object
from inferd.server.scan import scan_paths
from inferd.server.settings import load_settings, model_defaults

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: status, headers with lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


class Client:
    """Serves ``model`` (an object, or the path of an artefact, model folder or repository) until ``close``.

    ``settings`` are those of the command line, such as ``max_wait_ms=5``. Raises ``LoadFailed`` with the reasons when
    nothing could be loaded. Also a context manager::

        with Client(MyModel()) as client:
            assert client.predict([[1, 2]]).json == {"predictions": [[2, 4]]}
    """

    def __init__(self, model: Any, *, name: str = "", **settings: Any) -> None:
        chosen, _ = load_settings(file=None, env={}, flags=settings)
        if isinstance(model, str | os.PathLike):
            chosen = replace(chosen, paths=(os.fspath(model),))
            wanted, scan = scan_paths(chosen), partial(scan_paths, chosen)
        else:
            wanted, scan = [wanted_object(model, name, model_defaults(chosen))], None
        keys: tuple[Key, ...] = load_keys(Path(chosen.api_keys_file)) if chosen.api_keys_file else ()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="inferd-test-client", daemon=True)
        self._thread.start()

        async def start() -> Assembly:
            assembly = assemble(chosen, wanted, keys, scan=scan)
            await assembly.control.load_all()
            return assembly

        self.assembly = self._run(start())
        records = self.assembly.repository.records
        if all(record.state is VersionState.FAILED for record in records):
            self.close()
            raise LoadFailed("; ".join(f"{record.model}: {record.reason}" for record in records))

    def predict(self, instances: Any, *, model: str = "", headers: Mapping[str, str] | None = None) -> Reply:
        """``POST /predict`` with ``instances`` in row form, to the default model or the one named."""
        path = f"/models/{model}/predict" if model else "/predict"
        body = orjson.dumps({"instances": instances}, option=orjson.OPT_SERIALIZE_NUMPY)
        return self.post(path, body, {"content-type": "application/json", **(headers or {})})

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """``GET path``; the query comes after a question mark."""
        return self.request("GET", path, b"", headers)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """``POST path``."""
        return self.request("POST", path, body, headers)

    def request(self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Any request. Header names are case-insensitive; ``Host`` is localhost unless given."""
        reply: Reply = self._run(self._request(method, path, body, headers or {}))
        return reply

    async def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        path, _, query = path.partition("?")
        given = {"host": "localhost", "content-length": str(len(body))}
        given |= {name.lower(): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
            "client": ("127.0.0.1", 0),
            "server": ("localhost", 80),
        }
        sent = [{"type": "http.request", "body": body, "more_body": False}]
        messages: list[Any] = []
        answered = asyncio.Event()

        async def receive() -> Any:
            if sent:
                return sent.pop()
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            messages.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                answered.set()

        await self.assembly.gateway(scope, receive, send)
        start, *rest = messages
        pairs = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Reply(start["status"], pairs, b"".join(message.get("body", b"") for message in rest))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_S)

    def close(self) -> None:
        """Drain, unload, and end the thread."""
        self._run(self.assembly.repository.drain(self.assembly.settings.drain_timeout_s))
        self.assembly.uploads.close()
        if self.assembly.experiments is not None:
            self.assembly.experiments.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
