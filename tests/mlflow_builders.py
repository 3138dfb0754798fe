"""Small MLflow models for tests, saved by MLflow itself, with what its own ``pyfunc`` answers."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from inferd.core.config import ModelConfig
from inferd.runtimes.mlflow_schema import tensors_of
from inferd.runtimes.tensorflow import load_compiler_first
from model_builders import Built, objects

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

FEW = {"pip_requirements": ["mlflow"]}
"""What the model needs; saves MLflow the search."""
SHOP = """
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Shop(PythonModel):
    def predict(self, context, model_input, params=None):
        price = model_input["price"] * model_input["count"] * params["factor"]
        return pd.DataFrame({"total": price, "name": model_input["name"].str.upper()})

set_model(Shop())
"""


def iris() -> tuple[Any, Any]:
    """Flowers as a data frame."""
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True, as_frame=True)


def answered(folder: Path, data: Any, **params: Any) -> dict[str, np.ndarray]:
    """What MLflow's own function in ``folder`` answers."""
    import mlflow.pyfunc

    return tensors_of(mlflow.pyfunc.load_model(str(folder)).predict(data, **params))


def from_code(folder: Path, code: str, inputs: Any = None, name: str = "made", **saved: Any) -> Path:
    """A model from ``code``, whose signature has ``inputs``: types by name, or a schema."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    if isinstance(inputs, dict):
        inputs = Schema([ColSpec(kind, column) for column, kind in inputs.items()])
    if inputs is not None:
        saved["signature"] = ModelSignature(inputs, saved.pop("outputs", None), saved.pop("params", None))
    source = folder / f"{name}_code.py"
    source.write_text(textwrap.dedent(code))
    mlflow.pyfunc.save_model(folder / name, python_model=str(source), **FEW, **saved)
    return folder / name


def mlflow_columns(folder: Path) -> Built:
    """Three species by four named columns, as skops, with an example."""
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    x, y = iris()
    model = LogisticRegression(max_iter=500).fit(x, y)
    mlflow.sklearn.save_model(model, folder / "columns", input_example=x[::60], **FEW)
    rows = x[::25]
    inputs = {name: rows[name].to_numpy() for name in rows}
    return Built(folder / "columns", inputs, answered(folder / "columns", rows))


def mlflow_tensor(folder: Path) -> Built:
    """Their probabilities by one tensor."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    x, y = (frame.to_numpy() for frame in iris())
    model = LogisticRegression(max_iter=500).fit(x, y)
    signature = infer_signature(x, model.predict_proba(x))
    mlflow.sklearn.save_model(model, folder / "tensor", signature=signature, pyfunc_predict_fn="predict_proba", **FEW)
    return Built(folder / "tensor", {"x": x[::25]}, answered(folder / "tensor", x[::25]))


def mlflow_boosted(folder: Path) -> Built:
    """XGBoost's own file in MLflow's folder."""
    import mlflow.xgboost
    from mlflow.models import infer_signature
    from xgboost import XGBClassifier

    x, y = iris()
    model = XGBClassifier(n_estimators=5, n_jobs=1).fit(x, y)
    mlflow.xgboost.save_model(model, folder / "boosted", signature=infer_signature(x, model.predict(x)), **FEW)
    inputs = {name: x[name].to_numpy()[::25] for name in x}
    return Built(folder / "boosted", inputs, answered(folder / "boosted", x[::25]))


def mlflow_function(folder: Path) -> Built:
    """Code of one's own: columns of several types in, a data frame out, a parameter with a default."""
    import pandas
    from mlflow.types import ParamSchema, ParamSpec

    types = {"price": "double", "count": "long", "name": "string"}
    params = ParamSchema([ParamSpec("factor", "double", 2.0)])
    artefact = from_code(folder, SHOP, types, name="function", params=params)
    rows = pandas.DataFrame({"price": [1.5, 2.5], "count": [2, 4], "name": ["tea", "käse"]})
    inputs = {"price": rows["price"].to_numpy(), "count": rows["count"].to_numpy(), "name": objects(rows["name"])}
    return Built(artefact, inputs, answered(artefact, rows), ModelConfig("m", batchable=True))


def mlflow_binary(folder: Path) -> Built:
    """The sizes and first bytes of photos, beside a number."""
    import pandas

    code = """
    import pandas as pd
    from mlflow.models import set_model
    from mlflow.pyfunc import PythonModel

    class Photos(PythonModel):
        def predict(self, context, model_input, params=None):
            found = [str(list(bytes(photo[:4]))) for photo in model_input["photo"]]
            sizes = list(map(len, model_input["photo"]))
            return pd.DataFrame({"size": sizes, "first": found, "n": model_input["n"], "copy": model_input["photo"]})

    set_model(Photos())
    """
    artefact = from_code(folder, code, {"photo": "binary", "n": "long"}, name="binary")
    rows = pandas.DataFrame({"photo": [b"\xff\x00hi", bytes(100)], "n": [1, 2]})
    inputs = {"photo": rows["photo"].to_numpy(object), "n": rows["n"].to_numpy()}
    return Built(artefact, inputs, answered(artefact, rows), ModelConfig("m", batchable=True))


def lightgbm_flavour(folder: Path) -> None:
    import lightgbm
    import mlflow.lightgbm

    x, y = (frame.to_numpy() for frame in iris())
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, y), 3)
    mlflow.lightgbm.save_model(booster, folder, signature=_by_tensor(x, booster.predict(x)), **FEW)


def lightgbm_estimator_flavour(folder: Path) -> None:
    """As skops, whose types are not all known to it."""
    import lightgbm
    import mlflow.lightgbm

    x, y = (frame.to_numpy() for frame in iris())
    model = lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(x, y)
    mlflow.lightgbm.save_model(model, folder, signature=_by_tensor(x, model.predict(x)), **FEW)


def catboost_flavour(folder: Path) -> None:
    import catboost
    import mlflow.catboost

    x, y = (frame.to_numpy() for frame in iris())
    model = catboost.CatBoostClassifier(iterations=3, verbose=False, allow_writing_files=False).fit(x, y)
    mlflow.catboost.save_model(model, folder, signature=_by_tensor(x, model.predict(x)), **FEW)


def onnx_flavour(folder: Path) -> None:
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema
    from mlflow.types.schema import TensorSpec

    from model_builders import EXAMPLES

    model = onnx.load(EXAMPLES / "iris-onnx" / "1" / "iris.onnx")
    (given,) = model.graph.input
    schema = Schema([TensorSpec(np.dtype("float32"), (-1, 4), given.name)])
    mlflow.onnx.save_model(model, folder, signature=ModelSignature(schema), **FEW)


def keras_flavour(folder: Path) -> None:
    load_compiler_first()
    import keras
    import mlflow.tensorflow

    x = np.float32(iris()[0])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    mlflow.tensorflow.save_model(model, folder, signature=_by_tensor(x, model.predict(x, verbose=0)), **FEW)


def _by_tensor(x: np.ndarray, y: np.ndarray) -> Any:
    from mlflow.models import infer_signature

    return infer_signature(x, y)
