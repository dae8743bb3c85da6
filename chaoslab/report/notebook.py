"""Notebook in, page out: papermill executes it with this interpreter, nbconvert makes one HTML file of it."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellControlSignal, CellTimeoutError, DeadKernelError
from nbconvert.exporters import HTMLExporter
from papermill.exceptions import PapermillException, PapermillExecutionError
from traitlets import Float, default
from traitlets.config import Config

import chaoslab
from chaoslab.errors import ChaoslabError, UsageError
from chaoslab.parameters import declared, require
from chaoslab.report.section import OUTCOME, TEMPLATE

NOTEBOOK_ONLY: Final = "notebook-only"
"""Tag of cells whose output the page leaves out."""

_CELL_SECONDS: Final = 900


def execute(
    source: Path, output: Path, parameters: Mapping[str, Any], *, cwd: Path, limit: int | None = _CELL_SECONDS
) -> nbformat.NotebookNode:
    """Execute the notebook `source` in the folder `cwd`, write it to `output`, and return it.

    `limit` bounds each cell, in seconds; None does not, as a campaign may take hours, and bounds itself.

    Raises:
        UsageError: the notebook has no such parameter.
        ChaoslabError: a cell failed, or the kernel did; `output` holds what was executed.
    """
    check_parameters(source, parameters)
    try:
        executed = papermill.execute_notebook(
            str(source.resolve()),
            str(output.resolve()),
            parameters=dict(parameters),
            cwd=str(cwd.resolve()),
            kernel_name=_KERNEL,
            language="python",
            kernel_manager_class=Kernel,
            progress_bar=False,
            execution_timeout=limit,
        )
    except PapermillExecutionError as error:
        code, reason = (next(iter(text.strip().splitlines()), "") for text in (error.source, error.evalue))
        raise ChaoslabError(
            f"{source.name} failed in cell {error.cell_index} ({code}): {error.ename}: {reason}; "
            f"{output} shows how far it came"
        ) from error
    except (PapermillException, DeadKernelError, CellTimeoutError, CellControlSignal, RuntimeError) as error:
        raise ChaoslabError(f"{source.name} could not be executed: {type(error).__name__}: {error}") from error
    return _without_paths(executed, output)


def check_parameters(source: Path, parameters: Mapping[str, Any]) -> None:
    """Raise UsageError for a parameter that the notebook does not declare, or that is of another type."""
    require(declared(_parameters_cell(source)), parameters, source=source.name)


def _parameters_cell(source: Path) -> str:
    tagged = [cell.source for cell in read(source).cells if "parameters" in cell.metadata.get("tags", ())]
    return tagged[0] if tagged else ""


def read(source: Path) -> nbformat.NotebookNode:
    """Read a notebook.

    Raises:
        UsageError: it cannot be read, or is no notebook.
    """
    try:
        notebook: nbformat.NotebookNode = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror or error}") from error
    except (ValueError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise UsageError(f"{source} is not a notebook: {str(error).splitlines()[0][:120]}") from error
    return notebook


def outcome(executed: nbformat.NotebookNode) -> dict[str, Any] | None:
    """Return what the notebook's last answer tells programs (`section.Section.outcome`); None without one."""
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    told = [output.data[OUTCOME] for output in outputs if OUTCOME in output.get("data", {})]
    return dict(told[-1]) if told else None


def as_page(executed: nbformat.NotebookNode, *, title: str, show_code: bool = False) -> str:
    """Return an executed notebook as one HTML page that needs nothing else."""
    removal = "remove_all_outputs_tags" if show_code else "remove_cell_tags"
    exporter: Any = HTMLExporter(  # type: ignore[no-untyped-call]
        config=Config({"TagRemovePreprocessor": {"enabled": True, removal: {NOTEBOOK_ONLY}}}),
        extra_template_basedirs=[str(TEMPLATE.parent)],
        template_name=TEMPLATE.name,
        exclude_input=not show_code,
        exclude_anchor_links=True,
    )
    script = (TEMPLATE / "page.js").read_text(encoding="utf-8") if _can_be_read_off(executed) else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"sha256-{digest}" if script else "none"
    resources = {"metadata": {"name": title}, "script": script, "script_source": allowed}
    page, _ = exporter.from_notebook_node(executed, resources=resources)
    return str(page)


def _can_be_read_off(executed: nbformat.NotebookNode) -> bool:
    outputs = (output for cell in executed.cells for output in cell.get("outputs", ()))
    return any("data-detail=" in output.get("data", {}).get("text/html", "") for output in outputs)


def page_of(sections: Sequence[str], *, title: str) -> str:
    """Return the HTML of sections as one page, for what no notebook is about; `title` is its heading as well."""
    v4: Any = nbformat.v4
    cells = [v4.new_code_cell(outputs=[v4.new_output("display_data", {"text/html": section})]) for section in sections]
    return as_page(v4.new_notebook(cells=cells), title=title)


_KERNEL: Final = "python3"


class _ThisInterpreter(KernelSpecManager):
    """Knows one kernel: this interpreter with this chaoslab, whatever is or is not registered on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        # A campaign folder may come from anywhere, and it is the kernel's working directory: -P and ignore_cwd keep a
        # file in it that is called like a module from being imported.
        command = [sys.executable, "-P", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(
            argv=[*command, "--IPKernelApp.ignore_cwd=True", "--IPKernelApp.log_level=40"],
            display_name="Python 3",
            language="python",
            env=_environment(),
        )


class Kernel(AsyncKernelManager):
    """Starts this interpreter, whatever kernels are registered."""

    # A kernel that is told to end is interrupted first; what it then reverts takes time, and killing it costs more.
    shutdown_wait_time = Float(60.0)

    @default("kernel_spec_manager")
    def _this_interpreter(self) -> KernelSpecManager:
        return _ThisInterpreter(parent=self)


def _environment() -> dict[str, str]:
    """Make a checkout of chaoslab importable; an installed one is, and must not come before the standard library."""
    home = Path(chaoslab.__file__).resolve().parent.parent
    if home.name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))}


def _without_paths(executed: nbformat.NotebookNode, output: Path) -> nbformat.NotebookNode:
    """Forget where on this machine the notebook lay, and write it again; a campaign folder is handed around."""
    for key in ("input_path", "output_path"):
        executed.metadata.papermill[key] = Path(executed.metadata.papermill[key]).name
    nbformat.write(executed, output)  # type: ignore[no-untyped-call]
    return executed
