"""Makes the example models: trains them on real data, prints how good they are, writes ``examples/models``.

``--large`` adds an image network with random weights; ``--bench DIR`` writes the benchmark's models. Needs the extras
``sklearn`` and ``onnx`` (``torch`` for digits) and, to convert and build ONNX files, ``onnx`` and ``skl2onnx``.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MODELS = HERE / "models"
GOLDEN_ROWS = 8
SEED = 7

Arrays = Mapping[str, Any]


def version_folder(model: str) -> Path:
    """``examples/models/<model>/1``, empty."""
    folder = MODELS / model / "1"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def save_golden(folder: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Inputs and what the framework itself computes for them, beside the artefact; text as fixed-width bytes."""
    named = {f"input.{k}": np.asarray(v) for k, v in inputs.items()} | {
        f"output.{k}": np.asarray(v) for k, v in outputs.items()
    }
    np.savez_compressed(
        folder / "golden.npz", **{k: v.astype("S") if v.dtype.kind in "UO" else v for k, v in named.items()}
    )


def iris() -> None:
    """Logistic regression on iris, as a skops file and as ONNX."""
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_iris()
    species = data.target_names[data.target]
    x, x_test, y, y_test = train_test_split(data.data, species, test_size=0.3, random_state=SEED, stratify=species)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    print(f"iris: {model.score(x_test, y_test):.1%} of {len(x_test)} held-out flowers right")
    rows = x_test[:GOLDEN_ROWS]
    expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}

    folder = version_folder("iris")
    skops.io.dump(model, folder / "iris.skops")
    save_golden(folder, {"x": rows}, expected)

    folder = version_folder("iris-onnx")
    converted = to_onnx(model, 4)
    entry = converted.metadata_props.add()
    entry.key, entry.value = "classes", ",".join(model.classes_)
    (folder / "iris.onnx").write_bytes(converted.SerializeToString())
    save_golden(
        folder, {"x": rows.astype(np.float32)}, {**expected, "probabilities": np.float32(expected["probabilities"])}
    )


