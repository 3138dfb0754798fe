"""``inferd models``: see and change what a running server serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, TypeVar
from urllib.parse import quote

import click

from inferd.core.errors import ConfigError, LoadFailed
from inferd.core.plain_text import one_line, plain_lines

_Command = TypeVar("_Command", bound=Callable[..., Any])
PATIENCE_S = 60.0
"""How long the server may say nothing; not where it was asked to answer when something is done."""
_UNAUTHENTICATED = 401
_EXAMPLES = """\b
Examples:
  inferd models list
  inferd models load iris --version 2
  inferd models label iris stable 2
  inferd models policy iris latest:2 --url https://models.example --api-key KEY
"""


def server_options(function: _Command) -> _Command:
    """Add where the server is, the key to show it, and whether to print JSON."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is."),
        click.option("--api-key", envvar="INFERD_API_KEY", default="", help="A key with the scope admin."),
        click.option("--url", envvar="INFERD_URL", default="http://127.0.0.1:8000", show_default=True),
    ):
        function = option(function)
    return function


@click.group(epilog=_EXAMPLES)
def command() -> None:
    """See and change what a running server serves.

    Exit code 0 when it is so, 1 when a version could not be loaded, 2 when the server refuses or does not answer.
    """


@command.command("list")
@server_options
def list_models(url: str, api_key: str, as_json: bool) -> None:
    """Every model, its versions, their states and labels."""
    answer = ask(url, api_key, "GET", "/admin/models", expect="models")
    _show(answer, answer["models"], as_json)


def _action(name: str, text: str) -> None:
    @command.command(name, help=text)
    @click.argument("model")
    @click.option("--version", type=click.IntRange(min=1), help="One version; the whole model when left out.")
    @click.option("--wait/--no-wait", default=True, help="Return when it is done, or at once.")
    @server_options
    def act(model: str, version: int | None, wait: bool, url: str, api_key: str, as_json: bool) -> None:
        where = _path(model, *(("versions", str(version)) if version else ()))
        path = f"{where}/{name}?wait={str(wait).lower()}"
        if wait and not as_json:
            described = _watched(url, api_key, model, path)
        else:
            described = ask(url, api_key, "POST", path, expect="versions", patience_s=None if wait else PATIENCE_S)
        _show(described, [described], as_json)
        if wait and name != "unload":
            _check_loaded(described, version)


_action("load", "Serve MODEL as its policy says, or one version of it too. Looks at the repository again first.")
_action("unload", "Stop serving MODEL, or one version of it, until it is loaded again.")
_action("reload", "Load what is served of MODEL again, from its files as they are now.")


@command.command()
@click.argument("model")
@click.argument("label")
@click.argument("version", type=click.IntRange(min=1), required=False)
@server_options
def label(model: str, label: str, version: int | None, url: str, api_key: str, as_json: bool) -> None:
    """Point LABEL of MODEL at VERSION, which must be ready; without VERSION take the label away."""
    path = _path(model, "labels", label)
    if version is None:
        described = ask(url, api_key, "DELETE", path, expect="versions")
    else:
        described = ask(url, api_key, "PUT", path, {"version": version}, expect="versions")
    _show(described, [described], as_json)


@command.command()
@click.argument("model")
@click.argument("policy")
@server_options
def policy(model: str, policy: str, url: str, api_key: str, as_json: bool) -> None:
    """Serve the versions of MODEL that POLICY chooses: latest, latest:N, all, 1,3, or "" as configured."""
    body = {"policy": policy}
    described = ask(url, api_key, "PUT", _path(model, "policy"), body, expect="versions", patience_s=None)
    _show(described, [described], as_json)
    _check_loaded(described, None)


@command.command()
@click.argument("model")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@server_options
def history(model: str, limit: int, url: str, api_key: str, as_json: bool) -> None:
    """What happened to MODEL, by whom and why; the latest first."""
    answer = ask(url, api_key, "GET", f"{_path(model, 'history')}?limit={limit}", expect="history")
    if as_json:
        click.echo(json.dumps(answer))
        return
    for each in answer["history"]:
        at = datetime.fromtimestamp(each["at_ms"] / 1000).isoformat(" ", "seconds")
        version = "" if each["version"] is None else f"version {each['version']}"
        click.echo(one_line("  ".join(part for part in (at, version, each["event"], each["who"], each["why"]) if part)))


