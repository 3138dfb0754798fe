"""What listens where: the plain port and the doors beside it, each with its protocols, routes and guard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import FastAPI

from inferd.abc import Endpoint, HotRoute, ProtocolAdapter, Target
from inferd.core.errors import ConfigError
from inferd.core.plugins import available, lookup
from inferd.core.schema import suggestion
from inferd.protocols.shared.endpoint import Dialect
from inferd.server.front import Front
from inferd.server.guard import Guard, allowed_hosts, is_loopback
from inferd.server.keys import Key
from inferd.server.settings import Settings
from inferd.serving.table import Table
from inferd.telemetry.logs import access_line

_GROUPS = ("inferd.protocols", "inferd.doors")
_DOOR = re.compile(r"([A-Za-z0-9_.+-]+)=([0-9]{1,5})")
_PARAMETER = re.compile(r"{[^}]*}")
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Door:
    """A port to listen on (0: a free one), and the names of the protocols to speak there."""

    port: int
    protocols: tuple[str, ...]

    @property
    def for_platform(self) -> bool:
        """Whether each protocol is made for a platform that knows no keys."""
        return all(getattr(protocol_class(name), "for_platform", False) for name in self.protocols)


def read_doors(settings: Settings) -> tuple[Door, ...]:
    """The plain port first, then the doors in their order; those of one port are one.

    Raises ``ConfigError`` for a door that cannot be read or a protocol nobody knows.
    """
    plain = settings.protocols or tuple(available("inferd.protocols"))
    doors = [Door(settings.port, plain)]
    for text in settings.door:
        match = _DOOR.fullmatch(text)
        if match is None or int(match[2]) > _MAX_PORT:
            raise ConfigError(f"--door takes protocols joined by + and a port, such as sagemaker=8080, got {text!r}")
        door = Door(int(match[2]), tuple(match[1].split("+")))
        same = next((each for each in doors if each.port == door.port != 0), None)
        if same is None:
            doors.append(door)
        else:
            merged = dict.fromkeys((*same.protocols, *door.protocols))
            doors[doors.index(same)] = Door(door.port, tuple(merged))
    for name in {name for door in doors for name in door.protocols}:
        protocol_class(name)
    return tuple(doors)


def protocol_class(name: str) -> Callable[..., ProtocolAdapter]:
    """What makes the adapter of a protocol. Raises ``ConfigError`` when there is none of that name."""
    group = next((group for group in _GROUPS if name in available(group)), None)
    if group is None:
        known = [name for group in _GROUPS for name in available(group)]
        raise ConfigError(f"no protocol named {name!r}{suggestion(name, known)}")
    made: Callable[..., ProtocolAdapter] = lookup(group, name)
    return made


@dataclass(slots=True)
class Listener:
    """One port's protocols, and the front that all its connections share."""

    door: Door
    adapters: tuple[ProtocolAdapter, ...]
    front: Front
    templates: tuple[HotRoute, ...]
    shown: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)

    def mount(self, app: FastAPI) -> None:
        """Add the cold routes of its protocols. Raises ``ConfigError`` naming both when two claim one path."""
        owners: dict[str, str] = {}
        for adapter in self.adapters:
            for route in adapter.hot_routes():
                _claim(owners, f"POST {_pattern(route.template)}", adapter.name)
            known = len(app.routes)
            adapter.mount(app)
            for mounted in app.routes[known:]:
                for method in getattr(mounted, "methods", None) or ():
                    _claim(owners, f"{method} {_pattern(getattr(mounted, 'path', ''))}", adapter.name)

    def show(self, table: Table) -> None:
        """Answer the models of ``table`` from now on."""
        names = {name: (*versions, *table.labels.get(name, ())) for name, versions in table.models.items()}
        if names != self.shown:
            self.shown = names
            self.front.routes = build_routes(self.templates, table)


def make_listener(
    door: Door, adapters: Mapping[str, ProtocolAdapter], settings: Settings, keys: Sequence[Key]
) -> Listener:
    """The listener of ``door``; ``adapters`` are those of all protocols by name."""
    own = tuple(adapters[name] for name in door.protocols)
    control_paths = "|".join(filter(None, (getattr(each, "control_paths", "") for each in own)))
    front = Front(
        guard=Guard(
            keys,
            open_access=settings.open or is_loopback(settings.host),
            hosts=allowed_hosts(settings.host),
            for_platform=door.for_platform,
            control_paths=control_paths,
        ),
        max_body_bytes=int(settings.max_body_mb * (1 << 20)),
        max_header_bytes=settings.max_header_kb << 10,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        access_log=access_line if settings.access_log else None,
        dialects=_by_prefix(own),
    )
    return Listener(door, own, front, tuple(route for each in own for route in each.hot_routes()))


def _by_prefix(adapters: Iterable[ProtocolAdapter]) -> dict[bytes, Dialect]:
    """How errors are worded, the longest prefix first."""
    dialects = {prefix.encode(): dialect for each in adapters for prefix, dialect in each.dialects.items()}
    return dict(sorted(dialects.items(), key=lambda item: -len(item[0])))


def _claim(owners: dict[str, str], path: str, owner: str) -> None:
    if owners.setdefault(path, owner) != owner:
        raise ConfigError(
            f"the protocols {owners[path]!r} and {owner!r} both claim {path}; put one on a port of its own with --door"
        )


def _pattern(template: str) -> str:
    """A path template without the names of its parameters."""
    return _PARAMETER.sub("{}", template)


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
