"""inferd: an inference server. ``inferd.serve`` serves a model from a script or notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InvalidInput", "__version__", "serve"]

if TYPE_CHECKING:
    from inferd.core.errors import InvalidInput
    from inferd.server.run import serve

_PUBLIC = {"InvalidInput": "inferd.core.errors", "serve": "inferd.server.run"}


def __getattr__(name: str) -> Any:
    """Import the public names only when they are used, so that ``inferd --help`` stays light."""
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'inferd' has no attribute {name!r}")
