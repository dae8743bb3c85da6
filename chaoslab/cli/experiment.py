"""`chaoslab run` and `chaoslab demo`."""

from __future__ import annotations

import secrets
import shlex
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from chaoslab.cli import completion, printable, say, verbose_option
from chaoslab.redaction import redact, redact_command

DEMO_SCENARIOS: Final = (
    "Control (no fault)",
    "Light CPU Stress",
    "Application Container Restart",
    "Database Brief Outage",
)
DEMO_SCALE: Final = 0.1
DEMO_RATE_HZ: Final = 50.0
_TICK_SECONDS: Final = 0.1


_CAMPAIGN: Final = (
    click.option("--config", type=click.Path(path_type=Path), help="Scenario file; the shipped one by default."),
    click.option(
        "--suite",
        "suites",
        multiple=True,
        shell_complete=completion.suites,
        help="Suite to run (repeatable); 'all' is every scenario.",
    ),
    click.option(
        "--scenario", "names", multiple=True, shell_complete=completion.scenarios, help="Scenario to run (repeatable)."
    ),
    click.option("--intensity", type=click.Choice(["light", "medium", "heavy"]), help="Only scenarios of this level."),
    click.option(
        "--target",
        envvar="CHAOSLAB_TARGET",
        show_envvar=True,
        help="URL of the service; the health check's endpoint is added to a bare host.",
    ),
    click.option(
        "--environment",
        shell_complete=completion.environments,
        help="Environment of the scenario file: its SLOs and its allowed scenarios.",
    ),
    click.option("--repeats", default=3, show_default=True, help="Runs of each scenario; intervals need at least 3."),
    click.option("--duration-scale", default=1.0, show_default=True, help="Factor on every duration."),
    click.option("--probe-rate", default=20.0, show_default=True, help="Probes a second."),
    click.option("--seed", type=int, help="Seed of the order of runs; drawn and recorded by default."),
    click.option("--output", type=click.Path(path_type=Path), help="Campaign folder, new or empty."),
    click.option("--dry-run", is_flag=True, help="Print the exact commands, and change nothing."),
    click.option("--yes", is_flag=True, help="Confirm destructive scenarios."),
    click.option(
        "--allow-commands",
        is_flag=True,
        help="Let the scenario file run the commands that it names, also if it is not trusted (`chaoslab trust`).",
    ),
    click.option(
        "--fail-on-violation", is_flag=True, help="Exit 1 when an SLO is violated, 3 when it is inconclusive."
    ),
)


