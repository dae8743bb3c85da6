"""The summary page of a batch: one HTML file with a row for each execution; links lead to files beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, StrictUndefined, Template

from chaoslab.batch.plan import Job
from chaoslab.batch.result import Result
from chaoslab.redaction import redact
from chaoslab.wording import plural

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Batch of notebooks</title>
<style>
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fefefe; --rule: #d5dbe1; --link: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --paper: #151b21; --rule: #39434d; --link: #56b4e9; }
}
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
a { color: var(--link); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.5rem; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 0.8rem 0.4rem 0; border-bottom: 1px solid var(--rule); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
</style></head><body><main>
<h1>Batch of notebooks</h1>
<p>{{ headline }}</p>
<div class="scroll" tabindex="0" role="group" aria-label="table of executions"><table>
<caption>Executions, in the order of the file</caption>
<thead><tr><th scope="col">notebook</th><th scope="col">parameters</th><th scope="col">ended</th>
<th scope="col">what it says</th><th scope="col" class="number">seconds</th></tr></thead>
<tbody>
{% for job, result, page, executed in rows %}<tr>
<th scope="row">{% if page %}<a href="{{ page }}">{{ job.slug }}</a>{% else %}{{ job.slug }}{% endif %}
{% if executed %} (<a href="{{ executed }}">notebook</a>){% endif %}</th>
<td>{{ redact(job.words()) }}</td><td>{{ word(result) }}</td><td>{{ redact(result.error or result.says) }}</td>
<td class="number">{{ result.seconds }}</td></tr>
{% endfor %}</tbody></table></div>
</main></body></html>
"""


def render(rows: Sequence[tuple[Job, Result]], folder: Path) -> str:
    """Return the page; a page or a notebook is linked if it lies in `folder`."""
    count = Counter(word(result) for _, result in rows)
    counted = ", ".join(f"{number} {name}" for name, number in count.items())
    found = [
        (job, result, *(_there(folder, f"{job.slug}{end}") for end in (".html", ".ipynb"))) for job, result in rows
    ]
    headline = f"{plural(len(rows), 'execution')}: {counted}."
    return _template().render(rows=found, headline=headline, word=word, redact=redact) + "\n"


def word(result: Result) -> str:
    """Return how an execution ended, in a word."""
    if not result.executed:
        return "not executed"
    return "failed to run" if result.error else result.outcome or "done"


def _there(folder: Path, name: str) -> str:
    return name if (folder / name).exists() else ""


@cache
def _template() -> Template:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_PAGE)
