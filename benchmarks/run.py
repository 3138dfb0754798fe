"""The benchmark: every row of the table in one run, each side started and stopped here, rounds interleaved.

Usage: run.py [--only small,mlp] [--rounds 5] [--seconds 4] [--markdown]. Needs wrk; node's rows need node and npm,
those of gRPC h2load (nghttp2).
Ratios are taken within a round and shown as median [min-max]: this machine's speed may drift, both sides drift alike.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import grpc_calls
import raw
from forms import JSON, NPY, TFSERVING, V2, V2_BINARY, Form
from load import Figures, check_answers, measure
from models import example, model_path
from sides import Server, have_node, install_node, running

BATCH_SIZES = (1, 4, 8, 16, 32, 64)
PACKAGES = ("inferd", "onnxruntime", "fastapi", "uvicorn", "uvloop", "numpy", "orjson", "pysimdjson")


@dataclass(frozen=True, slots=True)
class Work:
    """One model asked over one number of connections. ``raw_batches`` are the sizes that raw may choose from;
    ``others`` are further forms in which ours is asked."""

    name: str
    model: str
    form: Form
    connections: int
    sides: tuple[str, ...]
    raw_batches: tuple[int, ...] = ()
    others: tuple[Form, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the table: ``side`` against ``against`` in one work; another form of ours is a side too, by its name.
    ``p50`` and absolute figures must stay below their bar, rates above."""

    title: str
    work: str
    side: str
    against: str
    bar: float
    goal: float
    metric: str = "rate"


WORKS = (
    Work("small", "logistic", JSON, 64, ("ours", "asgi", "naive", "echo", "node"), others=(V2, TFSERVING)),
    Work("single", "logistic", JSON, 1, ("ours", "naive", "node")),
    Work("trees", "trees", JSON, 4, ("ours", "naive")),
    Work("image", "image", NPY, 8, ("ours",), raw_batches=(1,), others=(V2_BINARY,)),
    Work("mlp", "mlp", JSON, 64, ("ours",), raw_batches=BATCH_SIZES),
)
BARS = (
    Bar("1x4 JSON, logistic regression, 64 connections", "small", "ours", "naive", 8, 14),
    Bar("1x4 JSON, logistic regression, 64 connections", "small", "ours", "echo", 1.3, 2.3),
    Bar("1x4 JSON, logistic regression, 64 connections", "small", "ours", "node", 2, 3.5),
    Bar("1x4 JSON, logistic regression, 1 connection", "single", "ours", "node", 0.9, 1.1),
    Bar("1x4 JSON, logistic regression, 1 connection, p50", "single", "ours", "naive", 0.4, 0.3, "p50"),
    Bar("1x4 JSON through --front asgi, 64 connections", "small", "asgi", "naive", 3, 4),
    Bar("1000x30 JSON, boosted trees, 4 connections", "trees", "ours", "naive", 2.5, 3.5),
    Bar("1x(3x224x224) NPY, convolutional net, 8 connections", "image", "ours", "raw", 0.9, 0.97),
    Bar("1x(3x224x224) V2 binary, convolutional net, 8 connections", "image", "v2-binary", "raw", 0.9, 0.97),
    Bar("1x4 V2 JSON, logistic regression, 64 connections", "small", "v2", "ours", 0.85, 1),
    Bar("1x4 TF Serving JSON, logistic regression, 64 connections", "small", "tfserving", "ours", 0.85, 1),
    Bar("1x4 V2 gRPC, native front, 64 connections", "grpc-64", "native", "echo", 4, 7),
    Bar("1x4 V2 gRPC, native front, 1 connection", "grpc-1", "native", "echo", 1.3, 1.7),
    Bar("1x4 V2 gRPC, grpcio, 64 connections", "grpc-64", "grpcio", "echo", 0.8, 1),
    Bar("1x4 V2 gRPC, grpcio, 1 connection", "grpc-1", "grpcio", "echo", 0.8, 1),
    Bar("1x1024 JSON, MLP 1024-4096-4096-1000, 64 connections", "mlp", "ours", "raw", 0.85, 0.95),
    Bar("process start to ready, one ONNX model, seconds", "start", "ours", "", 1.5, 1.0, "seconds"),
    Bar("resident memory, one tiny ONNX model, MB", "memory", "ours", "", 130, 100, "megabytes"),
    Bar("/health while every instance is busy (the MLP), p99, ms", "probes", "ours", "", 50, 10, "milliseconds"),
)
Samples = dict[tuple[str, str], list[Figures]]