def campaign_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what a campaign is: those of `run`, in its order."""
    for option in reversed(_CAMPAIGN):
        command = option(command)
    return command


@click.command()
@campaign_options
@click.option(
    "--resume",
    "resumed",
    type=click.Path(path_type=Path),
    shell_complete=completion.campaigns,
    help="Continue the campaign in this folder.",
)
@verbose_option
def run(**options: Any) -> int:
    """Run a campaign against a target, judge it, and write its folder."""
    from chaoslab import experiment

    if options["resumed"] is not None:
        return _resume(options)
    if options["target"] is None:
        raise click.UsageError("Missing option '--target'.")
    request = request_of(options)
    prepared = experiment.prepare(request)
    if options["output"] is not None:
        announce_privacy(options["output"])
    if options["dry_run"]:
        show_rehearsal(prepared, options["output"])
        return 0
    folder = options["output"] or new_folder(options["suites"])
    experiment.require_answer(prepared)
    with experiment.protected(prepared.name) as session:
        experiment.begin(prepared, folder, session)
        stop = perform(prepared, folder, session)
    return _conclude(folder, stop, fail_on_violation=options["fail_on_violation"])


_WITH_RESUME: Final = ("resumed", "target", "config", "yes", "allow_commands", "fail_on_violation", "verbose")


def _resume(options: dict[str, Any]) -> int:
    """Continue a campaign; what else it needs is on its record."""
    from chaoslab import experiment, resume

    context = click.get_current_context()
    refused = [
        option.opts[0]
        for option in context.command.params
        if option.name not in _WITH_RESUME
        and context.get_parameter_source(str(option.name)) == ParameterSource.COMMANDLINE
    ]
    if refused:
        raise click.UsageError(f"{', '.join(refused)} cannot be given with --resume: the campaign's own holds")
    resumption = resume.resume(
        options["resumed"],
        target=options["target"],
        config=options["config"],
        confirmed=options["yes"],
        allow_commands=options["allow_commands"],
    )
    experiment.require_answer(resumption.prepared)
    with experiment.protected(f"{resumption.prepared.name}-{secrets.token_hex(2)}") as session:
        resume.proceed(resumption, session)
        stop = perform(resumption.prepared, resumption.folder, session)
    return _conclude(resumption.folder, stop, fail_on_violation=options["fail_on_violation"])


def request_of(options: dict[str, Any]) -> Any:
    """Return the request that the options of a campaign make, confirmed where somebody is there to confirm it."""
    from chaoslab import experiment, scenario, scenario_file, share, trust

    source = options["config"] or share.scenario_file()
    file, content_digest = scenario_file.load_with_digest(source)
    chosen = scenario.select(file, suites=options["suites"], names=options["names"], intensity=options["intensity"])
    request = experiment.Request(
        file=file,
        source=source,
        scenarios=chosen,
        target=options["target"],
        environment=options["environment"],
        repeats=options["repeats"],
        duration_scale=options["duration_scale"],
        rate_hz=options["probe_rate"],
        seed=options["seed"],
        confirmed=options["yes"] or options["dry_run"],
        allow_commands=options["allow_commands"] or trust.allows(source, content_digest),
    )
    return _confirmed(request)


def _confirmed(request: Any) -> Any:
    """Ask for the target's name to be typed where a confirmation is needed and somebody is there to type it."""
    from dataclasses import replace

    from chaoslab import experiment
    from chaoslab.plan import redacted

    needed = experiment.needs_confirmation(request)
    if request.confirmed or not needed or not sys.stdin.isatty():
        return request
    name = experiment.name_of(request.target)
    click.echo(f"{', '.join(needed)} will hit {redacted(request.target)}.", err=True)
    typed = click.prompt(f"Type the target's name ({name}) to go on", default="", show_default=False, err=True)
    return replace(request, confirmed=bool(name) and typed.strip() == name)


def announce_privacy(folder: Path) -> None:
    """Say that a folder which others can read will be closed to them."""
    from chaoslab import store

    if store.is_open(folder):
        say(f"{folder} was open to others; a campaign's folder is its owner's alone, so its mode becomes 0700")


def new_folder(suites: tuple[str, ...]) -> Path:
    """Return the folder of a new campaign of `suites`, where none is asked for."""
    name = "-".join(suites) or "campaign"
    return Path("campaigns") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"


def show_rehearsal(prepared: Any, output: Path | None) -> None:
    """Print each command that a campaign would run; nothing is done."""
    from chaoslab import experiment

    click.echo(
        f"DRY RUN: nothing is done to {prepared.where.url}; the campaign would take {prepared.plan.seconds:.0f} s"
    )
    for look in prepared.watch.looks:
        click.echo(f"probe {printable(redact(look.summary))}")
    for run in experiment.rehearse_all(prepared):
        planned = run.planned
        click.echo(
            f"\n{planned.index + 1}. {printable(planned.scenario.name)}, repeat {planned.repeat}: "
            f"{planned.baseline:g} s baseline, {planned.injection:g} s injection ({run.mechanism}), "
            f"{planned.recovery:g} s recovery"
        )
        for step in run.steps:
            click.echo(f"   {printable(redact(step.name))}")
            for what, argv in (("do", step.do), ("evidence", step.evidence), ("undo", step.undo)):
                if argv:
                    click.echo(f"      {what:9} {printable(shlex.join(redact_command(argv)))}")
    if output is not None:
        experiment.record_rehearsal(prepared, output)
        click.echo(f"\n{output} holds the dry run; it cannot be analysed as real")


