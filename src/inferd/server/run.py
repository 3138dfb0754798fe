"""Start, serve, drain and stop, in that order; from the command line, a script or a notebook."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import ssl
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from time import monotonic_ns
from typing import Any

from inferd.core.errors import ConfigError, InferdError
from inferd.core.lifecycle import VersionState
from inferd.repository.control import ModelControl
from inferd.repository.decided import Scan
from inferd.repository.desired import WantedModel
from inferd.repository.state import StateStore, open_store
from inferd.server.announce import announce, show_progress
from inferd.server.assembly import Assembly, assemble
from inferd.server.guard import public_bind_refusal
from inferd.server.keys import Key, keys_from_environment, load_keys
from inferd.server.listeners import read_doors
from inferd.server.listening import DoorServer, InferdServer, listen, url_of, uvicorn_config
from inferd.server.live import wanted_object
from inferd.server.scan import Repositories, scan_paths
from inferd.server.settings import API_KEYS_VARIABLE, Settings, load_settings, model_defaults
from inferd.server.timed import reap_connections
from inferd.server.watch import RepositoryWatch, check_watchable
from inferd.telemetry.logs import configure_logging

logger = logging.getLogger("inferd.server")

Follow = Callable[[ModelControl], RepositoryWatch]

EXIT_STRICT = 1
GC_YOUNG_OBJECTS = 20_000
SWITCH_INTERVAL_S = 0.00005


def run(settings: Settings, origins: Mapping[str, str] | None = None) -> int:
    """Serve until a signal comes; returns the exit code. Raises ``ConfigError`` for what must be mended first."""
    configure_logging(settings.log_format, settings.log_level)
    if settings.watch:
        check_watchable()
    store = open_store(settings.state_file, settings.paths)
    repositories = Repositories(settings)
    follow = (
        partial(
            RepositoryWatch,
            completeness=repositories.completeness,
            paths=settings.paths,
            interval_s=settings.watch_interval_s,
            settle_s=settings.watch_settle_s,
        )
        if settings.watch
        else None
    )
    return _run(settings, repositories.scan(), repositories.scan, store, follow)


def _run(
    settings: Settings,
    wanted: Sequence[WantedModel],
    scan: Scan | None = None,
    store: StateStore | None = None,
    follow: Follow | None = None,
) -> int:
    with _event_loop() as runner:
        return runner.run(_serve(settings, wanted, lambda urls, server: None, scan, store, follow))


def _event_loop() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _keys(settings: Settings) -> tuple[Key, ...]:
    keys = load_keys(Path(settings.api_keys_file)) if settings.api_keys_file else ()
    return (*keys, *keys_from_environment(os.environ.get(API_KEYS_VARIABLE, "")))


def _check_tls(settings: Settings) -> None:
    """Raise ``ConfigError`` when the certificate and its key cannot be used, before anything listens."""
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise ConfigError("HTTPS needs both --tls-certificate and --tls-key")
    if settings.tls_certificate:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
        except OSError as error:
            raise ConfigError(f"the certificate {settings.tls_certificate} cannot be used: {error}") from error


async def _serve(
    settings: Settings,
    wanted: Sequence[WantedModel],
    on_started: Callable[[Sequence[str], InferdServer], None],
    scan: Scan | None = None,
    store: StateStore | None = None,
    follow: Follow | None = None,
) -> int:
    """Listen, load, serve, drain. ``on_started(urls, server)`` is called once the server listens, the plain port's
    first; ``follow`` makes what follows the repository."""
    if settings.default_model and settings.default_model not in {model.name for model in wanted}:
        names = ", ".join(model.name for model in wanted)
        raise ConfigError(f"--default-model {settings.default_model!r} is not served; there are: {names}")
    keys = _keys(settings)
    doors = read_doors(settings)
    closed = any(not door.for_platform for door in doors)
    refusal = public_bind_refusal(settings.host, keys, open_access=settings.open or not closed)
    if refusal:
        raise ConfigError(refusal)
    _check_tls(settings)
    sockets = listen(settings, [door.port for door in doors])
    assembly = assemble(settings, wanted, keys, scan=scan, store=store)
    fronts = [listener.front for listener in assembly.listeners]
    first, *others = map(uvicorn_config, repeat(settings), assembly.gateways, fronts)
    server = InferdServer(
        first, [DoorServer(config) for config in others], _stop_of(assembly, asyncio.get_running_loop())
    )
    servers = (server, *server.doors)
    if assembly.grpc is not None:
        await assembly.grpc.start()
    urls = [url_of(settings, each) for each in sockets]
    tasks = [asyncio.create_task(_load(assembly, server, urls))]
    for front, each in zip(fronts, servers, strict=True):
        tasks.append(asyncio.create_task(reap_connections(front, each.server_state.connections)))
    if settings.idle_unload_s:
        tasks.append(asyncio.create_task(_unload_idle(assembly)))
    if assembly.experiments is not None:
        tasks.append(asyncio.create_task(assembly.experiments.run()))
    if follow is not None:
        tasks.append(asyncio.create_task(follow(assembly.control).run()))
    on_started(urls, server)
    await asyncio.gather(*(each.serve(sockets=[own]) for each, own in zip(servers, sockets, strict=True)))
    for task in tasks:
        task.cancel()
    if assembly.grpc is not None:
        await assembly.grpc.stopped()
    # What the connections took of the time to drain is not given twice.
    spent_s = (monotonic_ns() - server.stopped_ns) / 1e9
    await assembly.repository.drain(max(0.0, settings.drain_timeout_s - spent_s))
    assembly.uploads.close()
    if assembly.regions is not None:
        assembly.regions.close()
    if assembly.experiments is not None:
        assembly.experiments.close()
    for each in servers:
        for connection in tuple(each.server_state.connections):
            connection.transport.abort()
    if assembly.tracer is not None:
        assembly.tracer.close()
    return EXIT_STRICT if settings.strict and _failed(assembly) else 0


def _stop_of(assembly: Assembly, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """What begins the end on every listener but uvicorn's own; any thread may call it."""

    def stop() -> None:
        assembly.state.draining = True
        loop.call_soon_threadsafe(assembly.repository.take_no_more_steps)
        if assembly.grpc is not None:
            loop.call_soon_threadsafe(assembly.grpc.begin_stop, assembly.settings.drain_timeout_s)

    return stop


