"""The ``inferd`` command: a group whose commands are imported when they are asked for."""

from __future__ import annotations

from importlib import import_module

import click

_COMMANDS = {
    "serve": "Serve models over HTTP.",
    "inspect": "Print what is inferred about a model, as a model.toml.",
    "check": "Load, warm and infer without serving.",
    "golden": "Write golden examples: what a version answers now.",
    "predict": "Predict offline, from a file.",
    "config": "Print each setting and its origin.",
    "keys": "Make API keys.",
    "seal": "Write the manifest of a version, so that a changed byte keeps it from being served.",
    "models": "See and change what a running server serves.",
    "capture": "Keep a sample of a running server's requests in a file.",
    "replay": "Run captured requests through a version, and compare its answers.",
    "experiment": "Check, simulate, run and judge experiments on models.",
    "doctor": "Print versions, extras and plug-ins.",
}


class _LazyGroup(click.Group):
    """Knows its commands' names and one-line helps without importing them: ``--help`` stays far below 0.3 s."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"inferd.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            from inferd.core.schema import suggestion

            ctx.fail(f"no command {args[0]!r}{suggestion(args[0], list(_COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: inferd serve model.onnx",
)
@click.version_option(package_name="inferd", message="inferd %(version)s")
def group() -> None:
    """Serve any model file with one command."""


def main() -> int:
    """Run the command line. What inferd raises on purpose is one line on stderr; the exit code is 2 when the command
    or the configuration is wrong and 1 when a model or its input is."""
    from inferd.core.errors import ConfigError, InferdError
    from inferd.core.plain_text import plain_lines

    try:
        return int(group.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except InferdError as error:
        click.echo(f"inferd: {plain_lines(error.message)}", err=True)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:  # a file that may not be read or written is no defect of inferd's
        click.echo(f"inferd: {error}", err=True)
        return 1
