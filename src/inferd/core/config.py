"""What may be configured about a model: frozen values, made from ``model.toml`` or by inference, read by everyone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from inferd.core.tensors import TensorSpec

NanPolicy = Literal["error", "null", "string"]
Transition = Literal["availability-preserving", "resource-preserving"]
Load = Literal["eager", "lazy"]


@dataclass(frozen=True, slots=True)
class BatchingConfig:
    """Dynamic batching. Four clocks that are never mixed: ``max_wait_ms``, ``queue_timeout_ms``, the execution's
    ``compute_timeout_ms``, and each request's own deadline.

    ``max_batch_size`` counts rows; 0 lets the warm-up measure it: doubled up to 1,024 while a batch stays below
    100 ms. ``max_wait_ms`` runs from the oldest queued request; 0 takes what is there. ``max_queue_size`` counts rows.
    ``queue_timeout_ms`` 0 means no bound. ``allowed_sizes`` pads a batch up to the next of these sizes; empty means
    no padding.
    """

    enabled: bool | None = None
    max_batch_size: int = 0
    max_wait_ms: float = 0.0
    max_queue_size: int = 4096
    queue_timeout_ms: float = 0.0
    allowed_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """How many instances (threads) execute the model, and on which device ("auto", "cpu", "cuda:0")."""

    count: int = 1
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class ExecutionConfig:
    """How a batch runs. ``mode`` "auto" measures at warm-up. ``inline_max_us`` bounds the 99th percentile of a batch
    for running on the loop; larger ones run in a thread. ``compute_timeout_ms`` 0 means no bound.
    ``intra_op_threads`` 0 means cores divided by instances. ``max_concurrency`` bounds an async model's calls in
    flight."""

    mode: Literal["auto", "inline", "thread"] = "auto"
    inline_max_us: float = 500.0
    compute_timeout_ms: float = 0.0
    intra_op_threads: int = 0
    max_concurrency: int = 64


@dataclass(frozen=True, slots=True)
class LifecycleConfig:
    """How versions come and go. ``version_policy`` is ``latest``, ``latest:N``, ``all`` or ``1,3``; "" is the server's.
    ``transition`` says which leaves first: the new version is ready before the old one goes, or the old one is gone
    before the new one is loaded. ``retries`` bounds how often a failed load is tried again, after
    2, 8, 32 … seconds. ``load_timeout_s`` bounds loading and warm-up, 0: no bound. ``load`` "lazy" waits for the first
    call, and lets the version be unloaded when others need the memory or nobody asks."""

    version_policy: str = ""
    transition: Transition = "availability-preserving"
    retries: int = 3
    load_timeout_s: float = 600.0
    load: Load = "eager"


@dataclass(frozen=True, slots=True)
class GateConfig:
    """What a version must prove before it is served. ``golden`` runs the examples beside the artefact, where there are
    any; outputs may differ from them by ``atol + rtol * |expected|``. ``signature`` "compatible" refuses one that
    callers of the version before could not use. ``max_latency_ms`` bounds the 99th percentile of a call with
    ``latency_rows`` rows; 0 means no bound. ``max_batch_difference`` bounds how much rows may differ alone and in a
    batch."""

    golden: bool = True
    rtol: float = 1e-3
    atol: float = 1e-4
    signature: Literal["any", "compatible"] = "any"
    max_latency_ms: float = 0.0
    latency_rows: int = 1
    max_batch_difference: float | None = None


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Answers that are given again to equal requests: at most ``max_mb`` MiB of them, 0 for none, for ``ttl_s``
    seconds, 0 for as long as the version serves. Only for models that answer alike each time."""

    max_mb: float = 0.0
    ttl_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything known about one model before it is loaded.

    Empty ``inputs``/``outputs`` are inferred from the artefact; given ones override it. ``select_outputs`` names the
    outputs a request gets when it names none. ``options`` belong to the runtime alone.
    """

    name: str
    runtime: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    select_outputs: tuple[str, ...] = ()
    batchable: bool | None = None
    nan: NanPolicy = "error"
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    instances: InstanceGroup = field(default_factory=InstanceGroup)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    lifecycle: LifecycleConfig = field(default_factory=LifecycleConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    allow_pickle: bool = False
