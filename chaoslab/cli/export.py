"""`chaoslab export`: a campaign's results for other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chaoslab.cli import completion, print_json, say, verbose_option
from chaoslab.cli.pushing import gateway_of, push_options, trace_receiver_of
from chaoslab.errors import UsageError, recognised

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis

SHOWN: Final = ("skipped", "failure")
FILES: Final = {"prometheus": "chaos_metrics.prom", "junit": "junit.xml", "csv": "chaos_results.csv"}
"""Formats, and the file that each has in a folder."""


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), shell_complete=completion.campaigns)
@click.option(
    "--format", "formats", default="prometheus", show_default=True, help=f"Comma-separated: {', '.join(FILES)}."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File, or a folder that is there; several formats take the file's name, each with its suffix. "
    "Standard output by default; with --push, the campaign's folder; with --otlp-endpoint alone, none.",
)
@click.option(
    "--inconclusive",
    type=click.Choice(SHOWN),
    default="skipped",
    show_default=True,
    help="What JUnit calls what could not be judged.",
)
@click.option(
    "--schema",
    "document",
    metavar="DOCUMENT",
    help="Print the JSON Schema of a document: chaos_results.json, resilience_validation.json.",
)
@push_options
@verbose_option
def export(
    folder: Path | None, formats: str, output: Path | None, inconclusive: Any, document: str | None, **options: Any
) -> None:
    """Write the results of the campaign in FOLDER for other programs: Prometheus text, JUnit XML, CSV.

    Everything is made before anything is written, and each file is written in one piece. --push pushes the metrics to a
    Pushgateway once the files are there; a push that fails is an error, and leaves them.
    """
    if document is not None:
        from chaoslab.export import schemas

        print_json(schemas.schema(document))
        return
    if folder is None:
        raise click.UsageError("Missing argument 'FOLDER'.")
    chosen = recognised([name.strip() for name in formats.split(",") if name.strip()], FILES, "format")
    if not chosen:
        raise UsageError(f"--format names no format; accepted: {', '.join(FILES)}, separated by commas")
    gateway = gateway_of(options)
    if gateway is not None and "prometheus" not in chosen:
        raise UsageError(f"--push needs the format prometheus; --format names {', '.join(chosen)}")
    receiver = trace_receiver_of(options)
    from chaoslab.analysis import analyse
    from chaoslab.store import Campaign

    campaign = Campaign.open(folder)
    places = _places(chosen, folder if gateway is not None and output is None else output)
    analysis = analyse(campaign)
    texts = {name: _RENDERERS[name](analysis, inconclusive) for name in chosen}
    if not places and receiver is None:
        click.echo("".join(texts.values()), nl=False)
    for name, path in places.items():
        write(path, texts[name])
        click.echo(f"{name}: {path}")
    if gateway is not None:
        from chaoslab.export import prometheus, pushgateway

        pushgateway.push(prometheus.registry_of(analysis), gateway, tell=say)
        click.echo(f"pushed to {gateway.url}, job {gateway.job}")
    if receiver is not None:
        from chaoslab.export import traces

        count = traces.send(campaign, receiver, tell=say)
        click.echo(f"sent to {receiver.url}, {count} spans")


def _places(formats: tuple[str, ...], output: Path | None) -> Mapping[str, Path]:
    """Return where each format goes; empty for standard output."""
    if output is None:
        if len(formats) > 1:
            raise UsageError(f"{', '.join(formats)} need a place each; accepted: --output FILE, or a folder")
        return {}
    if output.is_dir():
        return {name: output / FILES[name] for name in formats}
    require_folder(output, "--output")
    if len(formats) == 1:
        return {formats[0]: output}
    return {name: output.with_suffix(Path(FILES[name]).suffix) for name in formats}


def require_folder(path: Path, option: str) -> None:
    """Raise UsageError, before any work, when the folder that `path` is to be written to is not there."""
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise UsageError(f"{option} {path} cannot be written: it is a folder; accepted: a file")


def write(path: Path, text: str) -> None:
    """Write `text` in one piece.

    Raises:
        UsageError: it cannot be written; what was there stays.
    """
    from chaoslab.store import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _prometheus(analysis: Analysis, _: Any) -> str:
    from chaoslab.export import prometheus

    return prometheus.render(analysis)


def _junit(analysis: Analysis, inconclusive: Any) -> str:
    from chaoslab.export import junit

    return junit.render(analysis, inconclusive=inconclusive)


def _csv(analysis: Analysis, _: Any) -> str:
    from chaoslab.export import csv

    return csv.render(analysis)


_RENDERERS: Final[Mapping[str, Callable[[Any, Any], str]]] = {"prometheus": _prometheus, "junit": _junit, "csv": _csv}
