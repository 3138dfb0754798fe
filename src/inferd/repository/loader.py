"""Load one version: artefact to model, hooks around it, warm-up, measurements; undone when any step fails."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from inferd.abc import Model, ModelMetadata, Runtime
from inferd.core.config import ModelConfig
from inferd.core.errors import InferdError, LoadFailed, MissingExtra, OutOfMemory
from inferd.core.lifecycle import VersionState
from inferd.core.plugins import available, lookup
from inferd.core.tensors import Signature
from inferd.repository.artefact import beside, has_file
from inferd.repository.gate import check_gate
from inferd.repository.manifest import check_manifest
from inferd.repository.warmup import Measured, warm_up
from inferd.runtimes.hooks import wrap

logger = logging.getLogger("inferd.repository")

HOOKS_FILE = "hooks.py"


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that has been loaded and warmed. ``models`` holds one model an instance, or one that all share."""

    config: ModelConfig
    version: int
    runtime: str
    models: tuple[Model, ...]
    measured: Measured
    digest: str
    load_s: float

    @property
    def model(self) -> Model:
        """The first instance's model."""
        return self.models[0]

    @property
    def metadata(self) -> ModelMetadata:
        """What the runtime found out."""
        return self.model.metadata

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """All signatures; the first is the default."""
        return self.model.signatures

    @property
    def signature(self) -> Signature:
        """The default signature."""
        return next(iter(self.model.signatures.values()))

    @property
    def mode(self) -> str:
        """Where batches run: "inline", at least the small ones, or "thread"."""
        return "inline" if self.measured.inline_rows else "thread"

    @property
    def cost_us(self) -> float:
        """What the largest batch cost at warm-up, in microseconds."""
        return self.measured.cost_us

    @property
    def warmup_s(self) -> float:
        """Seconds of warm-up."""
        return self.measured.seconds

    @property
    def max_batch_difference(self) -> float | None:
        """Largest absolute difference between executing rows alone and together; None when not batchable."""
        return self.measured.max_batch_difference

    def close(self) -> None:
        """Free every model."""
        for model in self.models:
            model.close()


def load_version(
    config: ModelConfig,
    version: int,
    artefact: Path,
    on_state: Callable[[VersionState], None] = lambda state: None,
    *,
    before: LoadedVersion | None = None,
) -> LoadedVersion:
    """Load and warm ``artefact``, and let it through the gate. Slow; call it off the loop. ``on_state`` is told when
    warming begins. ``before`` is the version it comes after.

    Raises ``LoadFailed`` with one readable reason; the framework's own error goes to the log.
    """
    started = time.monotonic()
    runtime = runtime_for(config, artefact)
    config = replace(config, runtime=runtime.name)
    _warn_of_oversubscription(config)
    models: list[Model] = []
    try:
        check_manifest(artefact)
        models.append(_load_model(runtime, config, artefact))
        if not models[0].concurrent:
            models.extend(_load_model(runtime, config, artefact) for _ in range(config.instances.count - 1))
        load_s = time.monotonic() - started
        on_state(VersionState.WARMING)
        alike = before is not None and replace(before.config, batching=config.batching) == config
        measured = warm_up(models, config, artefact, before.measured if before is not None and alike else None)
        measured = replace(measured, asked=config.batching)
        check_gate(models[0], measured, config, artefact, before.signature if before is not None else None)
        digest = digest_of(artefact)
    except InferdError as error:
        _close(models)
        if _lacks_memory(error.__cause__):
            raise OutOfMemory(error.message) from error
        raise
    # Whatever a framework raises, one broken model must not take the others down.
    except Exception as error:
        _close(models)
        logger.exception("%s version %d could not be loaded", config.name, version)
        kind = OutOfMemory if _lacks_memory(error) else LoadFailed
        raise kind(f"{runtime.name} could not load it: {_first_line(error)}") from error
    batching = replace(config.batching, enabled=measured.batching, max_batch_size=measured.max_batch_size)
    config = replace(config, batching=batching)
    return LoadedVersion(config, version, runtime.name, tuple(models), measured, digest, load_s)


def _lacks_memory(error: BaseException | None) -> bool:
    """PyTorch has a class of its own for a device's memory."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def runtime_for(config: ModelConfig, artefact: Path) -> Runtime:
    """The configured runtime, or the first that claims ``artefact``. Raises ``LoadFailed`` when there is none."""
    if config.runtime:
        runtime: Runtime = lookup("inferd.runtimes", config.runtime)
        return runtime
    runtimes: list[Runtime] = [lookup("inferd.runtimes", name) for name in available("inferd.runtimes")]
    for runtime in runtimes:
        if runtime.claims(artefact):
            return runtime
    names = ", ".join(runtime.name for runtime in runtimes)
    raise LoadFailed(f"no runtime loads {artefact.name!r}; installed: {names}. Name one with `runtime` in model.toml")


def _load_model(runtime: Runtime, config: ModelConfig, artefact: Path) -> Model:
    hooks = beside(artefact) / HOOKS_FILE
    hooked = has_file(hooks)
    try:
        model = runtime.load(config, artefact, config.instances.device)
    except ImportError as error:
        if not runtime.extra:
            raise
        raise MissingExtra(f"{config.name} ({runtime.name})", runtime.extra) from error
    if not hooked:
        return model
    try:
        return wrap(model, hooks, config)
    except Exception:
        model.close()
        raise


def _warn_of_oversubscription(config: ModelConfig) -> None:
    cores = os.cpu_count() or 1
    threads = config.execution.intra_op_threads * config.instances.count
    if threads > cores:
        logger.warning("%s asks for %d threads on %d cores: expect it to be slower", config.name, threads, cores)


def _close(models: list[Model]) -> None:
    for model in models:
        model.close()


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def digest_of(artefact: Path) -> str:
    """``sha256:…`` of a file, or of a folder's relative paths and contents; "" for what is not on disk."""
    if not artefact.exists():
        return ""
    total = hashlib.sha256()
    files = [artefact] if artefact.is_file() else sorted(path for path in artefact.rglob("*") if path.is_file())
    for path in files:
        if path != artefact:
            total.update(path.relative_to(artefact).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"