async def _unload_idle(assembly: Assembly) -> None:
    while True:
        await asyncio.sleep(min(1.0, assembly.settings.idle_unload_s / 2))
        assembly.repository.unload_idle()


async def _load(assembly: Assembly, server: InferdServer, urls: Sequence[str]) -> None:
    with show_progress(assembly.repository, assembly.settings.log_format):
        await assembly.control.load_all()
    _tune_interpreter()
    lines = [*_door_lines(assembly, urls), _grpc_line(assembly)]
    if assembly.settings.log_format == "text":
        announce(assembly.repository, assembly.engine, urls[0], lines, assembly.listeners[0])
    else:
        logger.info("listening on %s; %s", urls[0], "; ".join(lines), extra={"url": urls[0]})
    if assembly.settings.strict and _failed(assembly):
        logger.error("a model could not be loaded and --strict is set: stopping")
        server.stop()


def _door_lines(assembly: Assembly, urls: Sequence[str]) -> list[str]:
    """Where each door is to be found."""
    pairs = zip(assembly.listeners[1:], urls[1:], strict=True)
    return [f"{', '.join(listener.door.protocols)} on {url}" for listener, url in pairs]


def _grpc_line(assembly: Assembly) -> str:
    """Where gRPC is to be found, or why it is not."""
    if assembly.settings.grpc_port == 0:
        return "gRPC is off (--grpc-port 0)"
    if assembly.grpc is None:
        return "gRPC is off: pip install 'inferd[grpc]'"
    return f"gRPC on {assembly.grpc.address}" if assembly.grpc.address else f"gRPC is off: {assembly.grpc.refusal}"


def _tune_interpreter() -> None:
    """For a process that serves, once its models are loaded."""
    # What is loaded stays: the collector need not walk it again and again while requests are served. A turn with many
    # callers holds thousands of young objects that all die by themselves, so it need not look at every 700 either.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 50)
    # A thread whose model has computed waits this long for the loop to let go of the lock, twice a batch. With the
    # usual 5 ms a network of 1,024 inputs and 64 callers reaches 0.76 of its bare speed, with this 0.84.
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def _failed(assembly: Assembly) -> bool:
    return any(record.state is VersionState.FAILED for record in assembly.repository.records)


class ServerHandle:
    """A server that runs in a thread of its own, as ``inferd.serve`` gives it where a loop is already running.

    ``url`` is the plain port's, ``door_urls`` are those of the doors in their order. Also a context manager that stops
    the server at its end.
    """

    def __init__(self, settings: Settings, wanted: Sequence[WantedModel]) -> None:
        self.url = ""
        self.door_urls: Sequence[str] = ()
        self._server: InferdServer | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(settings, wanted), name="inferd-server", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    def _run(self, settings: Settings, wanted: Sequence[WantedModel]) -> None:
        try:
            with _event_loop() as runner:
                runner.run(_serve(settings, wanted, self._listening))
        except InferdError as error:
            self._error = error
        finally:
            self._started.set()

    def _listening(self, urls: Sequence[str], server: InferdServer) -> None:
        self.url, *self.door_urls = urls
        self._server = server
        self._started.set()

    def stop(self) -> None:
        """Drain and stop; returns when the server has ended."""
        if self._server is not None:
            self._server.stop()
        self._thread.join()

    def __enter__(self) -> ServerHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<inferd at {self.url} {'running' if self._thread.is_alive() else 'stopped'}>"


def serve(model: Any, *, name: str = "", **settings: Any) -> ServerHandle | None:
    """Serve a live object, or the path of an artefact, model folder or repository.

    In a script this blocks until a signal comes; under a running event loop (a notebook) it returns a handle with
    ``url`` and ``stop()``. ``settings`` are those of the command line, such as ``port=9000``. Raises ``ConfigError``.
    """
    chosen, _ = load_settings(file=None, env=os.environ, flags=settings)
    configure_logging(chosen.log_format, chosen.log_level)
    if isinstance(model, str | os.PathLike):
        paths = (os.fspath(model),)
        chosen = replace(chosen, paths=paths)
        wanted = scan_paths(chosen)
    else:
        wanted = [wanted_object(model, name, model_defaults(chosen))]
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _run(chosen, wanted)
        return None
    return ServerHandle(chosen, wanted)
