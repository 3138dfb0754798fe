"""Two thousand tiny models in one repository: start-up, what a change costs, what a call costs.

Usage: many_models.py [--models 2000] [--eager]. Eager start-up loads and warms every one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from functools import partial
from pathlib import Path

from models import model_path

from inferd.abc import Target
from inferd.server.assembly import Assembly, assemble
from inferd.server.scan import scan_paths
from inferd.server.settings import Settings, load_settings

ROUNDS = 200_000


def make(repository: Path, count: int) -> None:
    """``count`` models that share one file on disk."""
    source = model_path("logistic")
    for number in range(count):
        folder = repository / f"model-{number:05d}" / "1"
        folder.mkdir(parents=True)
        os.link(source, folder / "model.onnx")


def settings_for(repository: Path, *, lazy: bool) -> Settings:
    flags = {"paths": (str(repository),), "lazy": lazy, "grpc_port": 0, "log_level": "error"}
    return load_settings(file=None, env={}, flags=flags)[0]


def timed(what: str, start: float) -> None:
    print(f"{what:<58} {time.perf_counter() - start:10.3f} s")


async def started(settings: Settings, label: str) -> Assembly:
    """Everything up to the point where the server would be ready."""
    start = time.perf_counter()
    wanted = scan_paths(settings)
    timed(f"{label}: look at the repository", start)
    assembly = assemble(settings, wanted, (), scan=partial(scan_paths, settings))
    await assembly.repository.load_all()
    timed(f"{label}: ready", start)
    return assembly


def lookup_ns(assembly: Assembly, name: str) -> float:
    """One look-up of the path and of the version, as a request makes them."""
    path, target = f"/models/{name}/predict".encode(), Target(name)
    routes, route = assembly.front.routes, assembly.engine.route
    start = time.perf_counter()
    for _ in range(ROUNDS):
        routes.get(path)
        route(target).release()
    return (time.perf_counter() - start) / ROUNDS * 1e9


async def measure(repository: Path, count: int, *, lazy: bool) -> float:
    label = f"{count} model{'s' if count > 1 else ''}, {'lazy' if lazy else 'eager'}"
    assembly = await started(settings_for(repository, lazy=lazy), label)
    name = f"model-{count - 1:05d}"
    start = time.perf_counter()
    assembly.repository.wake(name, 1)
    await assembly.repository.settled([name])
    timed(f"{label}: first call of one more loads it", start)
    start = time.perf_counter()
    assembly.repository.publish()
    timed(f"{label}: a new table", start)
    start = time.perf_counter()
    await assembly.control.rescan()
    timed(f"{label}: look again, nothing changed", start)
    cost_ns = lookup_ns(assembly, name)
    await assembly.repository.drain(1)
    return cost_ns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=2000)
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    costs = []
    for count in (1, options.models):
        with tempfile.TemporaryDirectory(dir=model_path("logistic").parents[2]) as folder:
            make(Path(folder), count)
            costs.append(asyncio.run(measure(Path(folder), count, lazy=not options.eager)))
    print(f"path and version looked up: {costs[0]:.0f} ns with 1, {costs[1]:.0f} ns with {options.models}")


if __name__ == "__main__":
    main()
