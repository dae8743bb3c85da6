"""The command line: thin commands over the package. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import importlib
import io
import json
import keyword
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from chaoslab.errors import ChaoslabError, Interrupted, NotReverted
from chaoslab.redaction import MASK, redact

if TYPE_CHECKING:
    from rich.console import Console

_COMMANDS: Final = {
    "demo": "chaoslab.cli.experiment",
    "run": "chaoslab.cli.experiment",
    "recover": "chaoslab.cli.safety",
    "doctor": "chaoslab.cli.safety",
    "trust": "chaoslab.cli.scenarios",
    "scenarios": "chaoslab.cli.scenarios",
    "report": "chaoslab.cli.analysis",
    "validate": "chaoslab.cli.analysis",
    "compare": "chaoslab.cli.compare",
    "baseline": "chaoslab.cli.baseline",
    "plan": "chaoslab.cli.planning",
    "trends": "chaoslab.cli.trends",
    "watch": "chaoslab.cli.watching",
    "batch": "chaoslab.cli.batch",
    "export": "chaoslab.cli.export",
    "notebooks": "chaoslab.cli.notebooks",
    "ci": "chaoslab.cli.ci",
    "import": "chaoslab.cli.importing",
    "completion": "chaoslab.cli.completion",
}
_SUMMARIES: Final = {
    "demo": "Break the embedded shop, measure it and open the report.",
    "run": "Run a campaign against a target.",
    "report": "Render the report of a campaign.",
    "validate": "Judge a campaign against its SLOs.",
    "compare": "Compare a campaign with a baseline.",
    "baseline": "Keep campaigns as baselines.",
    "plan": "Say how many repeats the next campaign needs.",
    "trends": "Show what became of a service from campaign to campaign.",
    "watch": "Show a campaign while it runs.",
    "batch": "Execute a matrix of notebooks and parameters.",
    "notebooks": "Copy the notebooks into a folder, for JupyterLab.",
    "ci": "Start, break, judge, compare and clean up: a campaign as a pipeline runs it.",
    "export": "Write results for other programs: Prometheus, JUnit, CSV, JSON Schemas.",
    "import": "Turn recordings of other tools into a campaign.",
    "scenarios": "List, check or describe scenario files.",
    "trust": "Let a scenario file run the commands that it names, as it is now.",
    "doctor": "Say what can be injected on this machine, and what is missing.",
    "recover": "Revert whatever a dead process left behind.",
    "completion": "Print what has a shell complete commands, options and names.",
}


_INJECTING: Final = ("demo", "run", "ci", "batch")
_ARGUMENTS: Final = "chaoslab.arguments"


class _Program(click.Group):
    """Commands by name, imported when they are asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name]), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the commands from their summaries: none of them is imported for that."""
        found = [CompletionItem(name, help=text) for name, text in _SUMMARIES.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

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
    if ctx.invoked_subcommand != "recover" and not {"-h", "--help"} & set(ctx.meta[_ARGUMENTS]):
        _name_leftovers(tidy="--dry-run" not in ctx.meta[_ARGUMENTS])


def _name_leftovers(*, tidy: bool) -> None:
    from chaoslab.journal import leftovers
    from chaoslab.undo import unreadable

    left: list[str] = []
    for journal in leftovers():
        if problem := unreadable(journal):
            left.append(f"a damaged journal: {problem}")
        with suppress(ChaoslabError):
            names = [found.step.name for found in journal.open_steps()]
            left += names
            if tidy and not names and not problem:
                journal.close()  # its owner was killed before, or after, it had anything to undo
    if left:
        say(f"a dead process left something behind ({', '.join(left)}): run `chaoslab recover`")


def verbose_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --verbose, which shows the traceback of an error."""
    return click.option("--verbose", is_flag=True, help="Show tracebacks and details.")(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json, which prints data for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(document: object) -> None:
    """Print `document` as JSON."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def _show(error: click.ClickException) -> None:
    words = io.StringIO()
    error.show(words)
    click.echo(redact(words.getvalue()), err=True, nl=False)


def printable(text: str) -> str:
    """Return `text` without what a terminal would obey: names and other programs' words come from anywhere."""
    return "".join(char if char.isprintable() else " " for char in text)


def say(text: str) -> None:
    """Print `text` on standard error, each line under our name, without secrets."""
    for line in redact(text).splitlines():
        click.echo(f"chaoslab: {printable(line)}", err=True)


def console() -> Console:
    """Return where tables go: as wide as the terminal, or wide enough for any table where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def main(arguments: list[str] | None = None) -> None:
    """Run the program; every error of ours is one sentence and an exit code."""
    from chaoslab.cli.streams import tolerate_closed_ends
    from chaoslab.interrupts import Cut

    # Where JupyterLab is installed, jsonschema builds a grammar of all URIs when the first notebook is read: a second,
    # for a check that no notebook asks for. It does without where this package is missing.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    arguments = sys.argv[1:] if arguments is None else arguments
    only_read = not set(arguments[:1]) & set(_INJECTING)
    tolerate_closed_ends()
    cut = Cut()
    try:
        with cut:
            code = program.main(args=arguments, prog_name="chaoslab", standalone_mode=False)
        if cut.signum is not None:  # whoever was cut has swallowed it
            raise Interrupted(cut.signum, only_read=only_read)
    except click.exceptions.Abort:
        ended = Interrupted(cut.signum or signal.SIGINT, only_read=only_read)
        click.echo(f"chaoslab: {ended}", err=True)
        sys.exit(ended.exit_code)
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except ChaoslabError as error:
        if "--verbose" in arguments:
            click.echo(redact(traceback.format_exc()), err=True)
        say(str(error))
        if isinstance(error, NotReverted) and error.commands:
            say("to undo it by hand, or try `chaoslab recover`:")
            for command in error.commands:
                click.echo(f"    {printable(command)}", err=True)
            if any(MASK in command for command in error.commands):
                say(f"secrets are shown as {MASK}; `chaoslab recover` runs the real commands, from the journal")
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