def perform(prepared: Any, folder: Path, session: Any) -> Exception | None:
    """Run the campaign; return what stopped it, so that what was recorded is still analysed."""
    from chaoslab import experiment, progress
    from chaoslab.errors import ChaoslabError

    with progress.reporter() as report:
        try:
            experiment.perform(prepared, folder, session, report=report)
        except ChaoslabError as stop:
            return stop
    return None


def _conclude(folder: Path, stop: Exception | None, *, fail_on_violation: bool, html: bool = False) -> int:
    """Analyse what was recorded, print it, and return the exit code; what stopped the campaign goes first.

    Whoever interrupted it wants to be gone: they get no page.
    """
    from chaoslab import report
    from chaoslab.cli.analysis import print_analysis
    from chaoslab.errors import Interrupted

    analysis = report.write_all(folder)
    print_analysis(analysis)
    if html and not isinstance(stop, Interrupted):
        click.echo(f"\nreport: {report.write_page(folder).resolve()}")
    else:
        click.echo(f"\ncampaign: {folder}   (`chaoslab report {shlex.quote(str(folder))}` renders it)")
    if stop is not None:
        raise stop
    code: int = analysis.exit_code(fail_on_violation=fail_on_violation)
    return code


@click.command()
@click.option("--build", type=click.Choice(["fragile", "resilient"]), default="fragile", show_default=True)
@click.option("--serve", is_flag=True, help="Keep the shop running for exploring, until interrupted.")
@click.option("--port", default=0, help="Port of the shop on loopback; a free one by default.")
@click.option("--repeats", default=3, show_default=True, help="Runs of each scenario.")
@click.option("--seed", type=int, help="Seed of the order of runs.")
@click.option("--output", type=click.Path(path_type=Path), help="Campaign folder, new or empty.")
@verbose_option
def demo(build: str, serve: bool, port: int, repeats: int, seed: int | None, output: Path | None, **_: Any) -> int:
    """Break the embedded shop (a web service with a PostgreSQL), measure it, and render the report.

    The shop binds loopback only, and nothing of it is left behind however this ends. --serve keeps it running instead.
    """
    if serve:
        return _serve(build, port)
    from chaoslab import experiment, scenario, scenario_file, share, store
    from chaoslab.demo.stage import open_shop

    folder = output or Path("campaigns") / f"{datetime.now():%Y%m%d-%H%M%S}-demo"
    store.require_empty(folder)
    source = share.scenario_file()
    file = scenario_file.load(source)
    name = f"demo-{secrets.token_hex(4)}"
    with experiment.protected(name) as session, open_shop(session, build=build, port=port) as url:
        request = experiment.Request(
            file=file,
            source=source,
            scenarios=scenario.select(file, names=DEMO_SCENARIOS),
            target=url,
            repeats=repeats,
            duration_scale=DEMO_SCALE,
            rate_hz=DEMO_RATE_HZ,
            seed=seed,
            notes={"demo": f"embedded target, {build} build"},
        )
        prepared = experiment.prepare(request)
        click.echo(
            f"breaking the {build} shop at {url}: {len(prepared.plan.runs)} runs, about {prepared.plan.seconds:.0f} s "
            f"(durations scaled by {DEMO_SCALE:g})"
        )
        experiment.begin(prepared, folder, session)
        stop = perform(prepared, folder, session)
    return _conclude(folder, stop, fail_on_violation=False, html=True)


def _serve(build: str, port: int) -> int:
    from chaoslab import experiment
    from chaoslab.demo.stage import open_shop

    name = f"demo-{secrets.token_hex(4)}"
    with experiment.protected(name) as session, open_shop(session, build=build, port=port) as url:
        click.echo(f"the {build} shop runs at {url}   (Ctrl-C stops it)")
        click.echo(f"break it from another terminal:   chaoslab run --target {url} --suite infrastructure_test")
        while True:
            session.interrupts.check()
            session.guardian.check()
            time.sleep(_TICK_SECONDS)
