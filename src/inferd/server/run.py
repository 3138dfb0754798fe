"""Start, serve, drain and stop, in that order; from the command line, a script or a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic_ns
from types import FrameType
from typing import Any

import uvicorn

from inferd.core.errors import ConfigError, InferdError
from inferd.core.lifecycle import VersionState
from inferd.repository.control import ModelControl, Scan
from inferd.repository.desired import WantedModel
from inferd.repository.state import StateStore, open_store
from inferd.server.announce import announce, show_progress
from inferd.server.assembly import Assembly, assemble
from inferd.server.guard import public_bind_refusal
from inferd.server.hot import hot_protocol
from inferd.server.keys import Key, keys_from_environment, load_keys
from inferd.server.live import wanted_object
from inferd.server.scan import completeness_of, scan_paths
from inferd.server.settings import API_KEYS_VARIABLE, Settings, load_settings, model_defaults
from inferd.server.timed import reap_connections, timed_protocol
from inferd.server.watch import RepositoryWatch, check_watchable
from inferd.telemetry.logs import configure_logging

logger = logging.getLogger("inferd.server")

Follow = Callable[[ModelControl], RepositoryWatch]

EXIT_STRICT = 1
GC_YOUNG_OBJECTS = 20_000
SWITCH_INTERVAL_S = 0.00005
EXIT_SECOND_SIGNAL = 143


class InferdServer(uvicorn.Server):
    """uvicorn's server with inferd's way to stop: readiness first, then the listener, then the connections."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self.stopped_ns = 0

    def stop(self) -> None:
        """Begin to drain; any thread may call it."""
        self._on_stop()
        self.stopped_ns = monotonic_ns()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends the process at once."""
        if self.should_exit:
            os._exit(EXIT_SECOND_SIGNAL)
        self.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take the signals while serving. uvicorn raises them again afterwards, which would spoil exit code 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in previous.items():
                signal.signal(sig, handler)


def run(settings: Settings, origins: Mapping[str, str] | None = None) -> int:
    """Serve until a signal comes; returns the exit code. Raises ``ConfigError`` for what must be mended first."""
    configure_logging(settings.log_format, settings.log_level)
    if settings.watch:
        check_watchable()
    store = open_store(settings.state_file, settings.paths)
    completeness = completeness_of(settings)
    scan = partial(scan_paths, settings, completeness=completeness)
    follow = (
        partial(
            RepositoryWatch,
            completeness=completeness,
            paths=settings.paths,
            interval_s=settings.watch_interval_s,
            settle_s=settings.watch_settle_s,
        )
        if settings.watch
        else None
    )
    return _run(settings, scan(), scan, store, follow)


def _run(
    settings: Settings,
    wanted: Sequence[WantedModel],
    scan: Scan | None = None,
    store: StateStore | None = None,
    follow: Follow | None = None,
) -> int:
    with _event_loop() as runner:
        return runner.run(_serve(settings, wanted, lambda url, server: None, scan, store, follow))


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


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another with --port"
        ) from error


def _url(settings: Settings, port: int) -> str:
    scheme = "https" if settings.tls_certificate else "http"
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{port}"


async def _serve(
    settings: Settings,
    wanted: Sequence[WantedModel],
    on_started: Callable[[str, InferdServer], None],
    scan: Scan | None = None,
    store: StateStore | None = None,
    follow: Follow | None = None,
) -> int:
    """Listen, load, serve, drain. ``on_started(url, server)`` is called once the server listens; ``follow`` makes what
    follows the repository."""
    if settings.default_model and settings.default_model not in {model.name for model in wanted}:
        names = ", ".join(model.name for model in wanted)
        raise ConfigError(f"--default-model {settings.default_model!r} is not served; there are: {names}")
    keys = _keys(settings)
    refusal = public_bind_refusal(settings.host, keys, open_access=settings.open)
    if refusal:
        raise ConfigError(refusal)
    _check_tls(settings)
    listener = _listen(settings)
    assembly = assemble(settings, wanted, keys, scan=scan, store=store)
    config = uvicorn.Config(
        assembly.gateway,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
        http=(hot_protocol if settings.front == "hot" else timed_protocol)(assembly.front),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        # Nothing here asks for the caller's address, so nobody's word for it is needed.
        proxy_headers=False,
        server_header=False,
        headers=[("server", "inferd")],
        timeout_keep_alive=int(settings.keep_alive_s),
        timeout_graceful_shutdown=int(settings.drain_timeout_s) or 1,
    )
    server = InferdServer(config, _stop_of(assembly, asyncio.get_running_loop()))
    if assembly.grpc is not None:
        await assembly.grpc.start()
    url = _url(settings, listener.getsockname()[1])
    tasks = [
        asyncio.create_task(_load(assembly, server, url)),
        asyncio.create_task(reap_connections(assembly.front, server.server_state.connections)),
    ]
    if follow is not None:
        tasks.append(asyncio.create_task(follow(assembly.control).run()))
    on_started(url, server)
    await server.serve(sockets=[listener])
    for task in tasks:
        task.cancel()
    if assembly.grpc is not None:
        await assembly.grpc.stopped()
    # What the connections took of the time to drain is not given twice.
    spent_s = (monotonic_ns() - server.stopped_ns) / 1e9
    await assembly.repository.drain(max(0.0, settings.drain_timeout_s - spent_s))
    if assembly.regions is not None:
        assembly.regions.close()
    if assembly.experiments is not None:
        assembly.experiments.close()
    for connection in tuple(server.server_state.connections):
        connection.transport.abort()
    if assembly.tracer is not None:
        assembly.tracer.close()
    return EXIT_STRICT if settings.strict and _failed(assembly) else 0


def _stop_of(assembly: Assembly, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """What begins the end on every listener but uvicorn's own; any thread may call it."""

    def stop() -> None:
        assembly.state.draining = True
        if assembly.grpc is not None:
            loop.call_soon_threadsafe(assembly.grpc.begin_stop, assembly.settings.drain_timeout_s)

    return stop


async def _load(assembly: Assembly, server: InferdServer, url: str) -> None:
    with show_progress(assembly.repository, assembly.settings.log_format):
        await assembly.repository.load_all()
    _tune_interpreter()
    grpc = _grpc_line(assembly)
    if assembly.settings.log_format == "text":
        announce(assembly.repository, assembly.engine, url, grpc, needs_key=assembly.front.guard.needs_key)
    else:
        logger.info("listening on %s; %s", url, grpc, extra={"url": url})
    if assembly.settings.strict and _failed(assembly):
        logger.error("a model could not be loaded and --strict is set: stopping")
        server.stop()


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

    Also a context manager that stops the server at its end.
    """

    def __init__(self, settings: Settings, wanted: Sequence[WantedModel]) -> None:
        self.url = ""
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

    def _listening(self, url: str, server: InferdServer) -> None:
        self.url = url
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