def run_work(work: Work, rounds: int, seconds: float) -> Samples:
    """Start the work's sides, check their answers, load them in turn ``rounds`` times."""
    path = model_path(work.model)
    session = raw.session(path)
    sides = [side for side in work.sides if side != "node" or have_node()]
    samples: Samples = {}
    batch = raw.best_batch(session, example(work.model, 0)[:1], work.raw_batches, 1.0) if work.raw_batches else 0
    with ExitStack() as stack:
        servers = [stack.enter_context(running(side, path)) for side in sides]
        for server in servers:
            wait_ready(server, work)
        turns = [(server.name, server, work.form) for server in servers]
        turns += [(form.name, server, form) for form in work.others for server in servers if server.name == "ours"]
        for _, server, form in turns:
            check_answers(server, work.model, form, session)
            measure(server, work.model, form, work.connections, 1)
        for number in range(rounds):
            note(f"{work.name}: round {number + 1} of {rounds}")
            for side, server, form in turns:
                figures = measure(server, work.model, form, work.connections, seconds)
                samples.setdefault((work.name, side), []).append(figures)
            if batch:
                rate = raw.rows_per_s(session, example(work.model, 0)[:1], batch, seconds)
                samples.setdefault((work.name, "raw"), []).append(Figures(rate, batch / rate * 1e6))
    return samples


def wait_ready(server: Server, work: Work) -> None:
    """Wait for the first good answer."""
    if server.name in ("ours", "asgi"):
        server.wait("GET", "/ready")
        return
    server.wait("POST", work.form.path, work.form.write(example(work.model, 0)), work.form.content_type)


def run_grpc(rounds: int, seconds: int) -> Samples:
    """Calls a second on each gRPC front and a bare echo, at one connection and at 64."""
    with grpc_calls.running() as (ports, body):
        return {
            (f"grpc-{connections}", side): [Figures(rate, 0) for rate in rates]
            for connections in (1, 64)
            for side, rates in grpc_calls.measure(ports, connections, rounds, seconds, body).items()
        }


