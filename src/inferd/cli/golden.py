"""``inferd golden``: keep what a version answers now as the examples that it and its followers must answer alike."""

from __future__ import annotations

from pathlib import Path

import click

from inferd.cli.loading import load_one, model_options


@click.command(
    epilog="""\b
Examples:
  inferd golden models/iris/1 rows.json -o models/iris/2/golden.npz
  inferd golden model.onnx rows.csv --rows 100 -o golden.npz
  inferd golden models/iris/1 capture.npz -o models/iris/2/golden.npz
"""
)
@click.argument("path")
@click.argument("file")
@click.option("-o", "--out", metavar="FILE", required=True, help="The golden.npz to write, beside an artefact.")
@click.option("--rows", "most", type=click.IntRange(1), default=32, show_default=True, help="Most rows to take.")
@model_options
def command(path: str, file: str, out: str, most: int, version_policy: str | None, allow_pickle: bool | None) -> None:
    """Write the answers of the model at PATH to the first rows of FILE as golden examples.

    FILE is what `inferd predict` takes, such as a file of `inferd capture`. A version with golden.npz beside its
    artefact is served only if it gives these answers, within the tolerances of [gate] in its model.toml.
    """
    from inferd.cli.rows import read_rows
    from inferd.core.errors import ConfigError, MalformedRequest
    from inferd.repository.golden import NPZ, write_golden
    from inferd.repository.manifest import NAME as MANIFEST

    if Path(out).name != NPZ:
        raise ConfigError(f"golden examples are found by their name: give a file called {NPZ}")
    loaded = load_one(path, version_policy, allow_pickle)
    try:
        model = loaded.model
        rows = read_rows(
            Path(file),
            loaded.signature,
            batchable=model.batchable,
            nan=loaded.config.nan,
            feature_names=loaded.metadata.feature_names,
        )
        if not rows.count:
            raise MalformedRequest(f"{file} holds no rows")
        inputs = next(rows.batches(min(most, loaded.config.batching.max_batch_size or most)))
        write_golden(Path(out), inputs, model.execute(inputs, (), rows.parameters, ""))
    finally:
        loaded.close()
    click.echo(f"wrote {out}: {len(next(iter(inputs.values()))) if model.batchable else 1} rows")
    folder = Path(out).parent
    if (folder / MANIFEST).is_file():
        click.echo(f"{folder} is sealed and is not loaded so: run inferd seal {folder} again", err=True)
