"""Whether loading an MLflow model runs code that nobody sees: what its payload may hold, before anything is loaded.

MLflow's own switch, ``MLFLOW_ALLOW_PICKLE_DESERIALIZATION``, is on unless it is set, and where it is off it refuses
skops payloads too, because the list of types they may hold comes with the model. Here the list comes from the
configuration, so that such payloads can be loaded without trusting them. Where the variable says false, MLflow refuses
after this has allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.runtimes.catboost import check_length
from inferd.runtimes.lightgbm import read_text
from inferd.runtimes.skops_types import trusted_types

FILE = "MLmodel"
Flavours = Mapping[str, Mapping[str, Any]]
_CODE = ("mlflow.pyfunc.model", "mlflow.pyfunc.loaders.code_model")
_BOOSTER = "lightgbm.basic.Booster"
# LightGBM's own, which keep their trees as text; MLflow trusts the same.
_LIGHTGBM_TYPES = (
    _BOOSTER,
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "collections.OrderedDict",
)
# Beside a SavedModel or a Keras file, which cannot hold code.
_PICKLED_OBJECTS = (".cloudpickle", ".pkl", ".h5")


def is_library(conf: Mapping[str, Any]) -> bool:
    """Whether a library computes, whose rows do not influence each other, and not code of one's own."""
    loader = str(conf.get("loader_module"))
    return loader.startswith("mlflow.") and loader not in _CODE and not conf.get("code")


def check_trust(flavours: Flavours, folder: Path, config: ModelConfig) -> bool:
    """Whether only a library's code will run; false for code that lies in the folder as such, as a ``model.py`` does.

    Raises ``LoadFailed`` for what may hold a pickle, unless the configuration allows these.
    """
    conf = flavours["python_function"]
    inside = not _leads_elsewhere(flavours, folder)
    if inside and _is_plain(flavours, folder, config):
        return not conf.get("code") and "trusted" not in config.options
    if not (config.allow_pickle or (inside and _is_visible_code(conf, folder))):
        raise LoadFailed(
            f"{folder.name} is loaded by {conf.get('loader_module')}, which may unpickle it, and that runs any code in "
            "it: save it in a format without pickles (serialization_format='skops', models from code), "
            "or pass --allow-pickle if you trust where it came from",
            hint="--allow-pickle",
        )
    return False


def _is_plain(flavours: Flavours, folder: Path, config: ModelConfig) -> bool:
    """Whether the payload is in a format that holds no code. Raises ``LoadFailed`` for one that is damaged, where the
    library would end the process, and for types that nobody trusts."""
    conf = flavours["python_function"]
    name = str(conf.get("loader_module")).removeprefix("mlflow.")
    flavour = flavours.get(name, {})
    model_class = str(flavour.get("model_class"))
    if name == "onnx":
        return True
    if name == "xgboost":
        return model_class.startswith("xgboost.")
    if name == "catboost":
        check_length(folder / str(flavour.get("data")))
        return flavour.get("save_format") == "cbm"
    if name == "tensorflow":
        return not any(file.suffix in _PICKLED_OBJECTS for file in folder.rglob("*"))
    if name == "lightgbm" and model_class == _BOOSTER:
        read_text(folder / str(flavour.get("data")))
        return True
    if name in ("sklearn", "lightgbm") and flavour.get("serialization_format") == "skops":
        if name == "sklearn":
            return _is_trusted(folder / str(conf["model_path"]), config)
        return _is_trusted(folder / str(flavour["data"]), config, _LIGHTGBM_TYPES)
    return False


def _is_trusted(file: Path, config: ModelConfig, known: tuple[str, ...] = ()) -> bool:
    """Whether a skops file holds only types that are trusted. Raises ``LoadFailed`` if not, unless pickles are."""
    try:
        trusted_types(file, config, known)
    except LoadFailed:
        if not config.allow_pickle:
            raise
        return False
    return True


def _leads_elsewhere(flavours: Flavours, folder: Path) -> bool:
    """Whether a loader could be led to a file that is not looked at here: out of the folder, or to a description that
    differs from this one."""
    keys = ("code", "data", "model_path", "pickled_model")
    names = [str(each[key]) for each in flavours.values() for key in keys if each.get(key)]
    outside = any(Path(name).is_absolute() or ".." in Path(name).parts for name in names)
    return outside or any(file.parent != folder for file in folder.rglob(FILE))


def _is_visible_code(conf: Mapping[str, Any], folder: Path) -> bool:
    """Whether the model is Python in the folder: a model from code, or a loader among the folder's own modules."""
    loader = str(conf.get("loader_module"))
    if loader in _CODE:
        return bool(conf.get("model_code_path"))
    module = folder / str(conf.get("code")) / loader.partition(".")[0]
    return bool(conf.get("code")) and (module.is_dir() or module.with_suffix(".py").is_file())
