"""The report of a campaign: JSON, Markdown and Prometheus text, and one self-contained HTML page.

`write_all` needs nothing but the analysis. `render` also executes the report notebook with papermill and makes the
page with nbconvert. The sections are what that notebook shows, and what any other notebook may show.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from chaoslab import share, store
from chaoslab.errors import CampaignFolderError, DryRun, UsageError
from chaoslab.export import markdown, prometheus

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis
    from chaoslab.comparison import Comparison
    from chaoslab.report.outlook import budget, changed, dashboard, histories, table
    from chaoslab.report.section import Section
    from chaoslab.report.sections import (
        against,
        answer,
        changes,
        comparison,
        doses,
        method,
        omissions,
        probes,
        recovery,
        rehearsal,
        scenarios,
        style,
    )

__all__ = [
    "Section",
    "against",
    "answer",
    "budget",
    "changed",
    "changes",
    "comparison",
    "dashboard",
    "doses",
    "histories",
    "method",
    "omissions",
    "probes",
    "recovery",
    "rehearsal",
    "render",
    "scenarios",
    "style",
    "table",
    "write_all",
    "write_comparison",
    "write_page",
    "write_trends",
]

_HOMES: Final = {
    "Section": "section",
    **dict.fromkeys(("budget", "changed", "dashboard", "histories", "table"), "outlook"),
}
"""Module of each name that is imported when it is first used; of all others it is `sections`."""

NOTEBOOK: Final = "03_resilience_report.ipynb"
TRENDS: Final = "05_trends.ipynb"
EXECUTED: Final = "report.ipynb"
PAGE: Final = "report.html"


def __getattr__(name: str) -> Any:
    """Import what draws when it is first used: whoever only executes the notebook does without matplotlib."""
    if name not in __all__:
        raise AttributeError(f"module 'chaoslab.report' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"chaoslab.report.{_HOMES.get(name, 'sections')}"), name)
    return value


def write_all(folder: Path | str) -> Analysis:
    """Analyse the campaign in `folder` and write what the analysis says beside it; equal campaigns give equal bytes.

    Writes `chaos_results.json`, `resilience_validation.json`, `chaos_report.md` and `chaos_metrics.prom`.

    Raises:
        CampaignFolderError: not a campaign that can be analysed, or a folder that cannot be written.
    """
    from chaoslab.analysis import analyse

    folder = Path(folder)
    analysis = analyse(store.Campaign.open(folder))
    results, validation = analysis.as_results(), analysis.as_validation()
    texts = {"chaos_report.md": markdown.render(analysis), "chaos_metrics.prom": prometheus.render(analysis)}
    try:
        store.write_json(folder / "chaos_results.json", results)
        store.write_json(folder / "resilience_validation.json", validation)
        for name, text in texts.items():
            store.write_text(folder / name, text)
    except OSError as error:
        raise CampaignFolderError(f"{folder} cannot be written: {error.strerror or error}") from error
    return analysis


def write_comparison(found: Comparison, folder: Path | str) -> None:
    """Write `comparison.json` and `comparison.md` into `folder`, made if need be; equal comparisons give equal bytes.

    Raises:
        CampaignFolderError: it cannot be written.
    """
    from chaoslab.export import comparison as comparisons

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store.write_json(folder / "comparison.json", found.as_dict())
        store.write_text(folder / "comparison.md", comparisons.render(found))
    except OSError as error:
        raise CampaignFolderError(f"{folder} cannot be written: {error.strerror or error}") from error


def render(folder: Path | str, *, show_code: bool = False, parameters: Mapping[str, Any] | None = None) -> Path:
    """Write everything about the campaign in `folder`, and return the path of its HTML page.

    The page of a dry run says what was planned, and that nothing was measured; there is nothing else to write about it.
    The arguments and errors are those of `write_all` and `write_page`.
    """
    try:
        write_all(folder)
    except DryRun as planned:
        return _write_rehearsal(Path(folder), planned.meta)
    return write_page(folder, show_code=show_code, parameters=parameters)


def write_page(folder: Path | str, *, show_code: bool = False, parameters: Mapping[str, Any] | None = None) -> Path:
    """Execute the report notebook on the campaign in `folder`, and return the path of the HTML page made from it.

    Args:
        folder: the campaign.
        show_code: whether the page shows the notebook's code; it is hidden by default.
        parameters: of the report notebook, besides `campaign`.

    Raises:
        CampaignFolderError: not a campaign that can be analysed, or a folder that cannot be written.
        UsageError: the notebook has no such parameter.
        ChaoslabError: the notebook failed; it is there as far as it came.
    """
    from chaoslab.report import notebook

    folder = Path(folder)
    campaign = store.Campaign.open(folder)
    try:
        (folder / PAGE).unlink(missing_ok=True)  # a page that the rest of the folder has outgrown would mislead
    except OSError as error:
        raise CampaignFolderError(f"{folder / PAGE} cannot be written anew: {error.strerror}") from error
    executed = notebook.execute(
        share.notebook(NOTEBOOK), folder / EXECUTED, {"campaign": ".", **(parameters or {})}, cwd=folder
    )
    store.write_text(
        folder / PAGE,
        notebook.as_page(executed, title=f"Resilience report · {campaign.name}", show_code=show_code),
    )
    return folder / PAGE


def _write_rehearsal(folder: Path, meta: Mapping[str, Any]) -> Path:
    from chaoslab.report import notebook
    from chaoslab.report.sections import rehearsal

    page = notebook.page_of([rehearsal(meta).html], title=f"Dry run · {meta['campaign']}")
    try:
        store.write_text(folder / PAGE, page)
    except OSError as error:
        raise CampaignFolderError(f"{folder / PAGE} cannot be written: {error.strerror}") from error
    return folder / PAGE


def write_trends(output: Path | str, parameters: Mapping[str, Any], *, show_code: bool = False) -> Path:
    """Execute the notebook of trends and write the HTML page made from it to `output`.

    Args:
        output: the page; it must end in ".html".
        parameters: of the notebook; `campaigns` is a list of absolute paths.

    Raises:
        UsageError: a page that cannot be written, or an unknown parameter.
        ChaoslabError: the notebook failed.
    """
    from chaoslab.report import notebook

    output = Path(output)
    if output.suffix != ".html":
        raise UsageError(f"output is {output}; accepted: a file that ends in .html")
    if not output.parent.is_dir():
        raise UsageError(f"output {output} cannot be written: there is no folder {output.parent}")
    with TemporaryDirectory(prefix="chaoslab-") as scratch:
        executed = notebook.execute(share.notebook(TRENDS), Path(scratch) / TRENDS, parameters, cwd=Path(scratch))
    try:
        store.write_text(output, notebook.as_page(executed, title="Trends", show_code=show_code))
    except OSError as error:
        raise UsageError(f"output {output} cannot be written: {error.strerror or error}") from error
    return output
