"""Runs LightGBM models saved as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed, MissingExtra
from inferd.runtimes.boosting import BoostedModel, Ensemble, Task
from inferd.runtimes.configured import intra_op_threads, only_cpu, reason

_FIRST_BYTES = (b"tree\n", b"tree\r\n")
_TASKS: dict[str, Task] = {"binary": "binary", "multiclass": "multiclass", "multiclassova": "multiclass"}


class LightGBMRuntime:
    """Loads ``.txt``, ``.lgb`` and ``.model`` files that begin as LightGBM's text format does. The input is FP64; a NaN
    is a missing value, and a category is its code.

    LightGBM saves the iterations up to the best one only, unless told otherwise.
    """

    api_version = 1
    name = "lightgbm"
    extra = "lightgbm"
    takes = ".txt, .lgb and .model that begin with 'tree'"

    def claims(self, artefact: Path) -> bool:
        """By its suffix and its first line, because many things are text."""
        if artefact.suffix.lower() not in (".txt", ".lgb", ".model") or not artefact.is_file():
            return False
        with artefact.open("rb") as file:
            return file.read(8).startswith(_FIRST_BYTES)

    def load(self, config: ModelConfig, artefact: Path, device: str) -> BoostedModel:
        """Load onto the CPU."""
        try:
            import lightgbm
        except ImportError as error:
            raise MissingExtra(artefact.name, self.extra) from error
        only_cpu("LightGBM", device)
        text = read_text(artefact)
        try:
            booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise LoadFailed(f"LightGBM cannot load {artefact.name}: {reason(error, artefact)}") from error
        return BoostedModel(_ensemble(booster, text, intra_op_threads(config)), config)


def read_text(artefact: Path) -> str:
    """The model's text. Raises ``LoadFailed`` unless its trees are as long as its header says: LightGBM reads them in
    threads, where it ends the whole process at a damaged one."""
    try:
        data = artefact.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadFailed(f"{artefact.name} is not a text file that can be read") from error
    sizes = re.search(rb"^tree_sizes=([\d ]*)\r?$", data, re.MULTILINE)
    if not data.startswith(_FIRST_BYTES) or sizes is None:
        raise LoadFailed(f"{artefact.name} is not a model that LightGBM saved as text")
    trees = data[sizes.end() :].lstrip()
    if not trees[sum(map(int, sizes[1].split())) :].startswith(b"end of trees"):
        raise LoadFailed(f"{artefact.name} is damaged: its trees are not as long as it says; was it copied whole?")
    return text


def _ensemble(booster: Any, text: str, threads: int) -> Ensemble:
    import lightgbm

    objective = re.search(r"^objective=(\S+)", text, re.MULTILINE)
    name = objective[1] if objective else "custom"
    version = re.search(r"^version=(\S+)", text, re.MULTILINE)
    names = tuple(booster.feature_name())
    metadata = ModelMetadata(
        runtime_version=lightgbm.__version__,
        platform="lightgbm",
        feature_names=() if names[0] == "Column_0" else names,  # what LightGBM calls columns that have no names
        provenance={"objective": name, "format": version[1] if version else ""},
    )

    def predict(matrix: np.ndarray) -> np.ndarray:
        return booster.predict(matrix, num_threads=threads)  # type: ignore[no-any-return]

    task = _TASKS.get(name, "regression")
    columns = booster.num_model_per_iteration()
    return Ensemble(predict, task, booster.num_feature(), columns, np.dtype(np.float64), metadata, concurrent=False)


RUNTIME = LightGBMRuntime()
