"""Which requests are traced: those of the whole server, and of models that have settings of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

USUAL: Mapping[str, int] = {"on": True, "rate": 1, "count": -1}


@dataclass(slots=True)
class Sampling:
    """All requests or none (``on``), one of ``rate``, and at most ``count`` more, -1 for any number. None in a model's
    own: as the server's. ``seen`` counts requests."""

    on: int | None = None
    rate: int | None = None
    count: int | None = None
    seen: int = 0


class Sampler:
    """Used on the loop's thread. The server's settings go by the name ""."""

    def __init__(self) -> None:
        self._server = Sampling(**USUAL)
        self._models: dict[str, Sampling] = {}

    def setting(self, name: str, model: str = "") -> int:
        """What is so for the requests of ``model`` now: ``on``, ``rate`` or ``count``."""
        return int(getattr(self._of(name, model), name))

    def change(self, model: str, given: Mapping[str, int | None]) -> None:
        """Change what is given. None goes back to the server's setting, and for the server to the usual one."""
        own = self._models.setdefault(model, Sampling()) if model else self._server
        for name, value in given.items():
            setattr(own, name, USUAL[name] if value is None and not model else value)
        if model and own.on is own.rate is own.count is None:
            del self._models[model]

    def wants(self, model: str) -> bool:
        """Whether the next request of ``model`` is to be traced; counts it."""
        if not self.setting("on", model) or self.setting("count", model) == 0:
            return False
        own = self._models.get(model, self._server)
        own.seen += 1
        return own.seen % self.setting("rate", model) == 0

    def took(self, model: str) -> None:
        """A request of ``model`` was traced."""
        own = self._of("count", model)
        if own.count is not None and own.count > 0:
            own.count -= 1

    def _of(self, name: str, model: str) -> Sampling:
        """The settings that decide about ``name``: the model's own, or the server's."""
        own = self._models.get(model)
        return self._server if own is None or getattr(own, name) is None else own
