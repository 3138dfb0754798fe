"""``inferd serve``: its flags are the settings' schema, its work is the server's."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from inferd.core.schema import inner
from inferd.server.settings import (
    FILE_VARIABLE,
    HINTS,
    SCHEMA,
    Settings,
    default_of,
    flag_name,
    load_settings,
    variable_name,
)

DEFAULT_FILE = "inferd.toml"
_METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER"}


def settings_options(command: click.Command) -> click.Command:
    """Add the argument, the flags and ``--config`` that the schema defines."""
    command.params.append(click.Argument(["paths"], nargs=-1, metavar="PATH..."))
    command.params.extend(_option(name) for name in SCHEMA if name != "paths")
    command.params.append(
        click.Option(
            ["--config", "config_file"],
            metavar="FILE",
            envvar=FILE_VARIABLE,
            help=f"Settings file. [default: {DEFAULT_FILE} where it exists]",
        )
    )
    return command


def read_settings(config_file: str | None, flags: dict[str, Any]) -> tuple[Settings, dict[str, str]]:
    """Settings of this process. Flags that were not given are None, paths that were not given are empty."""
    file = Path(config_file) if config_file else Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None
    return load_settings(file=file, env=os.environ, flags={**flags, "paths": flags["paths"] or None}, in_container=True)


def _option(name: str) -> click.Option:
    hint = inner(HINTS[name])
    entry = SCHEMA[name]
    flag = flag_name(name)
    default = default_of(name) if default_of(name) not in ("", ()) else "none"
    shown = f"{default:g}" if isinstance(default, float) else str(default).lower() if hint is bool else default
    text = f"{entry.metadata['help']} [default: {shown}; {variable_name(name)}]"
    if hint is bool:
        # A pair of flags, so that a flag can also take back what the file or the environment says.
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=None, help=text)
    if get_origin(hint) is tuple:
        return click.Option([flag], metavar="LIST", multiple=True, callback=_join, help=text)
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    return click.Option([flag], metavar="|".join(choices) or _METAVARS[hint], help=text)


def _join(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """A flag of a list may be given several times; None when it was not given."""
    return ",".join(values) or None


@click.command(
    epilog="""\b
Examples:
  inferd serve model.onnx
  inferd serve models/ --default-model iris --port 9000
  inferd serve sentiment.py:Sentiment --max-batch-size 32 --max-wait-ms 2
  INFERD_LOG_FORMAT=json inferd serve models/ --host 0.0.0.0 --api-keys-file keys.toml
"""
)
def command(config_file: str | None, **flags: Any) -> int:
    """Serve the models at PATH over HTTP.

    A PATH is one artefact (a file), module:Class or file.py:Class, a model folder (1/model.onnx, 2/model.onnx), or a
    repository: a folder of model folders.
    """
    settings, origins = read_settings(config_file, flags)
    takes_models_later = settings.model_control and "sagemaker" in settings.protocols
    if not settings.paths and not takes_models_later:
        raise click.UsageError("name at least one PATH to serve, for example: inferd serve model.onnx")
    from inferd.repository.threads import any_left
    from inferd.server.run import run

    code = run(settings, origins)
    _end_output()
    if any_left():
        # A model that is still being loaded, in a framework's own code, which an interpreter that ends may break.
        os._exit(code)
    return code


def _end_output() -> None:
    """Write what is still to be written; what cannot be, as on a full disk, must not become the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


settings_options(command)
