"""What a cloud platform tells the container it starts, by environment variables, as settings.

Sources: Amazon SageMaker AI, "Custom inference code with hosting services" and "Custom containers contract for
multi-model endpoints"; Vertex AI, "Custom container requirements for inference". Whatever a file, a variable of
inferd's own or a flag says comes before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferd.core.errors import ConfigError

_ANYWHERE = "0.0.0.0"
_SAGEMAKER_PORT = 8080
_SAGEMAKER_FOLDER = "/opt/ml"

PlatformSettings = dict[str, tuple[Any, str]]
"""Value and origin of each setting."""


def platform_settings(env: Mapping[str, str], *, has_paths: bool) -> PlatformSettings:
    """The settings that make this process the container a platform expects; {} when none started it.

    SageMaker starts a container with the argument ``serve`` and little else: a command that names no models
    (``has_paths`` is false) where SageMaker puts them is taken for one of its own. Raises ``ConfigError`` for a port
    outside the range that the platform permits.
    """
    return _vertex(env) or _sagemaker(env, has_paths=has_paths)


def _vertex(env: Mapping[str, str]) -> PlatformSettings:
    """Vertex AI names the port, and where the model's files are."""
    if "AIP_HTTP_PORT" not in env:
        return {}
    settings: PlatformSettings = {
        "protocols": (("vertex",), "Vertex AI"),
        "host": (_ANYWHERE, "Vertex AI"),
        "port": (_number(env["AIP_HTTP_PORT"], "AIP_HTTP_PORT"), "environment AIP_HTTP_PORT"),
        "grpc_port": (0, "Vertex AI"),
    }
    if env.get("AIP_STORAGE_URI"):
        path = env["AIP_STORAGE_URI"].removeprefix("file://")
        settings["paths"] = ((path,), "environment AIP_STORAGE_URI")
    return settings


def _sagemaker(env: Mapping[str, str], *, has_paths: bool) -> PlatformSettings:
    base = env.get("SAGEMAKER_BASE_DIR", _SAGEMAKER_FOLDER)
    folder = Path(base) / "model"
    is_multi = env.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true"
    is_told = is_multi or "SAGEMAKER_BIND_TO_PORT" in env or "SAGEMAKER_SAFE_PORT_RANGE" in env
    if not is_told and (has_paths or not folder.is_dir()):
        return {}
    settings: PlatformSettings = {
        "protocols": (("sagemaker",), "SageMaker"),
        "host": (_ANYWHERE, "SageMaker"),
        "port": _sagemaker_port(env),
        "grpc_port": (0, "SageMaker"),
    }
    if is_multi:
        settings["model_control"] = (True, "environment SAGEMAKER_MULTI_MODEL")
    elif not has_paths:
        settings["paths"] = ((str(folder),), "SageMaker")
    return settings


def _sagemaker_port(env: Mapping[str, str]) -> tuple[int, str]:
    """The port to bind, which the platform names where several containers share a host, else SageMaker's usual one."""
    given, permitted = env.get("SAGEMAKER_BIND_TO_PORT"), env.get("SAGEMAKER_SAFE_PORT_RANGE")
    if given is not None:
        return _number(given, "SAGEMAKER_BIND_TO_PORT"), "environment SAGEMAKER_BIND_TO_PORT"
    if permitted is not None:
        first, _, last = permitted.partition("-")
        low, high = (_number(each, "SAGEMAKER_SAFE_PORT_RANGE") for each in (first, last or first))
        return min(max(_SAGEMAKER_PORT, low), high), "environment SAGEMAKER_SAFE_PORT_RANGE"
    return _SAGEMAKER_PORT, "SageMaker"


def _number(text: str, variable: str) -> int:
    if not text.strip().isdecimal() or not 0 < int(text) <= 65535:
        raise ConfigError(f"{variable} takes ports, got {text[:40]!r}")
    return int(text)
