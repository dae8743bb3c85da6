"""`campaign.json`: what ran, on what, and how to run the same again."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from chaoslab.agent.processes import boot_id
from chaoslab.looks import CLIENTS, Look, ranges
from chaoslab.plan import redacted
from chaoslab.records import SCHEMA_VERSION
from chaoslab.redaction import redact, redact_command, redact_document
from chaoslab.scenario import Scenario, ScenarioFile

if TYPE_CHECKING:
    from chaoslab.experiment import Prepared

_RECORDED_PACKAGES: Final = ("chaoslab", "numpy", "pandas", "pyarrow", "scipy", "psutil")


def describe(prepared: Prepared) -> dict[str, Any]:
    """Return `campaign.json`: what it takes to understand the tables, and to run the same again, but for secrets."""
    request, plan = prepared.request, prepared.plan
    file = request.file.model_dump(mode="json")
    return {
        "schema_version": SCHEMA_VERSION,
        "campaign": prepared.name,
        "dry_run": False,
        "status": "running",
        "reason": "",
        "started_at": datetime.now(UTC).isoformat(),
        "anchor": {"monotonic_ns": prepared.anchor_ns, "wall_ns": prepared.anchor_wall_ns, "boot_id": boot_id()},
        "target": redacted(request.target),
        "target_withheld": redacted(request.target) != request.target,
        "target_build": prepared.where.target.build if prepared.where.target else None,
        "target_name": prepared.where.target.name if prepared.where.target else None,
        "environment": request.environment,
        "probe": {
            "name": "health",
            "url": redacted(prepared.watch.looks[0].address),
            "rate_hz": request.rate_hz,
            "timeout_seconds": prepared.watch.looks[0].timeout_s,
        },
        "probes": [_probe(look) for look in prepared.watch.looks],
        "seed": plan.seed,
        "repeats": plan.repeats,
        "duration_scale": plan.duration_scale,
        "cooldown_seconds": plan.cooldown,
        "scenarios": [_scenario(scenario, prepared) for scenario in request.scenarios],
        "order": [[run.scenario.name, run.repeat] for run in plan.runs],
        "slos": [asdict(slo) for slo in prepared.slos],
        "required_health_checks": request.file.slo_targets.recovery.required_health_checks,
        "configuration": {
            "file": request.source.name,
            "path": str(request.source.resolve()),
            "sha256": digest(request.file),
            "safety": redact_document(file["safety"]),
            "phases": file["phases"],
        },
        "host": _host(),
        "versions": {name: metadata.version(name) for name in _RECORDED_PACKAGES},
        "command_line": shlex.join([Path(sys.argv[0]).name, *map(_redacted_argument, redact_command(sys.argv[1:]))]),
        "notes": redact_document(dict(request.notes)),
    }


def _scenario(scenario: Scenario, prepared: Prepared) -> dict[str, Any]:
    planned = next(run for run in prepared.plan.runs if run.scenario.name == scenario.name)
    return {
        **redact_document(scenario.model_dump(mode="json")),
        "name": scenario.name,  # the tables know it by that
        "mechanism": "; ".join(dict.fromkeys(one.mechanism.name for one in prepared.faults[scenario.name])),
        "phases": {"baseline": planned.baseline, "injection": planned.injection, "recovery": planned.recovery},
    }


def _probe(look: Look) -> dict[str, Any]:
    """Return what a probe asked, without what it said to be let in: of headers and body only that there were any."""
    addresses: dict[str, dict[str, Any]] = {"http": {"url": redacted(look.address)}, "tcp": {"address": look.address}}
    addresses |= {"postgres": {"dsn": redact(look.address)}, "command": {"command": redact_command(look.argv)}}
    success = asdict(look.success) | {"statuses": ranges(look.success.statuses) if look.kind == "http" else None}
    request = {
        "method": look.method,
        "headers": [name for name, _ in look.headers],
        "body_bytes": len(look.body),
        "tls": asdict(look.tls),
        "needs": look.features,
        "proxy": look.proxy and redacted(look.proxy),
    }
    return {
        "name": look.name,
        "type": look.kind,
        **addresses[look.kind],
        **(request if look.kind == "http" else {}),
        "client": CLIENTS[look.client],
        "rate_hz": look.rate_hz,
        "arrivals": look.arrivals,
        "timeout_seconds": look.timeout_s,
        "connections": look.connections,
        "new_connections": look.fresh,
        "success": redact_document({key: value for key, value in success.items() if value is not None}),
    }


def _host() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "stress_ng": shutil.which("stress-ng") is not None,
    }


def _redacted_argument(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if equals and "://" in value:
        return f"{option}={redacted(value)}"
    return redacted(argument) if "://" in argument else argument


def digest(file: ScenarioFile) -> str:
    """Return the SHA-256 of what a scenario file says, whatever it looks like."""
    return hashlib.sha256(repr(sorted(file.model_dump(mode="json").items())).encode()).hexdigest()
