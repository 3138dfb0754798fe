"""``inferd seal``: write the manifest of versions, so that a changed byte keeps them from being served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferd.core.errors import ConfigError

if TYPE_CHECKING:
    from inferd.abc import ModelSource


@click.command(
    epilog="""\b
Examples:
  inferd seal models/iris/2
  inferd seal models/iris/*/
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
        _check_version(Path(folder))
        count = write_manifest(Path(folder))
        click.echo(f"{folder}: {count} {'file' if count == 1 else 'files'} sealed")


def _check_version(folder: Path) -> None:
    """Raise ``ConfigError`` for the folder of a model or a repository, whose manifest nobody would read."""
    from inferd.core.plugins import lookup
    from inferd.repository.artefact import is_artefact

    source: ModelSource = lookup("inferd.sources", "file")
    children = [] if is_artefact(folder) else [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    versions = [model / str(version) for model in children for version in source.versions(str(model))]
    if versions:
        more = ", …" if len(versions) > 1 else ""
        raise ConfigError(f"{folder} holds versions and is none; name the folders of versions: {versions[0]}{more}")
