"""Small TensorFlow models for tests, trained on real data by Keras itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from inferd.runtimes.tensorflow import load_compiler_first
from model_builders import Built, iris_rows

load_compiler_first()


def _fitted() -> tuple[Any, np.ndarray]:
    import keras

    keras.utils.set_random_seed(3)
    x, y = iris_rows(150)
    x = np.float32(x)
    layers = [keras.Input((4,), name="x"), keras.layers.Dense(8, activation="relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(3, activation="softmax", name="probabilities")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, np.asarray(y), epochs=3, verbose=0)
    return model, x[::25]


def keras_classes(folder: Path) -> Built:
    """Three species, as a Keras 3 file."""
    model, rows = _fitted()
    model.save(folder / "iris.keras")
    return Built(folder / "iris.keras", {"x": rows}, {"probabilities": model(rows).numpy()})


def saved_model(folder: Path) -> Built:
    """The same as a SavedModel, with a second signature and text among its outputs."""
    import tensorflow as tf

    model, rows = _fitted()
    species = tf.constant(["setosa", "versicolor", "virginica"])

    class Exported(tf.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
        def classify(self, x):
            probabilities = self.model(x)
            return {"probabilities": probabilities, "label": tf.gather(species, tf.argmax(probabilities, axis=1))}

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "text")])
        def lengths(self, text):
            return {"length": tf.strings.length(text)}

    exported = Exported()
    signatures = {"lengths": exported.lengths, "serving_default": exported.classify}
    tf.saved_model.save(exported, str(folder / "exported"), signatures=signatures)
    expected = {name: value.numpy() for name, value in exported.classify(rows).items()}
    return Built(folder / "exported", {"x": rows}, expected)
