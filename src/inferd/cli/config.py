"""``inferd config``: each setting's value and where it comes from."""

from __future__ import annotations

import click

from inferd.cli.serve import read_settings
from inferd.server.settings import FILE_VARIABLE, SCHEMA, default_of


@click.command(
    epilog="""\b
Examples:
  inferd config
  INFERD_PORT=9000 inferd config --config production.toml
"""
)
@click.option("--config", "config_file", metavar="FILE", envvar=FILE_VARIABLE, help="Settings file.")
def command(config_file: str | None) -> None:
    """Print each setting and its origin: default, file and line, or environment variable."""
    settings, origins = read_settings(config_file, {"paths": None})
    values = {name: getattr(settings, name) for name in SCHEMA}
    rows = [
        (name, _shown(default_of(name) if value is None else value), origins[name]) for name, value in values.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value) or "-"
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value == "" else f"{value:g}" if isinstance(value, float) else str(value)