def to_onnx(model: Any, features: int) -> Any:
    """``model`` as ONNX, with one input ``x`` FP32[-1, features] and the probabilities as a plain matrix."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    kind = FloatTensorType([None, features])
    return convert_sklearn(model, initial_types=[("x", kind)], options={id(model): {"zipmap": False}}, target_opset=17)


def digits() -> None:
    """A convolutional network for 8x8 grey images of digits, as a torch.export program."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    torch.manual_seed(SEED)
    data = load_digits()
    images = data.images[:, None].astype(np.float32)
    x, x_test, y, y_test = map(
        torch.from_numpy, train_test_split(images, data.target, test_size=0.3, random_state=SEED)
    )
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 4 * 4, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(30):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[batch] / 16), y[batch]).backward()
            optimizer.step()

    class Digits(torch.nn.Module):
        """Pixels from 0 to 16 to the digit and the probability of each."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            probabilities = torch.softmax(self.network(image / 16), dim=1)
            return {"label": probabilities.argmax(dim=1), "probabilities": probabilities}

    model = Digits().eval()
    with torch.inference_mode():
        right = float((model(x_test)["label"] == y_test).float().mean())
        expected = {name: value.numpy() for name, value in model(x_test[:GOLDEN_ROWS]).items()}
    print(f"digits: {right:.1%} of {len(x_test)} held-out images right")
    program = torch.export.export(model, (x_test[:2],), dynamic_shapes={"image": {0: torch.export.Dim("batch")}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of the machine that exported
    folder = version_folder("digits")
    torch.export.save(program, folder / "digits.pt2")
    save_golden(folder, {"image": x_test[:GOLDEN_ROWS].numpy()}, expected)


def topic() -> None:
    """A text model in plain Python: is a sentence from the documentation of arrays, of learning, or of Python?"""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    texts, labels = sentences()
    train, test, y, y_test = train_test_split(texts, labels, test_size=0.25, random_state=SEED, stratify=labels)
    vectorizer = TfidfVectorizer(max_features=4000, min_df=2, dtype=np.float32)
    classifier = LogisticRegression(C=10, max_iter=1000, class_weight="balanced").fit(
        vectorizer.fit_transform(train), y
    )
    right = classifier.score(vectorizer.transform(test), y_test)
    most = max(np.unique(y_test, return_counts=True)[1]) / len(y_test)
    print(f"topic: {right:.1%} of {len(test)} held-out sentences right (always the commonest answer: {most:.1%})")

    folder = version_folder("topic")
    np.savez_compressed(
        folder / "weights.npz",
        words=vectorizer.get_feature_names_out().astype(str),
        weights=classifier.coef_.T.astype(np.float32),
        bias=classifier.intercept_.astype(np.float32),
        idf=vectorizer.idf_.astype(np.float32),
        classes=classifier.classes_.astype(str),
    )
    shutil.copyfile(HERE / "topic_model.py", folder / "model.py")
    rows = test[:GOLDEN_ROWS]
    features = vectorizer.transform(rows)
    expected = {"label": classifier.predict(features), "probabilities": np.float32(classifier.predict_proba(features))}
    save_golden(folder, {"text": [row.encode() for row in rows]}, expected)


def sentences() -> tuple[list[str], list[str]]:
    """First paragraphs of docstrings, each once, with what they are about."""
    import asyncio
    import collections
    import email.message
    import json
    import logging
    import pathlib
    import subprocess
    import threading

    import sklearn.base
    from sklearn.utils import all_estimators

    modules = [asyncio, collections, email.message, json, logging, pathlib, subprocess, threading, re, argparse]
    sources = {
        "arrays": [np, np.linalg, np.random.Generator, np.fft, np.ma, np.polynomial.Polynomial, np.char, np.ndarray],
        "learning": [kind for _, kind in all_estimators()] + [sklearn.base, sklearn.utils],
        "python": [*modules, str, dict, list, set, bytes, float, int, pathlib.Path, threading.Thread, logging.Logger],
    }
    found = {text: topic for topic, owners in sources.items() for owner in owners for text in paragraphs(owner)}
    return list(found), list(found.values())


def paragraphs(owner: object) -> list[str]:
    """The first paragraph of each docstring of ``owner`` and its public members, without a signature line."""
    members = [getattr(owner, name, None) for name in dir(owner) if not name.startswith("_")]
    docs = [member.__doc__ for member in (owner, *members) if isinstance(getattr(member, "__doc__", None), str)]
    blocks = (" ".join(block.split()) for doc in docs for block in doc.strip().split("\n\n")[:2])
    return [text for text in blocks if 30 < len(text) < 400 and re.match(r"[A-Z][a-z]+ [a-z]", text)]


def large() -> None:
    """The image network with random weights, for load."""
    from networks import image_network

    folder = version_folder("image")
    (folder / "image.onnx").write_bytes(image_network().SerializeToString())
    print(f"image: random weights, {(folder / 'image.onnx').stat().st_size / 1e6:.0f} MB")


def bench(folder: Path) -> None:
    """``tiny.onnx``, ``tab.onnx``, ``heavy.onnx`` and ``image.onnx``: the models of the benchmark's table."""
    from networks import dense_network, image_network
    from sklearn.datasets import load_breast_cancer, load_iris
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    folder.mkdir(parents=True, exist_ok=True)
    tiny = to_onnx(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), 4)
    del tiny.graph.output[0]  # the label: one output makes the smallest answer
    boosted = GradientBoostingClassifier(n_estimators=100, max_depth=4, random_state=SEED)
    tab = to_onnx(boosted.fit(*load_breast_cancer(return_X_y=True)), 30)
    for name, model in {"tiny": tiny, "tab": tab, "heavy": dense_network(), "image": image_network()}.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        print(f"{name}.onnx: {(folder / f'{name}.onnx').stat().st_size / 1e6:.2f} MB")


EXAMPLES: dict[str, Callable[[], None]] = {"iris": iris, "digits": digits, "topic": topic}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"which to build, of {', '.join(EXAMPLES)} (default: all)")
    parser.add_argument("--large", action="store_true", help="only add the image network with random weights")
    parser.add_argument("--bench", type=Path, metavar="DIR", help="only write the benchmark's models into DIR")
    chosen = parser.parse_args()
    if chosen.bench:
        bench(chosen.bench)
    if chosen.large:
        large()
    for name in chosen.names or ([] if chosen.bench or chosen.large else EXAMPLES):
        EXAMPLES[name]()


if __name__ == "__main__":
    main()
