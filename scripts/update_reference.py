"""Write docs/configuration.md and docs/cli.md from the schema and the commands; ``--check`` only compares them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_type_hints

import click

from inferd.cli.main import group
from inferd.core.config import BatchingConfig, ExecutionConfig, InstanceGroup, ModelConfig
from inferd.core.schema import accepted
from inferd.server.settings import HINTS, SCHEMA, default_of, flag_name, variable_name

DOCS = Path(__file__).parent.parent / "docs"

_SETTINGS = """\
# Configuration

Made from the schema by `scripts/update_reference.py`; do not edit.

## Settings of the server

Each setting is a key of `inferd.toml`, an environment variable and a flag of `inferd serve`. Defaults give way to the
file, the file to the environment, the environment to flags. `inferd config` prints each value and its origin. The file
is `inferd.toml` in the current folder, or what `--config` or `INFERD_CONFIG` names. In the environment a list is
separated by commas. An unknown key, or a value of the wrong type, stops the start with file, line and the way out.

API keys come from the file that `api_keys_file` names, and from `INFERD_API_KEYS`: `id:scope+scope:sha256` entries,
separated by commas.

| key | flag | variable | takes | default | meaning |
|---|---|---|---|---|---|
"""

_MODEL = """
## model.toml

Lies in the model's folder, beside its version folders, or beside the artefact in a folder without versions. A file
that is served on its own has none: put the two into a folder, and serve the folder. All of it is optional: what it
leaves out is inferred from the artefact, or is the server's default for all models (the last settings above).
`inferd inspect PATH` prints a complete one. `name` renames the model; `[options]` belongs to the runtime alone.

```toml
nan = "null"
select_outputs = ["label"]

[[input]]
name = "features"
datatype = "FP32"
shape = [-1, 4]

[batching]
max_batch_size = 32
max_wait_ms = 2
```

`[[input]]` and `[[output]]` take `name`, `datatype`, `shape` (-1: any size; the first is the batch's) and `optional`.
"""

_PLAIN = ("name", "runtime", "select_outputs", "batchable", "nan")


def configuration() -> str:
    """The text of docs/configuration.md."""
    rows = [
        f"| `{name}` | `{flag_name(name)}` | `{variable_name(name)}` | {_cell(accepted(HINTS[name]))} | "
        f"{_default(default_of(name))} | {_cell(entry.metadata['help'])} |"
        for name, entry in SCHEMA.items()
    ]
    tables = "".join(_table(title, kind) for title, kind in _tables())
    return _SETTINGS + "\n".join(rows) + "\n" + _MODEL + tables


def cli() -> str:
    """The text of docs/cli.md."""
    parts = ["# Commands\n\nMade from the commands by `scripts/update_reference.py`; do not edit.\n"]
    for path, command in _commands():
        context = click.Context(command, info_name=path)
        usage = " ".join([path, *command.collect_usage_pieces(context)])
        options = [param for param in command.params if isinstance(param, click.Option)]
        records = (param.get_help_record(context) for param in options)
        rows = [f"| `{_cell(record[0])}` | {_cell(record[1])} |" for record in records if record]
        parts.append(f"## {path}\n\n```text\n{usage}\n```\n\n{cleandoc(command.help or '')}\n")
        if rows:
            parts.append("\n".join(["| option | meaning |", "|---|---|", *rows, ""]))
        if command.epilog and "Examples:" in command.epilog:
            parts.append(f"```text\n{cleandoc(command.epilog.partition('Examples:')[2])}\n```\n")
    return "\n".join(parts)


def _commands() -> Iterator[tuple[str, click.Command]]:
    yield "inferd", group
    for name in group.list_commands(click.Context(group)):
        command: click.Command = import_module(f"inferd.cli.{name}").command
        if isinstance(command, click.Group):
            yield from ((f"inferd {name} {child}", each) for child, each in command.commands.items())
        else:
            yield f"inferd {name}", command


def _tables() -> list[tuple[str, type]]:
    sections = {"batching": BatchingConfig, "instances": InstanceGroup, "execution": ExecutionConfig}
    return [("Keys of the model", ModelConfig), *((f"[{name}]", kind) for name, kind in sections.items())]


def _table(title: str, kind: type) -> str:
    hints = get_type_hints(kind)
    rows = [
        f"| `{entry.name}` | {_cell(accepted(hints[entry.name]))} | {_default(entry.default)} |"
        for entry in fields(kind)
        if kind is not ModelConfig or entry.name in _PLAIN
    ]
    text = cleandoc(kind.__doc__ or "").replace("``", "`") if kind is not ModelConfig else ""
    return "\n".join(
        [f"\n### {title}\n", *([text, ""] if text else []), "| key | takes | default |", "|---|---|---|", *rows, ""]
    )


def _default(value: Any) -> str:
    if value in (None, "", (), MISSING):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write both pages, or with ``--check`` return 1 when one is not what it should be."""
    stale = []
    for name, text in (("configuration.md", configuration()), ("cli.md", cli())):
        page = DOCS / name
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                page.write_text(text, encoding="utf-8")
    if "--check" in sys.argv and stale:
        print(f"docs/{', docs/'.join(stale)}: out of date; run scripts/update_reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
