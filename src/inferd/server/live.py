"""A model that is an object of this process, not a file: which runtime takes it, and under what name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from inferd.core.config import ModelConfig
from inferd.repository.desired import WantedModel

# By the package that defines the object's class or one of its bases; everything else is the python runtime's.
_RUNTIMES = {"sklearn": "sklearn", "torch": "torch"}


def wanted_object(model: Any, name: str, defaults: ModelConfig) -> WantedModel:
    """``model`` as version 1 of a model called ``name``, or like its class or function."""
    bases = type(model).__mro__
    packages = {base.__module__.partition(".")[0] for base in bases}
    runtime = next((_RUNTIMES[package] for package in _RUNTIMES if package in packages), "python")
    own_name = getattr(model, "__name__", type(model).__name__)
    config = replace(defaults, name=name or own_name, runtime=runtime, options={"object": model})
    return WantedModel(config.name, config, {1: Path(own_name)}, origin=repr(own_name), there=(1,))
