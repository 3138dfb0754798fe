"""Which versions of a model are served: the latest N that can be loaded, all, or those named."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from inferd.core.errors import ConfigError

PATTERN = r"latest(:[1-9][0-9]*)?|all|[1-9][0-9]*(,[1-9][0-9]*)*"


def check_policy(policy: str) -> str:
    """``policy`` itself. Raises ``ConfigError`` unless it is ``latest``, ``latest:N``, ``all`` or ``1,3``."""
    if not re.fullmatch(PATTERN, policy):
        raise ConfigError(f"a version policy is latest, latest:N, all, or versions such as 1,3; got {policy!r}")
    return policy


def choose_versions(policy: str, there: Sequence[int], failed: Collection[int] = ()) -> list[int]:
    """The versions to serve of those that are ``there`` (ascending). Versions that are named are wanted even when they
    are not there, so that somebody learns of it. The latest ones stay wanted when they have ``failed``, and so do
    others in their place."""
    if policy == "all":
        return list(there)
    if policy.startswith("latest"):
        good = [version for version in there if version not in failed]
        oldest = good[-int(policy.partition(":")[2] or 1) :][:1]
        return [version for version in there if not oldest or version >= oldest[0]]
    return sorted({int(version) for version in policy.split(",")})
