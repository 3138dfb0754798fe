"""Hot: encode a model's outputs as NPY or NPZ for one caller."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inferd.protocols.shared.json_write import output_of
from inferd.protocols.shared.npy import write_npy, write_npz


class NpyReply:
    """One output as an NPY file."""

    __slots__ = ("_name", "content_type")

    def __init__(self, name: str) -> None:
        self.content_type = b"application/x-npy"
        self._name = name

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        return write_npy(output_of(outputs, self._name)), b""


class NpzReply:
    """Several outputs as an NPZ archive."""

    __slots__ = ("_names", "content_type")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.content_type = b"application/x-npz"
        self._names = names

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        return write_npz({name: output_of(outputs, name) for name in self._names}), b""
