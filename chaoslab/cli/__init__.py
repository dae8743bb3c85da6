"""The command line: thin commands over the package. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from chaoslab.errors import ChaoslabError, NotReverted

if TYPE_CHECKING:
    from rich.console import Console

_COMMANDS: Final = {
    "demo": "chaoslab.cli.experiment",
    "run": "chaoslab.cli.experiment",
    "recover": "chaoslab.cli.safety",
    "doctor": "chaoslab.cli.safety",
    "scenarios": "chaoslab.cli.scenarios",
    "report": "chaoslab.cli.analysis",
    "validate": "chaoslab.cli.analysis",
    "compare": "chaoslab.cli.compare",
    "baseline": "chaoslab.cli.baseline",
}
_SUMMARIES: Final = {
    "demo": "Break the embedded shop, measure it and open the report.",
    "run": "Run a campaign against a target.",
    "report": "Render the report of a campaign.",
    "validate": "Judge a campaign against its SLOs.",
    "compare": "Compare a campaign with a baseline.",
    "baseline": "Keep campaigns as baselines.",
    "scenarios": "List, check or describe scenario files.",
    "doctor": "Say what can be injected on this machine, and what is missing.",
    "recover": "Revert whatever a dead process left behind.",
}


class _Program(click.Group):
    """Commands by name, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUMMARIES.items()))


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chaoslab")
@click.pass_context
def program(ctx: click.Context) -> None:
    """Break a running service on purpose, measure it from outside, and say how sure you are.

    Exit codes: 0 all well · 1 SLO violated or a regression (with --fail-on-…) · 2 bad usage or file · 3 inconclusive
    (with --fail-on-…) · 4 a fault was not delivered · 5 an abort condition stopped the campaign · 6 something could
    not be reverted · 130, 143, 129 interrupted, everything reverted.
    """
    if ctx.invoked_subcommand not in ("recover", "doctor"):
        _name_leftovers()


def _name_leftovers() -> None:
    from chaoslab.journal import leftovers

    left = []
    for journal in leftovers():
        if steps := journal.open_steps():
            left += [found.step.name for found in steps]
        else:
            journal.close()  # its owner was killed before, or after, it had anything to undo
    if left:
        names = ", ".join(left)
        click.echo(f"chaoslab: a dead process left something behind ({names}): run `chaoslab recover`", err=True)


def verbose_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --verbose, which shows the traceback of an error."""
    return click.option("--verbose", is_flag=True, help="Show tracebacks and details.")(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json, which prints data for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(document: object) -> None:
    """Print `document` as JSON."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def console() -> Console:
    """Return where tables go: as wide as the terminal, or wide enough for any table where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def main(arguments: list[str] | None = None) -> None:
    """Run the program; every error of ours is one sentence and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = program.main(args=arguments, prog_name="chaoslab", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ChaoslabError as error:
        if "--verbose" in arguments:
            raise
        for text in str(error).splitlines():
            click.echo(f"chaoslab: {text}", err=True)
        if isinstance(error, NotReverted):
            click.echo("chaoslab: to undo it by hand, or try `chaoslab recover`:", err=True)
            for command in error.commands:
                click.echo(f"    {command}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
