"""The one schema of settings: defaults < file < environment < flags, and each value remembers its origin."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from inferd.core.errors import ConfigError
from inferd.core.schema import conform, parse, suggestion
from inferd.core.toml_file import read_toml
from inferd.server.platform import platform_settings

if TYPE_CHECKING:
    from inferd.core.config import ModelConfig

API_KEYS_VARIABLE = "INFERD_API_KEYS"
FILE_VARIABLE = "INFERD_CONFIG"


def _option(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    most: float = math.inf,
    pattern: str = "",
    unset: str | float | None = None,
) -> Any:
    """A field of the schema: its help text, its bounds, the pattern that text must match, and what None comes to."""
    rules = {"help": text, "least": least, "most": most, "pattern": pattern, "unset": unset}
    return field(default=default, metadata=rules)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is told. Each field is also a key of ``inferd.toml``, a variable ``INFERD_<NAME>`` and a flag.

    A field from ``max_batch_size`` on is a default for models whose ``model.toml`` does not say otherwise; None
    leaves inferd's own default.
    """

    paths: tuple[str, ...] = _option(
        (), "Models to serve: files, module:Class, model folders, repositories of them, or URLs."
    )
    host: str = _option("127.0.0.1", "Address to listen on. Any other than loopback needs API keys or --open.")
    port: int = _option(8000, "Port to listen on; 0 takes a free one.", least=0, most=65535)
    grpc_port: int | None = _option(
        None, "Port of gRPC; 0: none. The default is given up when it is taken.", least=0, most=65535, unset=8001
    )
    grpc_front: Literal["grpcio", "aio", "native"] = _option(
        "grpcio",
        "gRPC listener: aio is grpcio's own asyncio server, which is slower; native takes unary calls in Rust, needs "
        "inferd[grpc-fast], and has no TLS.",
    )
    version_policy: str = _option(
        "latest",
        "Versions to serve: latest, latest:N, all, or version numbers separated by commas.",
        pattern=r"latest(:[1-9][0-9]*)?|all|[1-9][0-9]*(,[1-9][0-9]*)*",
    )
    watch: bool = _option(False, "Follow the repository: serve versions that come, drop those that go.")
    watch_interval_s: float = _option(
        30.0, "Seconds between looks at a watched repository, besides those that changes cause.", least=0.1
    )
    watch_settle_s: float = _option(
        2.0, "Seconds for which the files of a version must lie still before a watching server loads it.", least=0.05
    )
    cache_folder: str = _option(
        "", "Folder for what is fetched of remote paths; by default in the user's cache folder."
    )
    cache_max_gb: float = _option(50.0, "GiB of fetched files to keep besides those in use; 0: no bound.", least=0)
    complete_marker: str = _option(
        "", "Name of the file that says that a version's folder is complete; until it is there, nothing is loaded."
    )
    lazy: bool = _option(False, "Load a model at its first call, unless its model.toml says otherwise.")
    memory_budget_mb: float = _option(
        0.0, "MiB of artefacts to keep loaded; lazy models that were asked longest ago make room. 0: no bound.", least=0
    )
    idle_unload_s: float = _option(0.0, "Seconds without a call until a lazy model is unloaded; 0: never.", least=0)
    first_call_wait_s: float = _option(
        60.0, "Seconds a call may wait for a lazy model to be loaded; 0: it gets 503 and Retry-After.", least=0
    )
    model_control: bool = _option(False, "Let V2's repository API load and unload models.")
    allow_shared_memory: bool = _option(
        False, "Let V2 callers on this machine place tensors in shared memory; they name objects the server opens."
    )
    state_file: str = _option(
        "", "File that keeps decisions and history over restarts; by default one in the user's state folder."
    )
    default_model: str = _option("", "Model that /predict asks when several are served.")
    protocols: tuple[str, ...] = _option(
        (), "Wire protocols to offer on the port, separated by commas; empty offers all that need no door."
    )
    door: tuple[str, ...] = _option(
        (), "Further listeners, such as sagemaker=8080: protocols (joined by +) and a port; 0 takes a free one."
    )
    front: Literal["hot", "asgi"] = _option("hot", "HTTP front: hot answers predictions from the parser's callbacks.")

    max_body_mb: float = _option(64.0, "Largest request body in MiB.", least=0.001)
    grpc_max_message_mb: float = _option(64.0, "Largest gRPC message to receive in MiB.", least=0.001, most=2047)
    max_header_kb: int = _option(64, "Largest request header block in KiB.", least=1)
    header_timeout_s: float = _option(10.0, "Seconds a caller may take to send its headers.", least=0.001)
    body_timeout_s: float = _option(60.0, "Seconds a caller may take to send its body.", least=0.001)
    keep_alive_s: float = _option(75.0, "Seconds an idle connection stays open.", least=0.001)
    decode_offload_kb: int = _option(256, "Bodies larger than this many KiB are decoded off the event loop.", least=0)

    allow_pickle: bool = _option(False, "Load pickle-bearing files. They run any code their author put in.")
    strict: bool = _option(False, "Refuse to start when a model cannot be loaded.")
    open: bool = _option(False, "Permit a public address without API keys.")
    api_keys_file: str = _option("", "File of API keys, as written by `inferd keys new`.")

    tls_certificate: str = _option("", "PEM file of the certificate (and its chain) to serve HTTPS with.")
    tls_key: str = _option("", "PEM file of the certificate's private key.")

    log_format: Literal["text", "json"] = _option("text", "Format of log lines.")
    log_level: Literal["debug", "info", "warning", "error"] = _option("info", "Least severe log line to write.")
    access_log: bool = _option(False, "Write a log line for each request.")
    server_timing: bool = _option(True, "Send a Server-Timing header with each answer.")
    otel: bool = _option(False, "Trace requests with OpenTelemetry; needs inferd[otel].")

    experiments: str = _option("", "Folder of experiments, one TOML file each.")
    experiment_store: str = _option(
        "",
        "Where exposures and feedback are kept: a database URL; by default a SQLite file in the experiments' folder.",
    )

    feedback_window_h: float = _option(168.0, "Hours after a prediction in which its outcome may be told.", least=0.001)

    drain_timeout_s: float = _option(30.0, "Seconds that accepted requests may take to finish on shutdown.", least=0)
    load_parallelism: int = _option(2, "Models loaded at the same time.", least=1)

    max_batch_size: int | None = _option(None, "Most rows in one batch; 0: measured at warm-up.", least=0, unset=0)
    max_wait_ms: float | None = _option(
        None, "Milliseconds the oldest request waits for more rows.", least=0, unset=0.0
    )
    max_queue_size: int | None = _option(None, "Most rows waiting for one model.", least=1, unset=4096)
    queue_timeout_ms: float | None = _option(
        None, "Milliseconds a request may wait in the queue; 0: any.", least=0, unset=0.0
    )
    compute_timeout_ms: float | None = _option(None, "Milliseconds a batch may compute; 0: any.", least=0, unset=0.0)
    instances: int | None = _option(None, "Instances that execute each model.", least=1, unset=1)
    device: str | None = _option(None, "Device of each model: auto, cpu, cuda:0.", unset="auto")
    load_timeout_s: float | None = _option(
        None, "Seconds a version may take to load and warm, or it has failed; 0: any.", least=0, unset=600.0
    )
    nan: Literal["error", "null", "string"] | None = _option(None, "NaN and Infinity in JSON.", unset="error")
    intra_op_threads: int | None = _option(
        None, "Threads inside one model's operators; 0: cores / instances.", least=0, unset=0
    )


