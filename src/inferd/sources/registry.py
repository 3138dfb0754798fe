"""An MLflow model registry as a store that is mirrored: the versions of one registered model, or the one of an alias.

The client is MLflow's own, so that the registry's address and credentials are where it looks for them:
``MLFLOW_TRACKING_URI``, ``MLFLOW_REGISTRY_URI``, ``MLFLOW_TRACKING_TOKEN`` and so on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from inferd.core.errors import ConfigError, LoadFailed, MissingExtra
from inferd.sources.blobs import RemoteFile

SCHEME = "models:/"
EXTRA = "mlflow"
_URL = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>[1-9][0-9]{0,8}|latest)|@(?P<alias>[^/@]+))?")
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # As usual it asks for minutes before it says that nobody answers; a server that starts or looks again cannot wait.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_LONG_AGO_S = 1.0


class RegistryStore:
    """``models:/name`` (all versions), ``models:/name/3``, ``models:/name/latest`` or ``models:/name@alias``. See
    ``Store``.

    A version of a registry never changes, so its files are listed once.
    """

    def __init__(self, url: str) -> None:
        """Raises ``MissingExtra``, and ``ConfigError`` for another form and where no registry is set."""
        match = _URL.fullmatch(url)
        if match is None:
            raise ConfigError(f"{url} is not models:/name, models:/name/version or models:/name@alias")
        self.name, self._version, self._alias = match["name"], match["version"], match["alias"]
        self._client, registry = _client(url)
        self.identity = f"{registry} {url}"
        self._listed: dict[str, dict[str, RemoteFile]] = {}

    def files(self) -> Mapping[str, RemoteFile]:
        """See ``Store``."""
        versions = {f"{each.version}@{each.creation_timestamp}": each for each in self._versions()}
        if not versions:
            raise LoadFailed(f"the registry has no version of {self.name!r} that is ready")
        known = {key: self._listed.get(key) or self._files(each) for key, each in versions.items()}
        self._listed = known
        return {path: file for files in known.values() for path, file in files.items()}

    def append(self, file: RemoteFile, partial: Path) -> None:
        """See ``Store``; what a download that broke off had brought is lost."""
        import mlflow.artifacts

        with TemporaryDirectory(dir=partial.parent) as folder:
            got = mlflow.artifacts.download_artifacts(artifact_uri=file.path, dst_path=folder)
            Path(got).replace(partial)

    def _versions(self) -> list[Any]:
        """Those that the URL means. Raises what MLflow does, also where there is no such model, version or alias."""
        if self._alias is not None:
            return [self._client.get_model_version_by_alias(self.name, self._alias)]
        if self._version not in (None, "latest"):
            return [self._client.get_model_version(self.name, self._version)]
        self._client.get_registered_model(self.name)
        found = [each for each in self._all_versions() if each.status == "READY"]
        return found if self._version is None else sorted(found, key=lambda each: int(each.version))[-1:]

    def _all_versions(self) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_model_versions(f"name='{self.name}'", page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _files(self, version: Any) -> dict[str, RemoteFile]:
        uri = f"{SCHEME}{self.name}/{version.version}"
        tag = f"{version.source} {version.creation_timestamp}"
        # A version that is ready is whole, however young: it must not be waited for while the one before has gone.
        return {
            f"{version.version}/{path}": RemoteFile(f"{uri}/{path}", size_bytes, tag, _LONG_AGO_S)
            for path, size_bytes in _walk(uri, "")
        }


def _walk(uri: str, below: str) -> Iterator[tuple[str, int]]:
    """Path and size of each file under ``uri``; paths are from the model's folder."""
    import mlflow.artifacts

    for each in mlflow.artifacts.list_artifacts(artifact_uri=f"{uri}/{below}" if below else uri):
        if each.is_dir:
            yield from _walk(uri, each.path)
        else:
            yield each.path, each.file_size or 0


def _client(url: str) -> tuple[Any, str]:
    """MLflow's client, and the address of the registry it asks."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtra(url, EXTRA) from error
    if not (os.environ.get("MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_REGISTRY_URI")):
        # MLflow would make a database in the working directory.
        raise ConfigError(f"{url}: no registry is set; set MLFLOW_TRACKING_URI to its address")
    return mlflow.MlflowClient(), mlflow.get_registry_uri()
