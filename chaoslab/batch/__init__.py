"""A matrix of notebooks and parameters, from one file: `plan` reads it, `execute` works it off, `page` sums up.

notebooks:
  - notebook: 02_run_experiment.ipynb        # a path beside the file, or one that comes with chaoslab
    parameters: {target: "http://127.0.0.1:8080", repeats: 5}
    matrix:                                  # once for each combination
      scenario: ["Light CPU Stress", "Light Network Delay"]
  - notebook: 03_resilience_report.ipynb
    parameters: {campaign: campaigns/nightly}
"""

from __future__ import annotations

from chaoslab.batch.execute import execute
from chaoslab.batch.plan import Job, load
from chaoslab.batch.result import Result, exit_code

__all__ = ["Job", "Result", "execute", "exit_code", "load"]
