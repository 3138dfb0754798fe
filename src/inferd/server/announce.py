"""What a person sees at start: progress while loading, a table of models, and a curl that can be pasted as it is."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
from collections.abc import Generator, Sequence

import orjson

from inferd.core.lifecycle import VersionState
from inferd.core.plain_text import digits, one_line
from inferd.core.tensors import TensorSpec
from inferd.protocols.native.example import example_request
from inferd.repository.record import VersionRecord
from inferd.repository.repository import ModelRepository
from inferd.server.listeners import Listener
from inferd.serving.engine import Engine
from inferd.serving.servable import Servable

_SETTLED = frozenset({VersionState.READY, VersionState.FAILED})
PROGRESS_TICK_S = 0.1
LONGEST_BODY = 600
MOST_ROWS = 50


@contextlib.contextmanager
def show_progress(repository: ModelRepository, log_format: str) -> Generator[None, None, None]:
    """A progress bar on standard error while models load; on a terminal only."""
    if log_format != "text" or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("loading models", total=len(repository.records))

        async def watch() -> None:
            while True:
                done = sum(record.state in _SETTLED for record in repository.records)
                busy = ", ".join(record.model for record in repository.records if record.state not in _SETTLED)
                progress.update(bar, completed=done, description=f"loading {busy}")
                await asyncio.sleep(PROGRESS_TICK_S)

        task = asyncio.get_running_loop().create_task(watch())
        try:
            yield
        finally:
            task.cancel()


def announce(repository: ModelRepository, engine: Engine, url: str, also: Sequence[str], plain: Listener) -> None:
    """Print the table, the addresses and the curl on standard error; ``also`` says where everything else is."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    table = Table("model", "version", "runtime", "device", "state", "runs", "load s")
    records = repository.records
    for record in records[:MOST_ROWS]:
        table.add_row(*_row(record))
    console.print(table)
    if len(records) > MOST_ROWS:
        console.print(f"and {len(records) - MOST_ROWS} more: inferd models list")
    for record in repository.records:
        if record.state is VersionState.FAILED:
            console.print(f"{record.model} version {record.version} FAILED: {one_line(record.reason)}", markup=False)
    has_predict = "native" in plain.door.protocols
    command = example_curl(repository, engine, url, needs_key=plain.front.guard.needs_key) if has_predict else ""
    console.print(f"\nListening on {url} (documents at {url}/docs)", markup=False, highlight=False)
    for line in also:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if command:
        console.print("Try:\n", highlight=False)
        # Not wrapped: a broken line could not be pasted.
        console.print(command, soft_wrap=True, markup=False, highlight=False)


def example_curl(repository: ModelRepository, engine: Engine, url: str, *, needs_key: bool) -> str:
    """A command that gets a prediction from the default model, or from the first ready one; "" when none is.

    The server does not know the text of its keys: with ``needs_key`` the command takes one from ``$INFERD_API_KEY``.
    """
    servables = [record.servable for record in repository.records if record.servable is not None]
    if not servables:
        return ""
    default = next((each for each in servables if each.name == engine.table.default_model), None)
    servable = default or servables[0]
    path = "/predict" if default else f"/models/{servable.name}/predict"
    body = orjson.dumps(example_request(servable.signature, batchable=servable.batchable)).decode()
    command = f"curl {url}{path} -H 'Content-Type: application/json'"
    if needs_key:
        command += ' -H "X-API-Key: $INFERD_API_KEY"'
    if len(body) <= LONGEST_BODY:
        return f"{command} -d {shlex.quote(body)}"
    # Too long to read, let alone to paste: have it made on the spot.
    script = f"import json; print(json.dumps({_zeros(servable)}))"
    return f"python3 -c {shlex.quote(script)} | {command} -d @-"


def _zeros(servable: Servable) -> str:
    """A Python expression for a small request to ``servable``, as short as its inputs have dimensions."""
    row = {spec.name: _filled(spec, servable.batchable) for spec in servable.signature.inputs if not spec.optional}
    only = next(iter(row.values()))
    named = "{" + ", ".join(f"{name!r}: {value}" for name, value in row.items()) + "}"
    return f"{{'instances': [{only if len(row) == 1 else named}]}}"


def _filled(spec: TensorSpec, batchable: bool) -> str:
    value = "'text'" if spec.datatype == "BYTES" else "False" if spec.datatype == "BOOL" else "0"
    for size in reversed(spec.shape[1:] if batchable else spec.shape):
        value = f"[{value}] * {max(size, 1)}" if size != 1 else f"[{value}]"
    return value


def _row(record: VersionRecord) -> tuple[str, ...]:
    servable = record.servable
    if servable is None:
        return record.model, str(record.version), record.config.runtime, "", record.state.value, "", ""
    execution = servable.info["execution"]
    rows, inline_rows = execution["cost_of_rows"], execution["inline_rows"]
    where = "thread" if not inline_rows else "inline" if inline_rows >= rows else f"inline to {inline_rows} rows"
    mode = f"{where} ({digits(execution['cost_us'] / 1e3, 2)} ms for {rows})"
    device, runtime = servable.metadata.device, str(servable.info["runtime"])
    return (
        record.model,
        str(record.version),
        runtime,
        device,
        record.state.value,
        mode,
        f"{record.load_s:.2f}",
    )