SCHEMA: dict[str, Field[Any]] = {entry.name: entry for entry in fields(Settings)}
HINTS: dict[str, Any] = get_type_hints(Settings)


def default_of(name: str) -> Any:
    """What holds where nobody says anything, for people."""
    entry = SCHEMA[name]
    return entry.metadata["unset"] if entry.default is None else entry.default


def flag_name(name: str) -> str:
    """``--max-body-mb`` for ``max_body_mb``; the paths are arguments."""
    return "PATH" if name == "paths" else f"--{name.replace('_', '-')}"


def variable_name(name: str) -> str:
    """``INFERD_MAX_BODY_MB`` for ``max_body_mb``."""
    return f"INFERD_{name.upper()}"


def load_settings(
    *, file: Path | None, env: Mapping[str, str], flags: Mapping[str, object], in_container: bool = False
) -> tuple[Settings, dict[str, str]]:
    """Settings from all places, and the origin of each: ``default``, ``file inferd.toml:12``,
    ``environment INFERD_PORT`` or ``flag --port``.

    A flag that is None was not given; one that is text is parsed. ``in_container`` says that a cloud platform may have
    started this process; what it says takes the place of defaults. Raises ``ConfigError`` for an unknown key or a value
    that does not fit.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(SCHEMA, "default")
    if file is not None:
        _take_file(file, values, origins)
    _take_environment(env, values, origins)
    for name, value in flags.items():
        if name not in SCHEMA:
            raise ConfigError(f"unknown setting {name!r}{suggestion(name, list(SCHEMA))}")
        if value is not None:
            values[name] = _checked(name, value, flag_name(name), text=isinstance(value, str))
            origins[name] = f"flag {flag_name(name)}"
    if in_container:
        for name, (value, origin) in platform_settings(env, has_paths=bool(values.get("paths"))).items():
            if name not in values:
                values[name], origins[name] = value, origin
    return Settings(**values), origins


def model_defaults(settings: Settings) -> ModelConfig:
    """The nameless ``ModelConfig`` that a model gets where its ``model.toml`` says nothing."""
    from inferd.core.config import BatchingConfig, ExecutionConfig, InstanceGroup, LifecycleConfig, ModelConfig

    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    return ModelConfig(
        name="",
        batching=BatchingConfig(
            **given(
                max_batch_size=settings.max_batch_size,
                max_wait_ms=settings.max_wait_ms,
                max_queue_size=settings.max_queue_size,
                queue_timeout_ms=settings.queue_timeout_ms,
            )
        ),
        instances=InstanceGroup(**given(count=settings.instances, device=settings.device)),
        execution=ExecutionConfig(
            **given(compute_timeout_ms=settings.compute_timeout_ms, intra_op_threads=settings.intra_op_threads)
        ),
        lifecycle=LifecycleConfig(
            load="lazy" if settings.lazy else "eager", **given(load_timeout_s=settings.load_timeout_s)
        ),
        **given(nan=settings.nan),
    )


def _take_file(path: Path, values: dict[str, Any], origins: dict[str, str]) -> None:
    document = read_toml(path)
    document.refuse_unknown((), document.values, SCHEMA)
    for name, value in document.values.items():
        where = document.where(name)
        values[name] = _checked(name, value, f"{where}: {name}", text=False)
        origins[name] = f"file {where}"


def _take_environment(env: Mapping[str, str], values: dict[str, Any], origins: dict[str, str]) -> None:
    known = {variable_name(name): name for name in SCHEMA}
    for variable, value in env.items():
        if variable in known:
            name = known[variable]
            values[name] = _checked(name, value, variable, text=True)
            origins[name] = f"environment {variable}"
        # Only what looks like a typing mistake: an orchestrator adds INFERD_SERVICE_HOST and the like by itself.
        elif variable not in (API_KEYS_VARIABLE, FILE_VARIABLE) and (
            near := get_close_matches(variable, known, n=1, cutoff=0.85)
        ):
            raise ConfigError(f"unknown variable {variable}; did you mean {near[0]}?")


def _checked(name: str, value: Any, where: str, *, text: bool) -> Any:
    """``value`` as the field holds it, or ``ConfigError`` beginning with ``where``."""
    rules = SCHEMA[name].metadata
    try:
        value = parse(value, HINTS[name]) if text else conform(value, HINTS[name])
    except ValueError as error:
        raise ConfigError(f"{where} {error}") from None
    if rules["least"] is not None and not rules["least"] <= value <= rules["most"]:
        bound = f"from {rules['least']}" + (f" to {rules['most']}" if rules["most"] < math.inf else " up")
        raise ConfigError(f"{where} takes a number {bound}, got {value!r}")
    if rules["pattern"] and not re.fullmatch(rules["pattern"], value):
        raise ConfigError(f"{where} takes {rules['help'].split(': ')[-1].rstrip('.')}, got {value!r}")
    return value
