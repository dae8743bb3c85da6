"""Sending what was made of a campaign to a server over HTTP, with patience for what passes by itself.

No connection, no answer in time, 429 and the 5xx of an overload are tried again; what is sent may be sent twice.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from chaoslab.errors import PushFailed, UsageError
from chaoslab.redaction import redact
from chaoslab.wording import plural

TIMEOUT: Final = 10.0
RETRIES: Final = 3

_MOST_READ: Final = 2_000
_PASSING: Final = frozenset({429, 500, 502, 503, 504})

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A server that takes what is sent, and how it is reached.

    Attributes:
        what: how messages name it, such as "the Pushgateway".
        url: http or https, without user and password.
        user, password: for basic authentication; none without a user.
        headers: sent with each request; they may hold secrets.
        ca_file: certificates in PEM that vouch for it; those of the system if None.
        ca_option: what names `ca_file` on the command line.
        timeout: seconds that one attempt may take to connect, and for each part of the answer.
        retries: attempts after the first.

    Raises:
        UsageError: a value that cannot be used, or a file of certificates that cannot be read.
    """

    what: str
    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    ca_option: str
    timeout: float = TIMEOUT
    retries: int = RETRIES

    def __post_init__(self) -> None:
        _check_url(self.url, self.what)
        if self.password and not self.user:
            raise UsageError(f"a password for {self.what} without a user; accepted: both, or neither")
        if ":" in self.user:
            raise UsageError(f"the user of {self.what} is {self.user!r}; accepted: a name without a colon")
        if not 0 < self.timeout <= 600:
            raise UsageError(f"the time-out of a push is {self.timeout:g} s; accepted: above 0, up to 600")
        if not 0 <= self.retries <= 20:
            raise UsageError(f"the retries of a push are {self.retries}; accepted: 0 to 20")
        _trust(self.ca_file)


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"it answered {status}" + (f": {words}" if words else ""))
        self.status = status


def deliver(
    receiver: Receiver, attempt: Callable[[httpx.Client], None], what: str, *, tell: Tell, pause: float
) -> None:
    """Make `attempt` until it ends without an error, or the receiver's retries are used up.

    Args:
        attempt: sends everything by the client that it is given, with `request`.
        what: what is sent, for the message.
        tell: told each failure that is followed by another attempt.
        pause: seconds before the second attempt; doubled before each further one.

    Raises:
        PushFailed: the receiver cannot be reached or did not take it.
    """

    def failed(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        tell(f"attempt {state.attempt_number} to push: {error}; trying again in {state.upcoming_sleep:.1f} s")

    attempts = Retrying(
        stop=stop_after_attempt(receiver.retries + 1),
        wait=wait_exponential(multiplier=pause, max=30) + wait_random(0, pause / 2),
        retry=retry_if_exception(_may_pass),
        before_sleep=failed,
        reraise=True,
    )
    auth = httpx.BasicAuth(receiver.user, receiver.password) if receiver.user else None
    trust = _trust(receiver.ca_file)
    try:
        with httpx.Client(verify=trust, auth=auth, headers=receiver.headers, timeout=receiver.timeout) as client:
            attempts(attempt, client)
    except (httpx.HTTPError, Refused) as error:
        tried = plural(attempts.statistics.get("attempt_number", 1), "attempt")
        why = _why(error, receiver)
        raise PushFailed(f"{receiver.what} {receiver.url} did not take the {what}: {why} ({tried})") from error


def request(client: httpx.Client, method: str, url: str, headers: Mapping[str, str], content: bytes) -> None:
    """Send one request and take the answer.

    Raises:
        Refused: an answer that is no success, with the first of what it says.
        httpx.HTTPError: no answer.
    """
    with client.stream(method, url, headers=headers, content=content) as answer:
        if answer.is_success:
            return
        words, ends = b"", time.monotonic() + (client.timeout.read or TIMEOUT)
        for part in answer.iter_bytes():
            words += part
            if len(words) > _MOST_READ or time.monotonic() > ends:
                break
        raise Refused(answer.status_code, _shown(words))


def _shown(words: bytes) -> str:
    """Return the first of what a server said, in one line, without secrets."""
    return redact(" ".join(words[:_MOST_READ].decode("utf-8", "replace").split()))[:300]


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, Refused):
        return error.status in _PASSING
    return isinstance(error, httpx.TransportError) and _certificate_problem(error) is None


def _why(error: Exception, receiver: Receiver) -> str:
    match error:
        case Refused(status=401 | 403) if receiver.user:
            return f"{error}; user {receiver.user!r} with that password is not let in"
        case Refused(status=401 | 403):
            return f"{error}; it wants a user and a password"
        case Refused():
            return str(error)
        case httpx.TimeoutException():
            return f"no answer within {receiver.timeout:g} s"
    if problem := _certificate_problem(error):
        return f"its certificate is not trusted: {problem}; {receiver.ca_option} names who vouches for it"
    return str(error) or type(error).__name__


def _certificate_problem(error: BaseException | None) -> str | None:
    """Return what is wrong with the server's certificate, if `error` comes from that."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except ssl.SSLError as error:
        raise UsageError(f"{ca_file} holds no certificates; accepted: a file in PEM") from error
    except OSError as error:
        raise UsageError(f"{ca_file} cannot be read: {error.strerror}; accepted: certificates in PEM") from error


def _check_url(url: str, what: str) -> None:
    accepted = "accepted: http or https, a host, and a port, such as http://localhost:9091"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"the URL of {what} is {url!r}: {error}; {accepted}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise UsageError(f"the URL of {what} is {url!r}; {accepted}")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            f"the URL of {what} is {url!r}; accepted: one without user, password, query and fragment "
            "(passwords are read from the environment or a file)"
        )
