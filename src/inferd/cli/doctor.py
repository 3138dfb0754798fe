"""``inferd doctor``: what is installed, which extras are there, and which plug-ins fail."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

import click

from inferd.core.plugins import available, lookup

_GROUPS = ("inferd.runtimes", "inferd.sources", "inferd.protocols")


@click.command(
    epilog="""\b
Examples:
  inferd doctor
"""
)
def command() -> int:
    """Print versions, extras and plug-ins. Exit code 1 when a plug-in cannot be imported."""
    click.echo(f"inferd {version('inferd')}, Python {platform.python_version()}, {platform.platform()}")
    click.echo(f"cores: {os.cpu_count()}")
    core, extras = _requirements()
    click.echo("\ncore")
    for package in core:
        click.echo(f"  {package} {_installed(package) or 'MISSING'}")
    click.echo("\nextras")
    for extra, packages in extras.items():
        missing = [package for package in packages if _installed(package) is None]
        state = f"pip install 'inferd[{extra}]'" if missing else ", ".join(f"{p} {_installed(p)}" for p in packages)
        click.echo(f"  {extra}: {state}")
    return 1 if sum(_print_plugins(group) for group in _GROUPS) else 0


def _print_plugins(group: str) -> int:
    """Print the plug-ins of ``group``; return how many cannot be imported."""
    failed = 0
    click.echo(f"\n{group.removeprefix('inferd.')}")
    for name, point in available(group).items():
        # A third party's module may raise anything at all, and saying so is this command's work.
        try:
            lookup(group, name)
            click.echo(f"  {name}: {point.value}")
        except Exception as error:
            failed += 1
            click.echo(f"  {name}: FAILED: {type(error).__name__}: {error}")
    return failed


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Names of the packages that inferd needs, and those of each extra, from its own metadata."""
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in requires("inferd") or []:
        package = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", requirement)
        if extra is None:
            core.append(package)
        elif package != "inferd":
            extras.setdefault(extra[1], []).append(package)
    return core, extras


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
