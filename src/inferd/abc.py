"""The contracts that third parties implement and that the layers agree on.

Everything a third party writes is synchronous. ``inferd.testing`` publishes a check for each of these.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from inferd.core.config import ModelConfig
from inferd.core.tensors import Signature


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a runtime found out about a model while loading it, for people and for ``/model/info``.

    ``platform`` is the Open Inference Protocol's name of the format. ``classes`` and ``feature_names`` are empty
    where the artefact has none. ``binary_inputs`` and ``binary_outputs`` are those of BYTES that are known to be no
    text. ``provenance`` holds what the artefact says of its origin, as text.
    """

    runtime_version: str = ""
    platform: str = ""
    device: str = "cpu"
    classes: tuple[Any, ...] = ()
    feature_names: tuple[str, ...] = ()
    binary_inputs: tuple[str, ...] = ()
    binary_outputs: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


class Model(Protocol):
    """One loaded model.

    ``execute`` is called by one thread at a time unless ``concurrent`` is true, in which case several instances share
    this object. ``batchable`` says that the first dimension of every input and output is the number of rows, and that
    rows do not influence each other. ``user_code`` is true when code from the model's folder runs inside ``execute``:
    such a model is never executed on the event loop.
    """

    signatures: Mapping[str, Signature]
    """All signatures by name; the first is the default."""
    metadata: ModelMetadata
    batchable: bool
    concurrent: bool
    user_code: bool

    def execute(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        signature: str,
    ) -> Mapping[str, np.ndarray]:
        """Compute the named ``outputs`` (all of them when empty) from ``inputs``.

        ``inputs`` fit the signature, are read-only and may be misaligned in memory only if they come alone (batch of
        one request). ``signature`` is "" for the default. Raises ``InvalidInput`` when the rows are the caller's
        mistake; any other exception is the model's failure.
        """
        ...

    def close(self) -> None:
        """Free everything. Called once, after the last ``execute`` has returned."""
        ...


class StreamingModel(Protocol):
    """A ``Model`` that may give several responses to one request. Beside what every model has, it has these.

    It is not ``batchable``. Its ``execute`` answers a request that has exactly one response, and refuses any other as
    ``InvalidInput``.
    """

    streaming: bool
    """True. A model without this attribute gives one response."""

    def stream(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        signature: str,
    ) -> Generator[Mapping[str, np.ndarray], None, None]:
        """The responses, each as ``execute`` gives its one. It is closed when no more are wanted, and between two
        responses only; it is called and advanced as ``execute`` is, by one thread at a time."""
        ...


class ModelWithExample(Protocol):
    """A ``Model`` whose artefact brings inputs of its own. Beside what every model has, it has this."""

    example: Mapping[str, np.ndarray] | None
    """Inputs that fit the signature; a version without a ``warmup.npz`` is warmed with them. None for none."""


class Runtime(Protocol):
    """Loads artefacts of one framework. Registered in the entry-point group ``inferd.runtimes``."""

    api_version: int
    name: str
    extra: str
    """The extra that brings the framework, "" when none is needed."""

    def claims(self, artefact: Path) -> bool:
        """Whether this runtime loads ``artefact``, by its name and at most a look at its first bytes.
        Must not import the framework."""
        ...

    def load(self, config: ModelConfig, artefact: Path, device: str) -> Model:
        """Load ``artefact``. Slow, repeatable, without global state; imports the framework.

        Raises ``MissingExtra`` when the framework is absent and ``LoadFailed`` with one readable sentence otherwise.
        """
        ...


class ModelSource(Protocol):
    """Lists the versions of a model and fetches one; never loads. Group ``inferd.sources``, key = URI scheme."""

    api_version: int

    def versions(self, uri: str) -> Sequence[int]:
        """The versions there are now, ascending."""
        ...

    def fetch(self, uri: str, version: int) -> Path:
        """A local folder or file holding that version."""
        ...


class Exchange(Protocol):
    """One HTTP request whose body is whole, and the way to answer it once. Neither the endpoint nor its codec knows
    which front holds the connection.

    ``headers`` has lower-case names. ``query`` is raw, without the question mark. Times are ``time.monotonic_ns``.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    principal: str
    request_id: str
    received_ns: int
    on_disconnect: Callable[[], object] | None

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer. ``headers`` is a block of ``name: value\\r\\n`` lines without content-length, date or request id,
        which the front adds. A second call is an error of the endpoint."""
        ...


class Endpoint(Protocol):
    """One hot route: synchronous, answers by calling ``exchange.respond`` later. Never raises."""

    def handle(self, exchange: Exchange) -> None:
        """Route, decode, submit."""
        ...

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with ``error`` in this protocol's error shape; used by the front's own checks."""
        ...


class Target(NamedTuple):
    """Which model an endpoint asks for; ``version`` is a number or a label, None means whatever the model's policy
    chooses, ``name`` None the default model."""

    name: str | None = None
    version: int | str | None = None


@dataclass(frozen=True, slots=True)
class HotRoute:
    """A path template of a protocol, with ``{name}`` and ``{version}`` where a model's go, and the endpoint made
    for each model and version. A template without ``{name}`` asks the default model."""

    template: str
    make: Callable[[Target], Endpoint]


class ProtocolAdapter(Protocol):
    """A wire protocol as data: hot routes, cold routes, API description. Group ``inferd.protocols``."""

    api_version: int
    name: str
    dialects: Mapping[str, Any]
    """The starts of its cold paths, and how errors are worded there; empty for problem documents."""

    def hot_routes(self) -> Sequence[HotRoute]:
        """Templates answered by the hot front (POST only)."""
        ...

    def bind(self, servable: Any) -> object:
        """What this protocol prepares once for a ready version (compiled codecs, header blocks). Kept in
        ``servable.bound[self.name]``."""
        ...

    def mount(self, app: Any) -> None:
        """Add the cold routes to the FastAPI application."""
        ...


class DoorAdapter(ProtocolAdapter, Protocol):
    """A wire protocol that is offered only where it is asked for, most often on a listener of its own, because others
    claim the same paths. Group ``inferd.doors``."""

    for_platform: bool
    """Whether it is made for a cloud platform that calls a container nobody else reaches, and knows no keys."""
    control_paths: str
    """A regular expression that matches the whole of each path that changes what is served; "" for none."""
