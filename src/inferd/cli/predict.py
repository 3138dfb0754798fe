"""``inferd predict``: offline prediction, in batches, through the same loader and the same batch code as the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferd.cli.loading import load_one, model_options
from inferd.cli.progress import progress_bar
from inferd.core.errors import ConfigError, InferdError, MalformedRequest
from inferd.core.schema import suggestion

if TYPE_CHECKING:
    import numpy as np

    from inferd.cli.rows import Rows
    from inferd.repository.loader import LoadedVersion


@click.command(
    epilog="""\b
Examples:
  inferd predict model.onnx rows.csv
  inferd predict models/iris rows.json --output label -o labels.csv
  inferd predict model.onnx images.npy -o logits.npy
"""
)
@click.argument("path")
@click.argument("file")
@click.option("-o", "--out", metavar="FILE", help="File to write: .json, .csv, .npy or .npz. [default: JSON on stdout]")
@click.option("--output", "wanted", multiple=True, metavar="NAME", help="Output to write; repeatable. [default: all]")
@model_options
def command(
    path: str,
    file: str,
    out: str | None,
    wanted: tuple[str, ...],
    version_policy: str | None,
    allow_pickle: bool | None,
) -> None:
    """Predict with the model at PATH for the rows in FILE, without a server.

    FILE is JSON (a /predict body, or an array of rows), JSON Lines, CSV with a header, NPY, NPZ, or what `inferd
    capture` saved.
    """
    from inferd.cli.results import check_output, write_results
    from inferd.cli.rows import read_rows

    loaded = load_one(path, version_policy, allow_pickle)
    try:
        model, config = loaded.model, loaded.config
        rows = read_rows(
            Path(file),
            loaded.signature,
            batchable=model.batchable,
            nan=config.nan,
            feature_names=loaded.metadata.feature_names,
        )
        names = _names(loaded, wanted or rows.wanted)
        target = Path(out) if out else None
        check_output(target, names)
        if rows.count == 0:
            raise MalformedRequest(f"{file} holds no rows")
        results = _execute(loaded, rows, names)
        write_results(target, results, names, rows.count, batchable=model.batchable, nan=config.nan)
    finally:
        loaded.close()


def _names(loaded: LoadedVersion, wanted: tuple[str, ...]) -> tuple[str, ...]:
    known = loaded.signature.output_names
    for name in wanted:
        if name not in known:
            raise ConfigError(f"no output {name!r}{suggestion(name, list(known))}")
    return wanted or loaded.config.select_outputs or known


def _execute(loaded: LoadedVersion, rows: Rows, names: tuple[str, ...]) -> Iterator[Mapping[str, np.ndarray]]:
    from inferd.core.messages import InferenceRequest
    from inferd.execution.batch import Batch

    batching, batchable = loaded.config.batching, loaded.model.batchable
    done = 0
    with progress_bar() as progress:
        task = progress.add_task("predict", total=rows.count)
        for inputs in rows.batches(batching.max_batch_size if batchable else rows.count):
            size = len(next(iter(inputs.values()))) if batchable else 1
            request = InferenceRequest(inputs, wanted=names, parameters=rows.parameters)
            request.rows = size
            batch = Batch([request], size, "offline")
            batch.execute(loaded.model, batching.allowed_sizes)
            ((_, result),) = batch.answers
            if isinstance(result, InferdError):
                raise type(result)(f"rows {done + 1} to {done + size}: {result.message}")
            yield result
            done += size
            progress.advance(task, size)
