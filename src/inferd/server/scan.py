"""Look at the paths a server was given, with its settings."""

from __future__ import annotations

from inferd.repository.desired import Choose, WantedModel, by_policy, discover
from inferd.server.settings import Settings, model_defaults


def scan_paths(settings: Settings, choose: Choose | None = None) -> list[WantedModel]:
    """Every model there is now, with the versions ``choose`` picks, by default those of the policies.

    Raises ``ConfigError`` as ``discover`` does.
    """
    return discover(
        settings.paths,
        defaults=model_defaults(settings),
        allow_pickle=settings.allow_pickle,
        choose=choose or by_policy(settings.version_policy),
    )
