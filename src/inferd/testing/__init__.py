"""Published contract kit and in-process client: what people test their models, runtimes and clients with.

``Client`` runs a model as ``inferd serve`` would, without a socket; ``check_runtime`` holds a runtime to its contract.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferd.testing.check_runtime import check_runtime
    from inferd.testing.client import Client, Reply

__all__ = ["Client", "Reply", "check_runtime"]

_PLACES = {
    "Client": "inferd.testing.client",
    "Reply": "inferd.testing.client",
    "check_runtime": "inferd.testing.check_runtime",
}


def __getattr__(name: str) -> Any:
    """Import only what is used: a runtime's tests need no web framework."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'inferd.testing' has no attribute {name!r}")
