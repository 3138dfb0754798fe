"""``inferd check``: load, warm and infer every wanted version without serving; the exit code is for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferd.cli.loading import find_models, model_options
from inferd.core.errors import InferdError, LoadFailed
from inferd.core.plain_text import plain_lines

if TYPE_CHECKING:
    from inferd.core.config import ModelConfig
    from inferd.repository.loader import LoadedVersion

_COLUMNS = ("model", "version", "runtime", "device", "runs", "load", "warm-up", "cost", "result")


@click.command(
    epilog="""\b
Examples:
  inferd check model.onnx
  inferd check models/ --version-policy all
"""
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@model_options
def command(paths: tuple[str, ...], version_policy: str | None, allow_pickle: bool | None) -> int:
    """Load, warm and infer the models at PATH without serving them, and let them through the gate.

    A version comes after the one before it that is checked too: --version-policy latest:2 holds the newest version's
    signature against the last one's.

    Exit code 0 when all of them work, 1 when one does not, 2 when PATH or the configuration is wrong.
    """
    rows = []
    failures: list[str] = []
    for model in find_models(paths, version_policy, allow_pickle):
        before: LoadedVersion | None = None
        for version, artefact in sorted(model.versions.items()):
            try:
                row, before = _check(model.config, version, artefact, before)
                rows.append(row)
            except InferdError as error:
                failures.append(f"{model.name} version {version}: {error.message}")
                rows.append((model.name, str(version), *[""] * 6, "FAILED"))
        for version, reason in model.problems.items():
            failures.append(f"{model.name} version {version}: {reason}")
            rows.append((model.name, str(version), *[""] * 6, "FAILED"))
    _print_table(rows)
    for failure in failures:
        click.echo(plain_lines(failure), err=True)
    return 1 if failures else 0


def _check(
    config: ModelConfig, version: int, artefact: Path, before: LoadedVersion | None
) -> tuple[tuple[str, ...], LoadedVersion]:
    """The row of the table, and the version that the next one comes after."""
    from inferd.repository.loader import load_version

    loaded = load_version(config, version, artefact, before=before)
    try:
        _infer(loaded, artefact)
        times = (f"{loaded.load_s:.2f} s", f"{loaded.warmup_s:.2f} s", f"{loaded.cost_us:.0f} us")
        row = (config.name, str(version), loaded.runtime, loaded.metadata.device, loaded.mode, *times, "ok")
        return row, loaded
    finally:
        loaded.close()


def _infer(loaded: LoadedVersion, artefact: Path) -> None:
    """Execute the example rows and hold the answer against the signature; raises ``LoadFailed`` where they differ."""
    from inferd.core.tensors import datatype_name, describe
    from inferd.repository.warmup import warmup_rows

    model, signature = loaded.model, loaded.signature
    outputs = model.execute(warmup_rows(model, artefact), (), {}, "")
    for spec in signature.outputs:
        array = outputs.get(spec.name)
        if array is None:
            raise LoadFailed(f"output {spec.name!r} of the signature is not in the answer")
        if datatype_name(array.dtype) != spec.datatype or not spec.accepts_shape(array.shape):
            got = f"{datatype_name(array.dtype)}{list(array.shape)}"
            raise LoadFailed(f"output {spec.name!r} is {got} where the signature says {describe(spec)}")


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*_COLUMNS, box=None)
    for row in rows:
        table.add_row(*row, style="red" if row[-1] == "FAILED" else None)
    # Into a file or a CI log there is no width to fit, and a wrapped table is hard to read.
    console = Console()
    console.print(table, width=None if console.is_terminal else 160)
