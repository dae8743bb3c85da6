"""`chaoslab completion`, and what completes names that files and folders hold: they are read in passing, not judged."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from chaoslab.cli import program, verbose_option

Items = list[CompletionItem]

_VARIABLE: Final = "_CHAOSLAB_COMPLETE"
_CAMPAIGN: Final = "campaign.json"
_BASELINE: Final = "baseline.json"
_MOST: Final = 200
_FOLDERS: Final = ("folder", "baseline", "folders", "resumed")
"""Parameters that may name a campaign."""


class _Bash(BashComplete):
    """Click's script puts a name with blanks on the line as several words; this one quotes it.

    Within quotes that were typed, only names are offered that stand for themselves there.
    """

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response type value typed=${COMP_WORDS[COMP_CWORD]}
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" %(complete_var)s=bash_complete "$1")
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                case $typed in
                    [\\"\\']*) [[ $value == *[\\"\\'\\`\\$\\!\\\\]* ]] || COMPREPLY+=("$value") ;;
                    *) COMPREPLY+=("$(printf %%q "$value")") ;;
                esac
                ;;
        esac
    done <<<"$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


_SHELLS: Final[dict[str, type[ShellComplete]]] = {"bash": _Bash, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    epilog="""Examples:

\b
    eval "$(chaoslab completion bash)"                                         # in ~/.bashrc
    eval "$(chaoslab completion zsh)"                                          # in ~/.zshrc, after compinit
    chaoslab completion fish > ~/.config/fish/completions/chaoslab.fish
"""
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@verbose_option
def completion(shell: str, **_: Any) -> None:
    """Print the script that has SHELL complete commands, options and names.

    Scenarios, suites and environments are those of --config, else of the shipped file; after a campaign's folder,
    scenarios are those of the campaign. Folders of campaigns and names of baselines are completed as well.
    """
    click.echo(_SHELLS[shell](program, {}, "chaoslab", _VARIABLE).source())


def scenarios(ctx: click.Context, _: click.Parameter, incomplete: str) -> Items:
    """Complete a scenario's name."""
    if given := _campaigns_given(ctx):
        return _matching(incomplete, (name for found in given for name in _named(_json(found / _CAMPAIGN))))
    return _matching(incomplete, _named(_scenario_file(ctx)))


def suites(ctx: click.Context, _: click.Parameter, incomplete: str) -> Items:
    """Complete a suite's name."""
    return _matching(incomplete, (*_keys(_scenario_file(ctx), "scenario_groups"), "all"))


def environments(ctx: click.Context, _: click.Parameter, incomplete: str) -> Items:
    """Complete the name of an environment."""
    return _matching(incomplete, _keys(_scenario_file(ctx), "environments"))


def campaigns(_: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """Complete the folder of a campaign: one that begins so, or lies in a folder that does; else any folder."""
    start = Path(incomplete)
    parent, beginning = (start, "") if not incomplete or incomplete.endswith("/") else (start.parent, start.name)
    found = _matching(incomplete, map(str, _campaigns_below(parent, beginning)))
    return found or [CompletionItem(incomplete, type="dir")]


def baselines(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the name of a stored baseline, or the folder of a campaign."""
    return [*stored(ctx, parameter, incomplete), *campaigns(ctx, parameter, incomplete)]


def stored(ctx: click.Context, _: click.Parameter, incomplete: str) -> Items:
    """Complete the name of a stored baseline."""
    folder = ctx.params.get("baselines") or os.environ.get("CHAOSLAB_BASELINES") or Path("data") / "baselines"
    return _matching(incomplete, sorted(found.parent.name for found in _glob(Path(folder), f"*/{_BASELINE}")))


def _matching(incomplete: str, names: Iterable[str]) -> Items:
    """Return the names that begin with `incomplete`, each once; none that would break the lines of the answer."""
    begun = incomplete.lower()
    kept = (name for name in dict.fromkeys(names) if name.isprintable() and name.lower().startswith(begun))
    return [CompletionItem(name) for name, _ in zip(kept, range(_MOST), strict=False)]


def _campaigns_below(parent: Path, beginning: str) -> Iterator[Path]:
    for between in ("*", "*/*"):
        for found in _glob(parent, f"{glob.escape(beginning)}{between}/{_CAMPAIGN}"):
            if not any(part.startswith(".") for part in found.relative_to(parent).parts):
                yield found.parent


def _glob(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _campaigns_given(ctx: click.Context) -> list[Path]:
    """Return the campaigns among the arguments, also those that Click has left unparsed: an option has no value yet."""
    values = [ctx.params.get(name) for name in _FOLDERS]
    given = [found for value in values for found in (value if isinstance(value, tuple) else (value,)) if found]
    return [folder for folder in map(Path, [*given, *ctx.args]) if (folder / _CAMPAIGN).is_file()]


def _scenario_file(ctx: click.Context) -> Any:
    import yaml

    from chaoslab import share

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load((ctx.params.get("config") or share.scenario_file()).read_bytes(), loader)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _named(document: Any) -> list[str]:
    """Return the names of the scenarios that a document lists, if it does."""
    entries = document.get("scenarios") if isinstance(document, dict) else None
    entries = entries if isinstance(entries, list) else []
    return [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]


def _keys(document: Any, name: str) -> list[str]:
    entry = document.get(name) if isinstance(document, dict) else None
    return list(map(str, entry)) if isinstance(entry, dict) else []
