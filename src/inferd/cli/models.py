"""``inferd models``: see and change what a running server serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, TypeVar

import click

from inferd.core.errors import ConfigError

_Command = TypeVar("_Command", bound=Callable[..., Any])
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
    """See and change what a running server serves."""


@command.command("list")
@server_options
def list_models(url: str, api_key: str, as_json: bool) -> None:
    """Every model, its versions, their states and labels."""
    answer = ask(url, api_key, "GET", "/admin/models")
    _show(answer, answer["models"], as_json)


def _action(name: str, text: str) -> None:
    @command.command(name, help=text)
    @click.argument("model")
    @click.option("--version", type=click.IntRange(min=1), help="One version; the whole model when left out.")
    @click.option("--wait/--no-wait", default=True, help="Return when it is done, or at once.")
    @server_options
    def act(model: str, version: int | None, wait: bool, url: str, api_key: str, as_json: bool) -> None:
        where = f"/admin/models/{model}" + (f"/versions/{version}" if version else "")
        path = f"{where}/{name}?wait={str(wait).lower()}"
        described = _watched(url, api_key, model, path) if wait and not as_json else ask(url, api_key, "POST", path)
        _show(described, [described], as_json)


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
    path = f"/admin/models/{model}/labels/{label}"
    if version is None:
        described = ask(url, api_key, "DELETE", path)
    else:
        described = ask(url, api_key, "PUT", path, {"version": version})
    _show(described, [described], as_json)


@command.command()
@click.argument("model")
@click.argument("policy")
@server_options
def policy(model: str, policy: str, url: str, api_key: str, as_json: bool) -> None:
    """Serve the versions of MODEL that POLICY chooses: latest, latest:N, all, 1,3, or "" as configured."""
    described = ask(url, api_key, "PUT", f"/admin/models/{model}/policy", {"policy": policy})
    _show(described, [described], as_json)


@command.command()
@click.argument("model")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@server_options
def history(model: str, limit: int, url: str, api_key: str, as_json: bool) -> None:
    """What happened to MODEL, by whom and why; the latest first."""
    answer = ask(url, api_key, "GET", f"/admin/models/{model}/history?limit={limit}")
    if as_json:
        click.echo(json.dumps(answer))
        return
    for each in answer["history"]:
        at = datetime.fromtimestamp(each["at_ms"] / 1000).isoformat(" ", "seconds")
        version = "" if each["version"] is None else f"version {each['version']}"
        click.echo("  ".join(part for part in (at, version, each["event"], each["who"], each["why"]) if part))


def ask(url: str, api_key: str, method: str, path: str, body: Any = None) -> Any:
    """The server's JSON answer. Raises ``ConfigError`` with its own words when it refuses or is not there."""
    with answering(url, api_key, method, path, body) as answer:
        return json.load(answer)


@contextmanager
def answering(url: str, api_key: str, method: str, path: str, body: Any = None) -> Iterator[IO[bytes]]:
    """The body of the server's answer, to be read in the block. Raises what ``ask`` raises, also when the answer breaks
    off."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    data = json.dumps(body).encode() if body is not None else (b"" if method != "GET" else None)
    try:
        with urlopen(Request(url.rstrip("/") + path, data, headers, method=method)) as answer:
            yield answer
    except HTTPError as error:
        raise ConfigError(_refusal(error.code, error.read())) from None
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"no answer from {url}: {reason}; is the server running? Name it with --url") from None
    except ValueError:
        raise ConfigError(f"{url} is no address of an inferd server") from None


def _refusal(status: int, body: bytes) -> str:
    try:
        problem = json.loads(body)
        hint = f"; {problem['hint']}" if "hint" in problem else ""
        return f"{problem['detail']}{hint}"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {status}"


def _watched(url: str, api_key: str, model: str, path: str) -> Any:
    """Do it, and show on standard error how the versions' states change meanwhile."""
    import threading

    from rich.console import Console

    result: list[Any] = []

    def act() -> None:
        try:
            result.append(ask(url, api_key, "POST", path))
        except ConfigError as error:
            result.append(error)

    worker = threading.Thread(target=act, daemon=True)
    worker.start()
    with Console(stderr=True).status(model) as status:
        while worker.is_alive():
            worker.join(0.2)
            if worker.is_alive():
                try:
                    versions = ask(url, api_key, "GET", f"/admin/models/{model}")["versions"]
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
        labels: dict[int, list[str]] = {}
        for name, version in sorted(model["labels"].items()):
            labels.setdefault(version, []).append(name)
        for each in model["versions"]:
            names = " ".join(labels.get(each["version"], ()))
            parts = (f"  {each['version']}", each["state"], names, each.get("reason", ""))
            click.echo("  ".join(part for part in parts if part))
