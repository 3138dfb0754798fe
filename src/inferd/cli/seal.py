"""``inferd seal``: write the manifest of versions, so that a changed byte keeps them from being served."""

from __future__ import annotations

from pathlib import Path

import click

from inferd.core.errors import ConfigError


@click.command(
    epilog="""\b
Examples:
  inferd seal models/iris/2
  inferd seal models/iris/*
"""
)
@click.argument("folders", nargs=-1, required=True, metavar="VERSION_FOLDER...")
def command(folders: tuple[str, ...]) -> None:
    """Write a manifest.json with the SHA-256 of every file into each VERSION_FOLDER.

    A sealed version whose files were changed, removed or added to is not loaded; its state says which file it was.
    """
    from inferd.repository.manifest import write_manifest

    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(f"{folder} is no folder; name the folder of a version, such as models/iris/2")
        count = write_manifest(Path(folder))
        click.echo(f"{folder}: {count} {'file' if count == 1 else 'files'} sealed")
