"""``inferd inspect``: what is inferred about a model, as a ``model.toml`` that gives the same back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from inferd.cli.loading import load_one, model_options

if TYPE_CHECKING:
    from inferd.repository.loader import LoadedVersion


@click.command(
    epilog="""\b
Examples:
  inferd inspect model.onnx
  inferd inspect models/iris > inferred.toml
"""
)
@click.argument("path")
@model_options
def command(path: str, version_policy: str | None, allow_pickle: bool | None) -> None:
    """Print what is inferred about the model at PATH, as a valid model.toml.

    What the file leaves out is inferred again, so keep only the lines you change.
    """
    from inferd.repository.model_toml import dump_model_toml

    loaded = load_one(path, version_policy, allow_pickle)
    try:
        config = replace(loaded.config, batchable=loaded.model.batchable)
        click.echo(_remarks(loaded) + dump_model_toml(config, loaded.signature), nl=False)
    finally:
        loaded.close()


def _remarks(loaded: LoadedVersion) -> str:
    metadata = loaded.metadata
    lines = [
        f"{loaded.config.name} version {loaded.version}: {loaded.runtime} {metadata.runtime_version}".rstrip(),
        f"device {metadata.device}, runs {loaded.mode}, {loaded.cost_us:.0f} us for the largest batch",
        *(f"{name}: {value}" for name, value in metadata.provenance.items()),
    ]
    if metadata.classes:
        lines.append(f"classes: {', '.join(map(str, metadata.classes))}")
    if metadata.feature_names:
        lines.append(f"features: {', '.join(metadata.feature_names)}")
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)
