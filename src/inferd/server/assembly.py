"""Wire the objects of one server together, by constructors; nothing else knows all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI

from inferd.abc import Endpoint, HotRoute, ProtocolAdapter, Target
from inferd.core.errors import ConfigError, MissingExtra
from inferd.core.plugins import available, lookup
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.regions import SharedRegions
from inferd.repository.control import ModelControl, Scan, chooser, fixed, overlaid
from inferd.repository.desired import WantedModel
from inferd.repository.repository import ModelRepository
from inferd.repository.state import StateStore
from inferd.server.admin import mount_admin
from inferd.server.app import make_app
from inferd.server.asgi import Gateway
from inferd.server.experiments_setup import Experiments
from inferd.server.front import Front
from inferd.server.guard import Guard, allowed_hosts
from inferd.server.keys import Key
from inferd.server.settings import Settings
from inferd.server.state import ServerState
from inferd.serving.engine import Engine
from inferd.serving.servable import Servable
from inferd.serving.table import Table
from inferd.telemetry.logs import access_line
from inferd.telemetry.metrics import Metrics
from inferd.telemetry.tracing import Tracer, make_tracer

if TYPE_CHECKING:
    from inferd.server.grpc_server import GrpcListener


@dataclass(slots=True)
class Assembly:
    """A server that is wired and not yet listening."""

    settings: Settings
    front: Front
    gateway: Gateway
    repository: ModelRepository
    control: ModelControl
    engine: Engine
    state: ServerState
    tracer: Tracer | None
    grpc: GrpcListener | None
    experiments: Experiments | None
    regions: SharedRegions | None = None


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
    decisions = store.decisions()
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
    adapters = [_adapter(name, context) for name in settings.protocols or available("inferd.protocols")]
    front = Front(
        guard=Guard(keys, open_access=settings.open or not keys, hosts=allowed_hosts(settings.host)),
        max_body_bytes=int(settings.max_body_mb * (1 << 20)),
        max_header_bytes=settings.max_header_kb << 10,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        access_log=access_line if settings.access_log else None,
        dialects={prefix.encode(): dialect for each in adapters for prefix, dialect in each.dialects.items()},
    )
    templates = _templates(adapters)
    grpc = None if settings.grpc_port == 0 else _grpc(settings, context, front)

    def on_ready(servable: Servable) -> None:
        if grpc is not None:
            grpc.bind(servable)
        for adapter in adapters:
            servable.bound[adapter.name] = adapter.bind(servable)

    def on_change() -> None:
        front.routes = build_routes(templates, engine.table)
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
        on_ready=on_ready,
        on_change=on_change,
    )
    control = ModelControl(repository, store, decisions, scan, settings.version_policy)
    mounts: list[Callable[[FastAPI], None]] = [
        *(adapter.mount for adapter in adapters),
        partial(mount_admin, control=control),
    ]
    if settings.experiments:
        experiments = Experiments(settings, engine)
        mounts.append(experiments.mount)
        metrics.add_writer(experiments.write_metrics)
    app = make_app(repository, engine, metrics, state, mounts, front.dialect)
    gateway = Gateway(app, front)
    regions = context.regions
    return Assembly(settings, front, gateway, repository, control, engine, state, tracer, grpc, experiments, regions)


def _grpc(settings: Settings, context: ProtocolContext, front: Front) -> GrpcListener | None:
    """The gRPC listener; None where its extra is not installed. Raises ``MissingExtra`` when its port was asked for."""
    try:
        from inferd.server.grpc_server import make_grpc_server
    except ModuleNotFoundError as error:
        if settings.grpc_port is None:
            return None
        raise MissingExtra("gRPC", "grpc") from error
    return make_grpc_server(settings, context, front)


def _adapter(name: str, context: ProtocolContext) -> ProtocolAdapter:
    adapter: ProtocolAdapter = lookup("inferd.protocols", name)(context)
    return adapter


def _templates(adapters: Iterable[ProtocolAdapter]) -> list[HotRoute]:
    """All hot routes. Raises ``ConfigError`` naming both when two protocols claim one path."""
    owners: dict[str, str] = {}
    routes = []
    for adapter in adapters:
        for route in adapter.hot_routes():
            if route.template in owners:
                raise ConfigError(
                    f"protocols {owners[route.template]!r} and {adapter.name!r} both claim {route.template}"
                )
            owners[route.template] = adapter.name
            routes.append(route)
    return routes


def build_routes(templates: Iterable[HotRoute], table: Table) -> Mapping[bytes, Endpoint]:
    """Exact raw paths for every model and version there is, ready or not: the endpoint says why when it is not."""
    routes: dict[bytes, Endpoint] = {}
    for route in templates:
        if "{name}" not in route.template:
            routes[route.template.encode()] = route.make(Target())
            continue
        for name, versions in table.models.items():
            path = route.template.replace("{name}", name)
            if "{version}" not in path:
                routes[path.encode()] = route.make(Target(name))
                continue
            for version in (*versions, *table.labels.get(name, ())):
                routes[path.replace("{version}", str(version)).encode()] = route.make(Target(name, version))
    return routes