def run_start(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from the start of the process to ready, and megabytes resident after a short load, once a round."""
    seconds, megabytes = [], []
    for _ in range(rounds):
        with running("ours", model_path("logistic")) as server:
            seconds.append(server.wait("GET", "/ready"))
            measure(server, "logistic", JSON, 64, 1)
            megabytes.append(server.resident_mb())
    return seconds, megabytes


def run_probes(rounds: int, seconds: float) -> list[float]:
    """99th percentile of `/health` in milliseconds, asked a hundred times a second beside a full load, once a round."""
    figures = []
    with running("ours", model_path("mlp")) as server:
        server.wait("GET", "/ready")
        for _ in range(rounds):
            load = Thread(target=measure, args=(server, "mlp", JSON, 64, seconds))
            load.start()
            took = []
            while load.is_alive():
                started = time.perf_counter()
                assert server.ask("GET", "/health")[0] == 200
                took.append((time.perf_counter() - started) * 1e3)
                time.sleep(0.01)
            load.join()
            figures.append(sorted(took)[int(0.99 * (len(took) - 1))])
    return figures


def values_of(bar: Bar, samples: Samples, absolute: dict[str, list[float]]) -> list[float]:
    """The bar's figure in each round; empty when its work or side did not run."""
    if not bar.against:
        return absolute.get(bar.work, [])
    pairs = zip(samples.get((bar.work, bar.side), ()), samples.get((bar.work, bar.against), ()), strict=False)
    if bar.metric == "p50":
        return [ours.p50_us / theirs.p50_us for ours, theirs in pairs]
    return [ours.requests_per_s / theirs.requests_per_s for ours, theirs in pairs]


def spread(values: Sequence[float]) -> str:
    """``median [min-max]``."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def verdict(bar: Bar, values: Sequence[float]) -> str:
    """Whether the median reaches the goal, the bar, or neither."""
    sign = 1 if bar.metric == "rate" else -1
    median = statistics.median(values) * sign
    return "goal" if median >= bar.goal * sign else "bar" if median >= bar.bar * sign else "BELOW"


def table(samples: Samples, absolute: dict[str, list[float]]) -> list[list[str]]:
    """The table of bars, its header first."""
    lines = [["work", "against", "median [min-max]", "bar", "goal", "reached"]]
    for bar in BARS:
        values = values_of(bar, samples, absolute)
        if values:
            sign = ">=" if bar.metric == "rate" else "<="
            limits = [f"{sign} {bar.bar:g}", f"{sign} {bar.goal:g}"]
            against = "/predict" if bar.against == "ours" else bar.against or "-"
            lines.append([bar.title, against, spread(values), *limits, verdict(bar, values)])
    return lines


def figures(samples: Samples) -> list[list[str]]:
    """Every side's own rate and latency, its header first."""
    lines = [["work", "side", "requests/s, median [min-max]", "p50 ms"]]
    for (work, side), rounds in samples.items():
        rates = [f"{figure.requests_per_s:.0f}" for figure in sorted(rounds, key=lambda f: f.requests_per_s)]
        median = statistics.median(figure.requests_per_s for figure in rounds)
        p50 = statistics.median(figure.p50_us for figure in rounds) / 1000
        lines.append([work, side, f"{median:.0f} [{rates[0]}-{rates[-1]}]", f"{p50:.3f}" if p50 else "-"])
    return lines


def show(lines: Sequence[Sequence[str]], markdown: bool) -> None:
    """Print rows of text as columns, or as a Markdown table."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip())
        if markdown and number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print()


def machine() -> str:
    """What the figures depend on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = names[0].partition(":")[2].strip() if names else platform.machine()
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    node = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip() if have_node() else "no"
    cores = f"{len(os.sched_getaffinity(0))} cores"
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}, node {node}"
    return f"{cpu}, {cores}, {system}\n{versions}"


def note(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the chosen works and print the table."""
    names = [work.name for work in WORKS] + ["grpc", "start", "probes"]
    parser = argparse.ArgumentParser(
        description="Compare inferd with a naive service, echo, node and no server at all."
    )
    parser.add_argument("--only", default=",".join(names), help=f"comma-separated works (default: {','.join(names)})")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"unknown work {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed (on Debian: apt install wrk)")
    if have_node():
        install_node()
    else:
        note("node and npm are not installed: their rows are left out")
    samples: Samples = {}
    for work in WORKS:
        if work.name in chosen:
            samples |= run_work(work, options.rounds, options.seconds)
    if "grpc" in chosen and shutil.which("h2load"):
        samples |= run_grpc(options.rounds, options.seconds)
    elif "grpc" in chosen:
        note("h2load is not installed (on Debian: apt install nghttp2-client): the rows of gRPC are left out")
    absolute: dict[str, list[float]] = {}
    if "probes" in chosen:
        absolute["probes"] = run_probes(options.rounds, options.seconds)
    if "start" in chosen:
        absolute["start"], absolute["memory"] = run_start(options.rounds)
    print(machine(), end="\n\n")
    show(table(samples, absolute), options.markdown)
    if samples:
        show(figures(samples), options.markdown)


if __name__ == "__main__":
    main()
