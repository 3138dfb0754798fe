"""Which of a model's signatures a request of TF Serving names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inferd.core.errors import InvalidRequest
from inferd.protocols.shared.json_members import did_you_mean
from inferd.protocols.shared.json_tensors import show

DEFAULT = "serving_default"
"""The name that stands for a model's default signature, whatever that calls itself."""


def signature_key(name: Any, known: Iterable[str]) -> str:
    """``name`` as ``InferenceRequest.signature`` has it, "" for the default. Raises ``InvalidRequest``."""
    if type(name) is str and name in known:
        return name
    if name in ("", DEFAULT):
        return ""
    names = list(known)
    raise InvalidRequest(
        f"signature_name is {show(name)}{did_you_mean(name, names)}; "
        f"the model has {', '.join(map(repr, names))}, and {DEFAULT!r} is its default",
        path="signature_name",
        got=show(name),
        expected=names,
    )
