"""Fixtures that every test shares."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaoslab import redaction, targets, trust

# Whoever runs the tests in the background may have a HUP ignored, and so would every program that they start.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


DOSES, COMPUTES, SERVICES, WAITS, SHOWS = "doses", "computes", "services", "waits", "shows"
LANES = {
    DOSES: "measures what a fault does to the processor, or by it, while nobody else wants it",
    COMPUTES: "acts on nothing but files of its own, and is not timed",
    SERVICES: "acts on nothing but commands and services of its own, and is timed",
    WAITS: "runs whole commands, mostly waits, and does not mind if all takes longer",
    SHOWS: "runs what the documents say, and does not mind if all takes longer",
}
"""Markers of tests; those without one are timed, and act on what the machine has only once."""

# The demo is under way meanwhile, and a User Mode Linux whose delays are measured to the millisecond.
_BESIDE_THE_DEMO = ("container_crash", "database_outage", "life", "netem", "service")
_SPINNING = (
    *("combined", "conformance", "cpu_stress", "disk_stress", "end_to_end", "foreign_failure_type", "memory_stress"),
    *("placement", "soak"),
)

_COMPUTING = (
    *("analysis", "baselines", "budget", "campaign_folders", "changepoints", "comparability"),
    *("compare_command", "comparison", "design", "display", "docs", "drift", "effects", "export"),
    *("export_formats", "floors", "forest", "gallery", "hostile_words", "import", "intervals", "journal"),
    *("large_report", "metrics", "pages", "parameters", "plan", "plots", "public_surface"),
    *("redacted_messages", "redaction", "reference", "report_in_browser", "scenario", "scenario_files"),
    *("site", "store", "study", "trends", "verdict"),
)

_SERVING = ("httpx_probe", "monitoring", "probe", "recorder", "resources", "signals", "sudden_ends")

_WAITING = (
    *("ci", "cli", "completion", "confirmation", "environment", "live", "notebooks", "old_suite"),
    *("packaging", "pipelines", "prometheus", "pushgateway", "report", "resume", "secrets", "traces"),
    *("trust",),
)

_SHOWING = ("documented_commands",)

_NAMES = {
    DOSES: (*_BESIDE_THE_DEMO, *_SPINNING),
    COMPUTES: _COMPUTING,
    SERVICES: _SERVING,
    WAITS: _WAITING,
    SHOWS: _SHOWING,
}


def pytest_configure(config: pytest.Config) -> None:
    for marker, meaning in LANES.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lane_of = {name: marker for marker, names in _NAMES.items() for name in names}
    for item in items:
        if (marker := lane_of.get(subject(item))) is not None:
            item.add_marker(marker)
    items.sort(key=lambda item: subject(item) in _SPINNING)  # last, when the demo has ended


def subject(item: pytest.Item) -> str:
    """What a test is about, which is the name of its file."""
    return item.path.stem.removeprefix("test_")


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, so that no test sees another's journals, trust or secrets, or the user's."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv(targets.STATE_VARIABLE, str(folder))
    monkeypatch.setenv(trust.CONFIG_VARIABLE, str(folder / "configuration"))
    monkeypatch.setattr(redaction, "_known", set())
    return folder


@pytest.fixture(scope="session", autouse=True)
def demo_under_way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A `chaoslab demo` that runs while the other tests do, if any test that was selected wants it."""
    if not wanted(request, "demo"):
        yield None
        return
    from tests.demo_run import DemoUnderWay

    under_way = DemoUnderWay(tmp_path_factory.mktemp("demo"))
    yield under_way
    under_way.stop()


@pytest.fixture(scope="session", autouse=True)
def boot_under_way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A User Mode Linux that runs while the other tests do; None where no test wants it, or it is not installed."""
    from tests.faults.uml import boot

    if not wanted(request, "answers") or boot.lacking():
        yield None
        return
    under_way = boot.BootUnderWay(tmp_path_factory.mktemp("uml"))
    yield under_way
    under_way.stop()


def wanted(request: pytest.FixtureRequest, fixture: str) -> bool:
    """Whether any test that was selected uses the fixture."""
    return any(fixture in getattr(item, "fixturenames", ()) for item in request.session.items)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """The chromium that pages are looked at with."""
    from tests.browsers import chromium

    with chromium() as launched:
        yield launched


@pytest.fixture
def need() -> Callable[[str, str], None]:
    """What skips a test when a program is missing: `require`."""
    return require


@pytest.fixture
def certificate(need: Callable[[str, str], None], tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for, with its key; the certificate alone is in FILE.crt."""
    need("openssl", "install the package openssl")
    file = tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*argv, "-keyout", str(file), "-out", str(file) + ".crt"], check=True, capture_output=True)
    with file.open("a") as both:
        both.write(Path(f"{file}.crt").read_text())
    return file


def require(program: str, install: str) -> None:
    """Skip when a program is missing, saying what installs it; with CHAOSLAB_REQUIRE_ALL=1 that is a failure."""
    if shutil.which(program) is None:
        missing(f"{program} is missing: {install}")


def missing(reason: str) -> None:
    """Skip, or fail where every part is required."""
    if os.environ.get("CHAOSLAB_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
