"""Look at the paths a server was given, with its settings."""

from __future__ import annotations

from inferd.repository.completeness import Completeness
from inferd.repository.desired import Choose, WantedModel, by_policy, discover
from inferd.server.settings import Settings, model_defaults


def completeness_of(settings: Settings) -> Completeness:
    """How a server with these settings tells that a version is whole."""
    return Completeness(marker=settings.complete_marker, settle_s=settings.watch_settle_s if settings.watch else 0.0)


def scan_paths(
    settings: Settings, choose: Choose | None = None, *, completeness: Completeness | None = None
) -> list[WantedModel]:
    """Every model there is now, with the versions ``choose`` picks, by default those of the policies.

    Raises ``ConfigError`` as ``discover`` does.
    """
    return discover(
        settings.paths,
        defaults=model_defaults(settings),
        allow_pickle=settings.allow_pickle,
        choose=choose or by_policy(settings.version_policy),
        why_incomplete=(completeness or completeness_of(settings)).why_not,
        may_be_empty=settings.watch or choose is not None,
    )
