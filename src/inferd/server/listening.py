"""The uvicorn servers of one process: one for each listener, and how they stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from time import monotonic_ns
from types import FrameType

import uvicorn

from inferd.core.errors import ConfigError
from inferd.server.asgi import Gateway
from inferd.server.front import Front
from inferd.server.hot import hot_protocol
from inferd.server.settings import Settings
from inferd.server.timed import timed_protocol

EXIT_SECOND_SIGNAL = 143


class DoorServer(uvicorn.Server):
    """The server of a listener besides the plain one, which stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the plain listener's."""
        yield


class InferdServer(uvicorn.Server):
    """uvicorn's server with inferd's way to stop: readiness first, then the listeners, then the connections.

    ``doors`` are the servers of the other listeners.
    """

    def __init__(self, config: uvicorn.Config, doors: Sequence[DoorServer], on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self.doors = doors
        self._on_stop = on_stop
        self.stopped_ns = 0

    def stop(self) -> None:
        """Begin to drain; any thread may call it."""
        self._on_stop()
        self.stopped_ns = monotonic_ns()
        for server in (self, *self.doors):
            server.should_exit = True

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


def uvicorn_config(settings: Settings, gateway: Gateway, front: Front) -> uvicorn.Config:
    """How uvicorn runs one listener."""
    return uvicorn.Config(
        gateway,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
        http=(hot_protocol if settings.front == "hot" else timed_protocol)(front),
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


def listen(settings: Settings, ports: Sequence[int]) -> list[socket.socket]:
    """A socket for each port, all or none. Raises ``ConfigError`` for one that cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sockets: list[socket.socket] = []
    for port in ports:
        try:
            sockets.append(socket.create_server((settings.host.strip("[]"), port), family=family, backlog=2048))
        except OSError as error:
            flag = "--door" if sockets else "--port"
            for each in sockets:
                each.close()
            raise ConfigError(
                f"cannot listen on {settings.host}:{port}: {error.strerror}; choose another with {flag}"
            ) from error
    return sockets


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Where the listener is to be found."""
    scheme = "https" if settings.tls_certificate else "http"
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"
