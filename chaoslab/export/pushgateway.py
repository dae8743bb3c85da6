"""A campaign's metrics pushed to a Prometheus Pushgateway: in one request that replaces what its group held.

Whatever may pass by itself (no connection, no answer in time, 429, 5xx) is tried again; a push is idempotent.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from prometheus_client import CollectorRegistry, push_to_gateway
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from chaoslab.errors import PushFailed, UsageError
from chaoslab.export.prometheus import LABELS
from chaoslab.redaction import redact
from chaoslab.wording import plural

PASSWORD_VARIABLE: Final = "CHAOSLAB_PUSHGATEWAY_PASSWORD"
TIMEOUT: Final = 10.0
RETRIES: Final = 3

_LABEL: Final = re.compile("(?!__)[A-Za-z_][A-Za-z0-9_]*")
_MOST_READ: Final = 2_000
_PASSING: Final = frozenset({429, 500, 502, 503, 504})

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A Pushgateway, and the group that a campaign's metrics are pushed to.

    Attributes:
        url: http or https, without user and password.
        job: value of the label `job`.
        grouping: further labels of the group, such as the environment.
        user, password: for basic authentication; none without a user.
        ca_file: certificates in PEM that vouch for the gateway; those of the system if None.
        timeout: seconds that one attempt may take.
        retries: attempts after the first.

    Raises:
        UsageError: a value that cannot be used, or a file of certificates that cannot be read.
    """

    url: str
    job: str = "chaoslab"
    grouping: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    timeout: float = TIMEOUT
    retries: int = RETRIES

    def __post_init__(self) -> None:
        _check_url(self.url)
        _check_value("job", self.job)
        for name, value in self.grouping.items():
            _check_label(name)
            _check_value(name, value)
        if self.password and not self.user:
            raise UsageError("a password for the Pushgateway without a user; accepted: both, or neither")
        if ":" in self.user:
            raise UsageError(f"the user of the Pushgateway is {self.user!r}; accepted: a name without a colon")
        if not 0 < self.timeout <= 600:
            raise UsageError(f"the time-out of a push is {self.timeout:g} s; accepted: above 0, up to 600")
        if not 0 <= self.retries <= 20:
            raise UsageError(f"the retries of a push are {self.retries}; accepted: 0 to 20")
        _trust(self.ca_file)


def grouping(words: Sequence[str]) -> dict[str, str]:
    """Return the labels that `words` give, each as NAME=VALUE.

    Raises:
        UsageError: one is not of that form, or a name is given twice.

    >>> grouping(["environment=staging", "team=a/b"])
    {'environment': 'staging', 'team': 'a/b'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"the grouping key is {word!r}; accepted: NAME=VALUE, such as environment=staging")
        if name in found:
            raise UsageError(f"the grouping key {name!r} is given twice: {found[name]!r} and {value!r}")
        found[name] = value
    return found


def push(registry: CollectorRegistry, gateway: Gateway, *, tell: Tell = lambda _: None, pause: float = 0.5) -> None:
    """Replace the metrics of the gateway's group by those of `registry`.

    Args:
        tell: told each failure that is followed by another attempt.
        pause: seconds before the second attempt; doubled before each further one.

    Raises:
        PushFailed: the gateway cannot be reached or did not take them.
    """

    def failed(state: RetryCallState) -> None:
        tell(f"{_failure(state)}; trying again in {state.upcoming_sleep:.1f} s")

    attempts = Retrying(
        stop=stop_after_attempt(gateway.retries + 1),
        wait=wait_exponential(multiplier=pause, max=30) + wait_random(0, pause / 2),
        retry=retry_if_exception(_may_pass),
        before_sleep=failed,
        reraise=True,
    )
    try:
        with httpx.Client(verify=_trust(gateway.ca_file), auth=_auth(gateway), timeout=gateway.timeout) as client:
            attempts(
                push_to_gateway,
                gateway.url,
                job=gateway.job,
                registry=registry,
                grouping_key=dict(gateway.grouping),
                timeout=gateway.timeout,
                handler=_handler(client),
            )
    except (httpx.HTTPError, _Refused) as error:
        tried = plural(attempts.statistics.get("attempt_number", 1), "attempt")
        raise PushFailed(
            f"the Pushgateway {gateway.url} did not take the metrics: {_why(error, gateway)} ({tried})"
        ) from error


class _Refused(Exception):
    """An answer that says no."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"it answered {status}" + (f": {words}" if words else ""))
        self.status = status


