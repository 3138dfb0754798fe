"""``inferd keys``: make API keys; the file keeps their hashes only."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@click.group()
def command() -> None:
    """Make API keys."""


@command.command(
    epilog="""\b
Examples:
  inferd keys new --scope inference --file keys.toml
  inferd keys new --scope inference --scope metrics --expires 90d --id dashboard
"""
)
@click.option("--scope", "scopes", multiple=True, required=True, metavar="inference|admin|metrics", help="Repeatable.")
@click.option("--file", "file", default="keys.toml", show_default=True, metavar="FILE", help="File to add the key to.")
@click.option("--expires", metavar="AGE", help="90d, 12h or 4w from now; never when left out.")
@click.option("--id", "key_id", metavar="TEXT", help="Name of the key in logs; made up when left out.")
def new(scopes: tuple[str, ...], file: str, expires: str | None, key_id: str | None) -> None:
    """Make a key of 256 random bits, print it once, and add its hash to FILE."""
    from inferd.server.keys import append_key, new_key

    until = None if expires is None else datetime.now(UTC).replace(microsecond=0) + _age(expires)
    secret, key = new_key(key_id or f"key-{secrets.token_hex(4)}", scopes, until)
    append_key(Path(file), key)
    click.echo(f"Added {key.id} to {file}. The key is shown this once:", err=True)
    click.echo(secret)


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if match is None:
        raise click.BadParameter(f"takes an age such as 90d, 12h or 4w, got {text!r}", param_hint="--expires")
    return int(match[1]) * _UNITS[match[2]]
