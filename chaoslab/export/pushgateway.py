"""A campaign's metrics pushed to a Prometheus Pushgateway: in one request that replaces what its group held."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from prometheus_client import CollectorRegistry, push_to_gateway

from chaoslab.errors import UsageError
from chaoslab.export.prometheus import LABELS
from chaoslab.export.sending import Receiver, Tell, deliver, request

PASSWORD_VARIABLE: Final = "CHAOSLAB_PUSHGATEWAY_PASSWORD"

_LABEL: Final = re.compile("(?!__)[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway(Receiver):
    """A Pushgateway, and the group that a campaign's metrics are pushed to.

    Attributes:
        job: value of the label `job`.
        grouping: further labels of the group, such as the environment.

    Raises:
        UsageError: as of `Receiver`, and for a label that cannot be used.
    """

    what: str = "the Pushgateway"
    ca_option: str = "--pushgateway-ca"
    job: str = "chaoslab"
    grouping: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Receiver.__post_init__(self)
        _check_value("job", self.job)
        for name, value in self.grouping.items():
            _check_label(name)
            _check_value(name, value)


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
    """Replace the metrics of the gateway's group by those of `registry`; `tell` and `pause` as in `deliver`.

    Raises:
        PushFailed: the gateway cannot be reached or did not take them.
    """

    def attempt(client: httpx.Client) -> None:
        def handler(url: str, method: str, timeout: float, headers: Any, data: bytes) -> Callable[[], None]:
            return lambda: request(client, method, url, dict(headers), data)

        push_to_gateway(
            gateway.url, gateway.job, registry, grouping_key=dict(gateway.grouping), timeout=None, handler=handler
        )

    deliver(gateway, attempt, "metrics", tell=tell, pause=pause)


def _check_label(name: str) -> None:
    if name == "job" or name in LABELS:
        raise UsageError(f"the grouping key {name!r} is taken: it would hide the metrics' own label")
    if not _LABEL.fullmatch(name):
        raise UsageError(f"the grouping key is {name!r}; accepted: letters, digits and underscores")


def _check_value(name: str, value: str) -> None:
    # Empty is "no such label" to Prometheus; a dot or two are eaten by the path that they would stand in.
    if value in ("", ".", "..") or not value.isprintable():
        raise UsageError(f"the label {name} of the push is {value!r}; accepted: a text in one line, not empty, . or ..")