def _handler(client: httpx.Client) -> Callable[..., Callable[[], None]]:
    """Return what `push_to_gateway` sends its request with."""

    def prepared(url: str, method: str, timeout: float, headers: Any, data: bytes) -> Callable[[], None]:
        def send() -> None:
            ends = time.monotonic() + timeout
            with client.stream(method, url, headers=headers, content=data) as answer:
                words = b""
                if not answer.is_success:
                    for part in answer.iter_bytes():
                        words += part
                        if len(words) > _MOST_READ or time.monotonic() > ends:
                            break
                    raise _Refused(answer.status_code, _shown(words))

        return send

    return prepared


def _shown(words: bytes) -> str:
    """Return the first of what a gateway said, in one line, without secrets."""
    return redact(" ".join(words[:_MOST_READ].decode("utf-8", "replace").split()))[:300]


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, _Refused):
        return error.status in _PASSING
    return isinstance(error, httpx.TransportError) and _certificate_problem(error) is None


def _failure(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome else None
    return f"attempt {state.attempt_number} to push: {error}"


def _why(error: Exception, gateway: Gateway) -> str:
    match error:
        case _Refused(status=401 | 403) if gateway.user:
            return f"{error}; user {gateway.user!r} with that password is not let in"
        case _Refused(status=401 | 403):
            return f"{error}; it wants a user and a password"
        case _Refused():
            return str(error)
        case httpx.TimeoutException():
            return f"no answer within {gateway.timeout:g} s"
    if problem := _certificate_problem(error):
        return f"its certificate is not trusted: {problem}; --pushgateway-ca names who vouches for it"
    return str(error) or type(error).__name__


def _certificate_problem(error: BaseException | None) -> str | None:
    """Return what is wrong with the gateway's certificate, if `error` comes from that."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def _auth(gateway: Gateway) -> httpx.BasicAuth | None:
    return httpx.BasicAuth(gateway.user, gateway.password) if gateway.user else None


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except ssl.SSLError as error:
        raise UsageError(f"{ca_file} holds no certificates; accepted: a file in PEM") from error
    except OSError as error:
        raise UsageError(f"{ca_file} cannot be read: {error.strerror}; accepted: certificates in PEM") from error


def _check_url(url: str) -> None:
    accepted = "accepted: a URL such as http://pushgateway:9091"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"the Pushgateway's URL is {url!r}: {error}; {accepted}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise UsageError(f"the Pushgateway's URL is {url!r}; {accepted}")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            f"the Pushgateway's URL is {url!r}; accepted: one without user, password, query and fragment "
            f"(--pushgateway-user, with the password in {PASSWORD_VARIABLE} or --pushgateway-password-file)"
        )


def _check_label(name: str) -> None:
    if name == "job" or name in LABELS:
        raise UsageError(f"the grouping key {name!r} is taken: it would hide the metrics' own label")
    if not _LABEL.fullmatch(name):
        raise UsageError(f"the grouping key is {name!r}; accepted: letters, digits and underscores")


def _check_value(name: str, value: str) -> None:
    # Empty is "no such label" to Prometheus; a dot or two are eaten by the path that they would stand in.
    if value in ("", ".", "..") or not value.isprintable():
        raise UsageError(f"the label {name} of the push is {value!r}; accepted: a text in one line, not empty, . or ..")