def ask(
    url: str,
    api_key: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    expect: str = "",
    patience_s: float | None = PATIENCE_S,
) -> Any:
    """The server's JSON answer, an object that has the member ``expect``.

    Raises ``ConfigError`` with the server's own words when it refuses, is not there or says nothing for ``patience_s``.
    """
    with answering(url, api_key, method, path, body, patience_s) as answer:
        found = json.load(answer)
    if expect and not (isinstance(found, dict) and expect in found):
        raise ConfigError(f"{url} does not answer as an inferd server does")
    return found


@contextmanager
def answering(
    url: str, api_key: str, method: str, path: str, body: Any = None, patience_s: float | None = None
) -> Iterator[IO[bytes]]:
    """The body of the server's answer, to be read in the block. Raises what ``ask`` raises, also when the answer breaks
    off."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    if "://" not in url:
        raise ConfigError(f"{url} is no address of an inferd server; write http://{url}")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    data = json.dumps(body).encode() if body is not None else (b"" if method != "GET" else None)
    try:
        with urlopen(Request(url.rstrip("/") + path, data, headers, method=method), timeout=patience_s) as answer:
            yield answer
    except HTTPError as error:
        raise ConfigError(_refusal(url, error.code, error.read())) from None
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"no answer from {url}: {reason}; is the server running? Name it with --url") from None
    except ValueError:
        raise ConfigError(f"{url} is no address of an inferd server") from None


def _path(model: str, *more: str) -> str:
    return "/".join(("/admin/models", *(quote(part, safe="") for part in (model, *more))))


def _refusal(url: str, status: int, body: bytes) -> str:
    try:
        problem = json.loads(body)
        hint = f"; {problem['hint']}" if "hint" in problem else ""
        if status == _UNAUTHENTICATED:
            hint = "; give one that the server knows with --api-key, or in INFERD_API_KEY"
        return f"{problem['detail']}{hint}" if "code" in problem else f"{url} answered {status}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{url} answered {status}"


def _watched(url: str, api_key: str, model: str, path: str) -> Any:
    """Do it, and show on standard error how the versions' states change meanwhile."""
    import threading

    from rich.console import Console

    result: list[Any] = []

    def act() -> None:
        try:
            result.append(ask(url, api_key, "POST", path, expect="versions", patience_s=None))
        except ConfigError as error:
            result.append(error)

    worker = threading.Thread(target=act, daemon=True)
    worker.start()
    with Console(stderr=True).status(model) as status:
        while worker.is_alive():
            worker.join(0.2)
            if worker.is_alive():
                try:
                    versions = ask(url, api_key, "GET", _path(model), expect="versions")["versions"]
                except ConfigError:
                    continue
                status.update(", ".join(f"{model} {each['version']} {each['state']}" for each in versions))
    if isinstance(result[0], ConfigError):
        raise result[0]
    return result[0]


def _show(answer: Any, models: list[Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer))
        return
    for model in models:
        click.echo(f"{model['name']}  policy {model['policy']}")
        if "problem" in model:
            click.echo(f"  problem: {plain_lines(model['problem'])}")
        labels: dict[int, list[str]] = {}
        for name, version in sorted(model["labels"].items()):
            labels.setdefault(version, []).append(name)
        for each in model["versions"]:
            names = " ".join(labels.get(each["version"], ()))
            parts = (f"  {each['version']}", each["state"], names, one_line(each.get("reason", "")))
            click.echo("  ".join(part for part in parts if part))
        for version in sorted(labels.keys() - {each["version"] for each in model["versions"]}):
            click.echo(f"  {version}  is not served  {' '.join(labels[version])}")


def _check_loaded(described: Any, version: int | None) -> None:
    """Raise ``LoadFailed`` when a version that should be served, or the one that was asked for, could not be loaded."""
    for each in described["versions"]:
        if each["state"] == "FAILED" and version in (None, each["version"]):
            raise LoadFailed(f"{described['name']} version {each['version']} FAILED: {each.get('reason', '')}")
