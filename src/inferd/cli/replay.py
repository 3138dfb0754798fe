"""``inferd replay``: run captured requests through a version, and hold its answers against those that were given."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inferd.cli.loading import load_one, model_options
from inferd.cli.progress import progress_bar
from inferd.core.errors import ConfigError, MalformedRequest

if TYPE_CHECKING:
    from inferd.server.capture_file import CaptureFile
    from inferd.serving.capture import CapturedRequest

    Side = tuple[str, Sequence[CapturedRequest]]


@click.command(
    epilog="""\b
Examples:
  inferd replay capture.npz models/iris/2
  inferd replay capture.npz models/iris/2 --max-differing 0.01
  inferd replay capture.npz models/iris/2 --against models/iris/1 --json
  inferd replay capture.npz --experiment ranker.toml --log log.csv models/
"""
)
@click.argument("file", metavar="CAPTURE.npz")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--against", metavar="PATH", help="Compare with what this version answers, not with what was recorded.")
@click.option("--rtol", type=click.FloatRange(0), default=1e-3, show_default=True, help="Relative tolerance of floats.")
@click.option("--atol", type=click.FloatRange(0), default=1e-4, show_default=True, help="Absolute tolerance of floats.")
@click.option(
    "--top-k", type=click.IntRange(1), default=5, show_default=True, help="Classes whose agreement is counted."
)
@click.option("--concurrency", type=click.IntRange(1), default=16, show_default=True, help="Requests at a time.")
@click.option("--worst", type=click.IntRange(0), default=3, show_default=True, help="Differing requests to show.")
@click.option("--max-differing", type=click.FloatRange(0, 1), help="Exit code 1 when a larger share differs.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--experiment", metavar="EXPERIMENT.toml", help="Give each request the variant of its unit.")
@click.option("--log", metavar="LOG.csv", help="With --experiment: the log to write, for inferd experiment report.")
@model_options
def command(
    file: str,
    paths: tuple[str, ...],
    experiment: str | None,
    log: str | None,
    concurrency: int,
    version_policy: str | None,
    allow_pickle: bool | None,
    **options: Any,
) -> int:
    """Run the requests in CAPTURE.npz, made by `inferd capture`, through the version at PATH.

    Prints side by side what was recorded and what the version makes of the same requests: errors, differences between
    answers, latency. PATH is what `inferd check` takes. With --experiment, PATHs hold the models of its variants, and
    a log is written instead.

    Exit code 1 when more than --max-differing differ, or the version answers nothing.
    """
    from inferd.cli.replay_experiment import write_log
    from inferd.server.capture_file import read_capture

    capture = read_capture(Path(file))
    if not capture.requests:
        raise MalformedRequest(f"{file} holds no requests")
    if experiment is None and log is None:
        run = partial(_run, captured=capture.requests, concurrency=concurrency, allow_pickle=allow_pickle)
        return _compare(capture, run, paths, version_policy, f"{concurrency} requests at a time", **options)
    if experiment is None or log is None or options["against"] or options["max_differing"] is not None:
        raise ConfigError("--experiment and --log go together, without --against and --max-differing")
    write_log(capture, Path(experiment), Path(log), paths, concurrency, version_policy, allow_pickle)
    return 0


def _compare(
    capture: CaptureFile,
    run: Callable[[str, str | None], Side],
    paths: Sequence[str],
    version_policy: str | None,
    load: str,
    *,
    against: str | None,
    worst: int,
    max_differing: float | None,
    as_json: bool,
    **tolerances: Any,
) -> int:
    """Compare and print; the exit code."""
    from inferd.cli.replay_report import compare_results, print_comparison

    if len(paths) != 1:
        raise ConfigError("name one version to run the requests through, and with --against one to compare it with")
    comparable = against is not None or not capture.redacted
    if not comparable and max_differing is not None:
        raise ConfigError(_not_comparable(capture))
    after = run(paths[0], version_policy)
    before = ("recorded", capture.requests) if against is None else run(against, None)
    comparison = compare_results((before[0], after[0]), before[1], after[1], compare=comparable, **tolerances)
    if as_json:
        click.echo(json.dumps(comparison.describe(worst)))
    else:
        click.echo(f"{_summary(capture)}\n")
        print_comparison(comparison, top_k=tolerances["top_k"], worst=worst)
        notes = [] if comparable else [_not_comparable(capture)]
        recorded = "recorded under the traffic there was, " if against is None else "both "
        click.echo("\n".join(("", *notes, f"latency: {recorded}replayed with {load} on this machine")))
    differing = comparison.differing or 0.0
    return int((max_differing is not None and differing > max_differing) or comparison.answers_nothing)


def _run(
    path: str, policy: str | None, *, captured: Sequence[CapturedRequest], concurrency: int, allow_pickle: bool | None
) -> Side:
    """The name of the version at ``path``, and what it makes of each request."""
    from inferd.cli.replay_run import run_requests

    loaded = load_one(path, policy, allow_pickle)
    try:
        with progress_bar() as progress:
            task = progress.add_task(path, total=len(captured))
            results = run_requests(loaded, captured, concurrency, partial(progress.advance, task))
    finally:
        loaded.close()
    return f"{loaded.config.name} {loaded.version}", results


def _summary(capture: CaptureFile) -> str:
    """What is replayed."""
    versions = Counter(each.version for each in capture.requests)
    answered = " and ".join(f"version {version} ({count:,})" for version, count in sorted(versions.items()))
    return f"{len(capture.requests):,} requests to {capture.model}, answered by {answered}"


def _not_comparable(capture: CaptureFile) -> str:
    return (
        f"the recorded answers are not compared: {', '.join(capture.redacted)} were redacted, so the inputs are not "
        "those that were answered; name the version that answered with --against"
    )
