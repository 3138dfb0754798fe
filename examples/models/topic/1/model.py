"""Tells from one sentence of documentation what it is about; pre-processing of its own, in plain numpy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import numpy as np

import inferd

WORD = re.compile(r"\b\w\w+\b")


class Model:
    batchable = True
    concurrent = True
    outputs = {"label": "BYTES[-1]", "probabilities": "FP32[-1, 3]"}

    def load(self) -> None:
        with np.load(Path(__file__).with_name("weights.npz")) as archive:
            self.index = {word: row for row, word in enumerate(archive["words"])}
            self.weights, self.bias, self.idf = archive["weights"], archive["bias"], archive["idf"]
            self.classes = np.array([name.encode() for name in archive["classes"]], dtype=object)

    def predict(self, text: Annotated[np.ndarray, "BYTES[-1]"]) -> dict[str, np.ndarray]:
        logits = np.stack([self.features(row) @ self.weights for row in map(self.words, text)]) + self.bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = odds / odds.sum(axis=1, keepdims=True)
        return {"label": self.classes[probabilities.argmax(axis=1)], "probabilities": probabilities}

    def words(self, text: bytes) -> list[str]:
        try:
            return WORD.findall(text.decode().lower())
        except UnicodeDecodeError:
            raise inferd.InvalidInput("text must be UTF-8") from None

    def features(self, words: list[str]) -> np.ndarray:
        """Word counts weighted by rarity (tf-idf), of length one."""
        counts = np.zeros(len(self.idf), np.float32)
        for word in words:
            if word in self.index:
                counts[self.index[word]] += 1
        counts *= self.idf
        return counts / max(float(np.linalg.norm(counts)), 1e-12)
