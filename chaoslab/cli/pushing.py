"""The options of what `chaoslab export` sends: metrics to a Prometheus Pushgateway, a trace to a receiver of OTLP."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaoslab.errors import UsageError

if TYPE_CHECKING:
    from chaoslab.export.pushgateway import Gateway
    from chaoslab.export.sending import Receiver

_OPTIONS = (
    click.option("--push", is_flag=True, help="Push the Prometheus metrics to a Pushgateway."),
    click.option("--pushgateway-url", metavar="URL", envvar="CHAOSLAB_PUSHGATEWAY_URL", help="Where the gateway is."),
    click.option("--job-name", metavar="NAME", default="chaoslab", show_default=True, help="Label `job` of the push."),
    click.option("--grouping", metavar="NAME=VALUE", multiple=True, help="A further label of the push; repeatable."),
    click.option(
        "--pushgateway-user",
        metavar="NAME",
        default="",
        help="For basic authentication, with the password in CHAOSLAB_PUSHGATEWAY_PASSWORD or in a file.",
    ),
    click.option(
        "--pushgateway-password-file", type=click.Path(path_type=Path), help="Its first line is the password."
    ),
    click.option("--pushgateway-ca", type=click.Path(path_type=Path), help="Certificates (PEM) to trust instead."),
    click.option(
        "--otlp-endpoint",
        metavar="URL",
        help="Send the campaign as a trace by OTLP over HTTP (needs chaoslab[otel]); headers and certificates are "
        "those of OTEL_EXPORTER_OTLP_HEADERS and OTEL_EXPORTER_OTLP_CERTIFICATE.",
    ),
    click.option("--push-timeout", metavar="SECONDS", type=float, default=10.0, show_default=True),
    click.option("--push-retries", metavar="N", type=int, default=3, show_default=True),
)
_NAMES = ("pushgateway_url", "pushgateway_user", "pushgateway_password_file", "pushgateway_ca", "grouping")


def push_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a push; `gateway_of` makes them a gateway."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def gateway_of(options: dict[str, Any]) -> Gateway | None:
    """Return the gateway that the options ask to push to, checked; None without --push.

    Raises:
        UsageError: an option that cannot be used, or a file that cannot be read.
    """
    if not options["push"]:
        _refuse_idle(options)
        return None
    if not options["pushgateway_url"]:
        raise UsageError("--push without --pushgateway-url; accepted: a URL such as http://pushgateway:9091")
    from chaoslab.export.pushgateway import Gateway, grouping

    return Gateway(
        url=options["pushgateway_url"],
        job=options["job_name"],
        grouping=grouping(options["grouping"]),
        user=options["pushgateway_user"],
        password=_password(options["pushgateway_user"], options["pushgateway_password_file"]),
        ca_file=options["pushgateway_ca"],
        timeout=options["push_timeout"],
        retries=options["push_retries"],
    )


def trace_receiver_of(options: dict[str, Any]) -> Receiver | None:
    """Return where the options ask to send a trace, checked; None without --otlp-endpoint.

    Raises:
        UsageError: an option that cannot be used, or the extra is not installed.
    """
    if options["otlp_endpoint"] is None:
        return None
    from chaoslab.export import traces

    return traces.receiver(options["otlp_endpoint"], timeout=options["push_timeout"], retries=options["push_retries"])


def _refuse_idle(options: dict[str, Any]) -> None:
    """Raise UsageError for an option of a push that nobody asked for; a URL from the environment is no question."""
    context = click.get_current_context()
    for name in _NAMES:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')} without --push; accepted: both, or neither")


def _password(user: str, file: Path | None) -> str:
    from chaoslab import redaction
    from chaoslab.export.pushgateway import PASSWORD_VARIABLE

    # Whoever keeps the variable set may still push to a gateway that asks nobody.
    kept = os.environ.get(PASSWORD_VARIABLE, "") if user else ""
    password = kept if file is None else _first_line(file)
    if user and not password:
        raise UsageError(f"--pushgateway-user without a password; accepted: it in {PASSWORD_VARIABLE} or in a file")
    redaction.learn({"password": password})
    return password


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as lines:
            found = lines.readline(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UsageError(f"--pushgateway-password-file {file} cannot be read: {reason}") from error
    if not found:
        raise UsageError(f"--pushgateway-password-file {file}: its first line is empty; accepted: the password")
    return found
