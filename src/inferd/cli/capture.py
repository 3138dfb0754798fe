"""``inferd capture``: have a running server keep a sample of a model's requests, and save them."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from inferd.cli.models import answering, ask, server_options
from inferd.cli.progress import progress_bar
from inferd.core.errors import ConfigError

POLL_S = 0.25
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DROPPED = {
    "ring": "older ones made room",
    "too_large": "were larger than --max-mb",
    "failed": "could not be copied, see the server's log",
}
_PIECE_BYTES = 1 << 18


class Duration(click.ParamType):
    """``90``, ``90s``, ``10m`` or ``1.5h``, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds above 0."""
        found = re.fullmatch(r"([0-9]*\.?[0-9]+)([smh]?)", str(value))
        if found is None or float(found[1]) <= 0:
            self.fail(f"{value!r} is no time; write 90s, 10m or 1.5h", param, ctx)
        return float(found[1]) * _UNITS_S[found[2]]


@click.command(
    epilog="""\b
Examples:
  inferd capture iris -o capture.npz
  inferd capture iris --sample 0.1 --requests 1000 --for 60s --redact ssn -o capture.npz
  inferd capture ranker --unit header:X-User-Id --for 1h -o capture.npz
"""
)
@click.argument("model")
@click.option("-o", "--out", metavar="FILE", required=True, help="The .npz file to write.")
@click.option("--sample", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True)
@click.option(
    "--requests", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="End with so many."
)
@click.option("--for", "for_s", type=Duration(), default="1h", show_default=True, help="End after this time.")
@click.option("--max-mb", type=float, default=64.0, show_default=True, help="MiB the server may hold; the oldest go.")
@click.option("--redact", multiple=True, metavar="NAME", help="Keep zeros for this input, and not this output.")
@click.option("--leave-out", multiple=True, metavar="NAME", help="Do not keep this input or output.")
@click.option("--parameters/--no-parameters", default=True, help="Keep the requests' parameters.")
@click.option("--unit", default="", metavar="TEXT", help="Keep an experiment's unit: header:NAME, cookie:NAME, …")
@click.option("--salt", default="", help="Hash the unit with this, such as the experiment's. [default: MODEL]")
@click.option("--plain-unit", is_flag=True, help="Keep the unit as it is, not hashed.")
@server_options
def command(model: str, out: str, url: str, api_key: str, as_json: bool, **options: Any) -> None:
    """Keep a sample of the requests to MODEL, with their answers, and save them; Ctrl-C saves what there is.

    The server samples into a ring in its memory, until there are enough or the time is over. Nothing is kept of callers
    but their requests' tensors, parameters and ids, and the --unit.
    """
    target = Path(out)
    if target.suffix.lower() != ".npz" or not target.absolute().parent.is_dir():
        raise ConfigError(f"{out}: give a file that ends in .npz, in a folder that exists")
    _part(target).touch()  # rather now than after an hour
    _part(target).unlink()
    options["max_requests"] = options.pop("requests")
    path = f"/admin/models/{quote(model, safe='')}/capture"
    ask(url, api_key, "PUT", path, options)
    try:
        _watch(url, api_key, path, options["max_requests"])
    except KeyboardInterrupt:
        click.echo("saving what there is", err=True)
    described = ask(url, api_key, "GET", path)
    if described["held"]:
        _download(url, api_key, f"{path}/requests.npz", target)
    ask(url, api_key, "DELETE", path)
    if as_json:
        click.echo(json.dumps({**described, "file": out if described["held"] else None}))
    if not described["held"]:
        raise click.ClickException(f"none of {described['seen']:,} requests to {model} was kept; nothing is written")
    if not as_json:
        _print(out, described)


def _watch(url: str, api_key: str, path: str, enough: int) -> None:
    """Return when the server holds ``enough`` requests or samples no more; shows how many it has."""
    with progress_bar() as progress:
        task = progress.add_task("capture", total=enough)
        while True:
            described = ask(url, api_key, "GET", path)
            progress.update(task, completed=described["held"], description=f"{described['seen']:,} seen, kept")
            if described["held"] >= enough or not described["running"]:
                return
            time.sleep(POLL_S)


def _download(url: str, api_key: str, path: str, target: Path) -> None:
    """``target`` appears only when it is whole. Raises ``ConfigError`` when the server or the disk fails; the server
    then still has everything."""
    from inferd.core.errors import MalformedRequest
    from inferd.server.capture_file import read_capture

    part = _part(target)
    try:
        with part.open("wb") as file, answering(url, api_key, "GET", path) as answer:
            while piece := answer.read(_PIECE_BYTES):
                _write(file, piece)
        read_capture(part)
        os.replace(part, target)
    except MalformedRequest as error:
        raise ConfigError(f"the download broke off: {error.message}") from None
    finally:
        part.unlink(missing_ok=True)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _write(file: Any, piece: bytes) -> None:
    """Told apart from a server that fails, which raises ``OSError`` too."""
    try:
        file.write(piece)
    except OSError as error:
        raise ConfigError(f"{file.name} cannot be written: {error.strerror}; the server goes on capturing") from None


def _print(out: str, described: dict[str, Any]) -> None:
    dropped = ", ".join(f"{count:,} {_DROPPED[why]}" for why, count in described["dropped"].items())
    size = Path(out).stat().st_size / (1 << 20)
    click.echo(
        f"{out}: {described['held']:,} of {described['seen']:,} requests to {described['model']}, {size:.1f} MiB"
        + (f"; {dropped}" if dropped else "")
    )
    if described["versions_passed_over"]:
        versions = ", ".join(map(str, described["versions_passed_over"]))
        click.echo(f"not captured: version {versions}, which lacks what is to be redacted", err=True)
