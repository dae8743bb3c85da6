"""`chaoslab ci`: a campaign as a pipeline runs it, from setting up to cleaning up."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chaoslab.cli import completion, printable, verbose_option
from chaoslab.cli.experiment import announce_privacy, campaign_options, new_folder, perform, request_of, show_rehearsal
from chaoslab.cli.export import require_folder, write
from chaoslab.cli.github import Speak, quiet_runner
from chaoslab.cli.options import baselines_folder
from chaoslab.cli.outcome import Outcome, tell_stage
from chaoslab.errors import ChaoslabError, NotDelivered, NotReverted
from chaoslab.redaction import redact
from chaoslab.stages import Stages

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis
    from chaoslab.comparison import Comparison
    from chaoslab.deployment import Deployed, Deployment
    from chaoslab.experiment import Prepared, Request, Session
    from chaoslab.store import Campaign

DEFAULT_SUITE: Final = "smoke_test"
SERVICE_LOG: Final = "service.log"
_OUTCOMES: Final[dict[str, Any]] = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
_ANSWERS: Final[dict[str, Any]] = {"better": "passed", "same": "passed", "worse": "failed"}


@click.command()
@campaign_options
@click.option("--start", metavar="COMMAND", help="Shell command that starts the service; it is ended afterwards.")
@click.option("--ready", metavar="URL", help="Answers with a success once the service is ready; --target's by default.")
@click.option("--ready-timeout", default=60.0, show_default=True, help="Seconds that the service has to become ready.")
@click.option("--stop", metavar="COMMAND", help="Ends what --start leaves elsewhere, such as containers.")
@click.option("--grace", default=10.0, show_default=True, help="Seconds that the service has to end by itself.")
@click.option(
    "--baseline",
    metavar="NAME",
    shell_complete=completion.baselines,
    help="Stored baseline, or campaign's folder, to compare with.",
)
@click.option("--fail-on-regression", is_flag=True, help="Exit 1 when something is worse, 3 when it is inconclusive.")
@click.option(
    "--junit", type=click.Path(path_type=Path), help="JUnit XML; junit.xml in the campaign's folder by default."
)
@click.option("--page/--no-page", default=True, show_default=True, help="Render report.html, which takes some seconds.")
@baselines_folder
@verbose_option
def ci(**options: Any) -> int:
    """Run a campaign as a pipeline does: setup, deploy_service, chaos_injection, resilience_validation,
    performance_comparison, cleanup, summary.

    Each stage has its own time and outcome. Cleanup comes always, also after a signal: what --start has started is
    ended with all that it has started. Beside the campaign's files the folder gets junit.xml, ci_summary.md,
    pipeline.json and service.log; on GitHub the summary also goes to the step, with annotations.

    The suite is smoke_test unless --suite or --scenario names others. What could not be judged is skipped in the JUnit
    file, and a failure there with --fail-on-violation, as for the exit code.
    """
    return _Pipeline(options).run()


@dataclass(slots=True)
class _Pipeline:
    """One run of the stages; what one stage finds, later ones use."""

    options: dict[str, Any]
    stages: Stages = field(default_factory=lambda: Stages(tell=tell_stage))
    baseline: Campaign | None = None
    folder: Path | None = None
    service: Deployed | None = None
    stop: Exception | None = None
    analysis: Analysis | None = None
    comparison: Comparison | None = None

    def run(self) -> int:
        """Run the stages, tell what became of them, and return the exit code; what stopped them goes first."""
        with quiet_runner() as speak:
            try:
                self._work()
            except ChaoslabError as error:
                self._stopped(error)
            finally:
                self._summarise(speak)
        if self.stop is not None:
            raise self.stop
        return self._exit_code()

    def _stopped(self, error: ChaoslabError) -> None:
        """Remember what decides the exit code: what is still broken, else what came first."""
        if self.stop is None or (isinstance(error, NotReverted) and not isinstance(self.stop, NotReverted)):
            self.stop = error

    def _work(self) -> None:
        with self.stages.stage("setup"):
            request, deployment = self._setup()
        if self.options["dry_run"]:
            self.stages.why_skipped = "a dry run"
            self._rehearse(request)
        else:
            self._act(request, deployment)

    def _setup(self) -> tuple[Request, Deployment | None]:
        """Check all that can be checked before anything is started."""
        from chaoslab.baselines import find
        from chaoslab.store import require_empty

        options = self.options
        if options["target"] is None:
            raise click.UsageError("Missing option '--target'.")
        if options["start"] is None and (given := [name for name in ("ready", "stop") if options[name]]):
            raise click.UsageError(f"--{given[0]} goes with --start, the command that starts the service")
        if not options["suites"] and not options["names"] and options["intensity"] is None:
            options["suites"] = (DEFAULT_SUITE,)
        if options["junit"] is not None and options["junit"].parent != options["output"]:
            require_folder(options["junit"], "--junit")
        if options["output"] is not None:
            require_empty(options["output"])
            announce_privacy(options["output"])
        if options["baseline"] is not None:
            self.baseline = find(options["baseline"], folder=options["baselines"])
        request: Request = request_of(options)
        return request, self._deployment(request) if options["start"] else None

    def _rehearse(self, request: Request) -> None:
        from chaoslab import experiment

        start = self.options["start"]
        if start:
            click.echo(f"would start: {printable(redact(start))}")
        try:
            prepared = experiment.prepare(request)
        except NotDelivered as refusal:
            if not start:
                raise
            click.echo(f"cannot be told before the service runs: {printable(str(refusal))}")
        else:
            show_rehearsal(prepared, self.options["output"])

    def _act(self, request: Request, deployment: Deployment | None) -> None:
        from chaoslab import experiment

        lab = ExitStack()
        try:
            with self.stages.stage("deploy_service") as note:
                session = lab.enter_context(experiment.protected(f"ci-{secrets.token_hex(6)}"))
                prepared, note.detail = self._deploy(request, deployment, session, lab)
                if self.service is None:
                    note.outcome = "skipped"
            with self.stages.stage("chaos_injection") as note:
                note.detail = self._inject(prepared, session)
                if self.stop is not None:
                    note.outcome, note.detail = _ended(self.stop), str(self.stop)
            with self.stages.stage("resilience_validation") as note:
                note.outcome, note.detail = self._judge()
            with self.stages.stage("performance_comparison") as note:
                note.outcome, note.detail = self._compare()
        except ChaoslabError as error:
            self._stopped(error)
        finally:
            with self.stages.stage("cleanup") as note:
                note.detail = self._cleanup(lab)

    def _deploy(
        self, request: Request, deployment: Deployment | None, session: Session, lab: ExitStack
    ) -> tuple[Prepared, str]:
        from chaoslab import experiment
        from chaoslab.deployment import deployed

        detail = "nothing to start: the target is there"
        if deployment is not None:
            self.service = lab.enter_context(deployed(session, deployment))
            detail = "the service is ready"
        prepared = experiment.prepare(request)
        experiment.require_answer(prepared)
        return prepared, detail

    def _deployment(self, request: Request) -> Deployment:
        from chaoslab.deployment import Deployment
        from chaoslab.plan import probe_url

        options = self.options
        return Deployment(
            start=options["start"],
            ready=options["ready"] or probe_url(request.target, request.file.monitoring.health_check.endpoint),
            patience=options["ready_timeout"],
            stop=options["stop"] or "",
            grace=options["grace"],
        )

    def _inject(self, prepared: Prepared, session: Session) -> str:
        from chaoslab import experiment
        from chaoslab.wording import plural

        folder = self.options["output"] or new_folder(self.options["suites"])
        experiment.begin(prepared, folder, session)
        self.folder = folder
        self.stop = perform(prepared, folder, session)
        return f"{plural(len(prepared.plan.runs), 'run')} of {plural(len(prepared.faults), 'scenario')}"

    def _judge(self) -> tuple[Any, str]:
        from chaoslab import report
        from chaoslab.cli.analysis import print_analysis
        from chaoslab.export import narrative

        assert self.folder is not None
        self.analysis = report.write_all(self.folder)
        print_analysis(self.analysis)
        return _OUTCOMES[self.analysis.outcome], narrative.headline(self.analysis)

    def _compare(self) -> tuple[Any, str]:
        from chaoslab import report
        from chaoslab.cli.compare import print_comparison
        from chaoslab.comparison import compare
        from chaoslab.store import Campaign

        if self.baseline is None:
            return "skipped", "no --baseline was given"
        if self.stop is not None:
            return "skipped", "the campaign did not run to its end"
        assert self.folder is not None
        self.comparison = compare(self.baseline, Campaign.open(self.folder))
        report.write_comparison(self.comparison, self.folder)
        print_comparison(self.comparison)
        return _ANSWERS.get(self.comparison.answer, "inconclusive"), self.comparison.headline()

    def _cleanup(self, lab: ExitStack) -> str:
        ended = None if self.service is None else self.service.ended
        log = "" if self.service is None else self.service.log()
        try:
            lab.close()
        finally:
            if self.folder is not None and log:
                with suppress(ChaoslabError):
                    write(self.folder / SERVICE_LOG, redact(log))
        reverted = "everything was reverted"
        return reverted if ended is None else f"{reverted}; what started the service had ended before, with {ended}"

    def _page(self) -> str:
        """Render the page, unless somebody wants to be gone; return where it is."""
        from chaoslab.errors import Interrupted

        unwanted = isinstance(self.stop, Interrupted) or not self.options["page"]
        if self.folder is None or self.analysis is None or unwanted:
            return ""
        from chaoslab import report

        return f"{report.write_page(self.folder)}"

    def _summarise(self, speak: Speak) -> None:
        try:
            with self.stages.stage("summary") as note:
                note.detail = self._page()
        except ChaoslabError as error:
            self._stopped(error)
        finally:
            for unwritten in self._outcome().tell(speak):
                self._stopped(unwritten)

    def _outcome(self) -> Outcome:
        options = self.options
        return Outcome(
            stages=self.stages.all,
            analysis=self.analysis,
            comparison=self.comparison,
            folder=self.folder,
            junit=None if options["dry_run"] else options["junit"],
            strict=options["fail_on_violation"],
        )

    def _exit_code(self) -> int:
        """Return what the verdicts and the comparison end with; what is shown goes before what is undecided."""
        codes = []
        if self.analysis is not None:
            codes.append(self.analysis.exit_code(fail_on_violation=self.options["fail_on_violation"]))
        if self.comparison is not None:
            codes.append(self.comparison.exit_code(fail_on_regression=self.options["fail_on_regression"]))
        return next((code for code in (6, 5, 4, 1, 3) if code in codes), 0)


def _ended(stop: Exception) -> Any:
    from chaoslab.errors import Interrupted

    return "interrupted" if isinstance(stop, Interrupted) else "failed"
