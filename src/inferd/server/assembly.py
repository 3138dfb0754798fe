"""Wire the objects of one server together, by constructors; nothing else knows all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI

from inferd.core.errors import MissingExtra
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.regions import SharedRegions
from inferd.repository.control import ModelControl
from inferd.repository.decided import Scan, chooser, fixed, overlaid
from inferd.repository.desired import WantedModel
from inferd.repository.repository import ModelRepository
from inferd.repository.residency import Residency
from inferd.repository.state import StateStore
from inferd.repository.uploads import Uploads
from inferd.server.admin import mount_admin
from inferd.server.app import make_app
from inferd.server.asgi import Gateway
from inferd.server.capture_routes import mount_captures
from inferd.server.captures import Captures
from inferd.server.front import Front
from inferd.server.keys import Key
from inferd.server.listeners import Listener, make_listener, protocol_class, read_doors
from inferd.server.scan import cache_folder, find_model
from inferd.server.settings import Settings
from inferd.server.state import ServerState
from inferd.serving.engine import Engine
from inferd.serving.servable import Servable
from inferd.telemetry.metrics import Metrics
from inferd.telemetry.tracing import Tracer, make_tracer

if TYPE_CHECKING:
    from inferd.server.experiments_setup import Experiments
    from inferd.server.grpc_server import GrpcListener


@dataclass(slots=True)
class Assembly:
    """A server that is wired and not yet listening. The first listener is the plain port, the others are doors;
    ``gateways`` are theirs, in the same order."""

    settings: Settings
    listeners: Sequence[Listener]
    gateways: Sequence[Gateway]
    repository: ModelRepository
    control: ModelControl
    engine: Engine
    state: ServerState
    tracer: Tracer | None
    grpc: GrpcListener | None
    experiments: Experiments | None
    regions: SharedRegions | None
    uploads: Uploads

    @property
    def front(self) -> Front:
        """The plain port's."""
        return self.listeners[0].front

    @property
    def gateway(self) -> Gateway:
        """The plain port's."""
        return self.gateways[0]


def assemble(
    settings: Settings,
    wanted: Sequence[WantedModel],
    keys: Sequence[Key],
    *,
    scan: Scan | None = None,
    store: StateStore | None = None,
) -> Assembly:
    """Make everything a server consists of. Called on the loop's thread, with the loop running.

    ``scan`` looks at the repository again; without it ``wanted`` is all there ever is. ``store`` keeps what is decided
    while the server runs; without it that is forgotten at the end.

    Raises ``ConfigError`` when two protocols claim one path.
    """
    scan = scan or fixed(wanted)
    store = store or StateStore(None)
    decisions = store.decisions
    if decisions:
        wanted = overlaid(scan(chooser(decisions, settings.version_policy)), decisions)
    engine = Engine()
    state = ServerState()
    metrics = Metrics(lambda: repository.records)
    tracer = make_tracer() if settings.otel else None
    context = ProtocolContext(
        engine=engine,
        metrics=metrics,
        loop=asyncio.get_running_loop(),
        decode_pool=ThreadPoolExecutor(2, thread_name_prefix="inferd-decode"),
        decode_offload_bytes=settings.decode_offload_kb << 10,
        blockers=lambda model: [*state.blockers(), *repository.blockers(model)],
        control=(lambda: control) if settings.model_control else None,
        server_timing=settings.server_timing,
        max_body_bytes=int(settings.max_body_mb * (1 << 20)),
        tracer=tracer,
        regions=SharedRegions(int(settings.max_body_mb * (1 << 20))) if settings.allow_shared_memory else None,
    )
    doors = read_doors(settings)
    adapters = {name: protocol_class(name)(context) for door in doors for name in door.protocols}
    listeners = [make_listener(door, adapters, settings, keys) for door in doors]
    front = listeners[0].front
    grpc = None if settings.grpc_port == 0 else _grpc(settings, context, front)

    captures = Captures(engine)
    metrics.add_writer(captures.write_metrics)

    def on_ready(servable: Servable) -> None:
        captures.adopt(servable)
        if grpc is not None:
            grpc.bind(servable)
        for adapter in adapters.values():
            servable.bound[adapter.name] = adapter.bind(servable)

    def on_change() -> None:
        for listener in listeners:
            listener.show(engine.table)
        if experiments is not None:
            experiments.registry.recheck()

    experiments: Experiments | None = None
    repository = ModelRepository(
        wanted,
        engine,
        metrics,
        store=store,
        default_model=settings.default_model,
        load_parallelism=settings.load_parallelism,
        residency=Residency(
            budget_bytes=int(settings.memory_budget_mb * (1 << 20)),
            idle_s=settings.idle_unload_s,
            wait_s=settings.first_call_wait_s,
        ),
        on_ready=on_ready,
        on_change=on_change,
    )
    engine.loader = repository
    uploads = Uploads(cache_folder(settings) / "uploads", any_code=settings.allow_pickle)
    control = ModelControl(
        repository, store, decisions, scan, settings.version_policy, partial(find_model, settings), uploads
    )
    mounts: list[Callable[[FastAPI], None]] = [
        partial(mount_admin, control=control),
        partial(mount_captures, captures=captures, models=control),
    ]
    if settings.experiments or settings.experiment_store:
        from inferd.server.experiments_setup import Experiments

        experiments = Experiments(settings, engine, control)
        mounts.append(experiments.mount)
        metrics.add_writer(experiments.write_metrics)
    gateways = []
    for listener in listeners:
        # What controls the server is on the plain port only. It comes first, since routes are tried in their order, and
        # a call of it should not hold up requests for long.
        control_mounts, mounts = mounts, []
        app = make_app(repository, engine, metrics, state, [*control_mounts, listener.mount], listener)
        gateways.append(Gateway(app, listener.front))
    regions = context.regions
    return Assembly(
        settings, listeners, gateways, repository, control, engine, state, tracer, grpc, experiments, regions, uploads
    )


def _grpc(settings: Settings, context: ProtocolContext, front: Front) -> GrpcListener | None:
    """The gRPC listener; None where its extra is not installed. Raises ``MissingExtra`` when its port was asked for."""
    try:
        from inferd.server.grpc_server import make_grpc_server
    except ModuleNotFoundError as error:
        if settings.grpc_port is None:
            return None
        raise MissingExtra("gRPC", "grpc") from error
    return make_grpc_server(settings, context, front)
