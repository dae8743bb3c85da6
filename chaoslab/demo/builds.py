"""The builds of the shop: the same service, with and without what keeps a service up when its database goes."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from chaoslab.errors import UsageError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a service deals with its database; times are seconds.

    `pool_timeout` is how long a request waits for a connection, and `reconnect_timeout` how long the pool's own
    back-off (1 s, doubled each time) goes on before a request starts a new one. `answer_timeout` bounds each of the
    `attempts` at one operation; None waits for ever. With `check_connections` a connection is tried before it is used;
    with `answers_from_memory` the last orders read are served when the database is gone.
    """

    name: str
    pool_timeout: float
    reconnect_timeout: float
    answer_timeout: float | None
    attempts: int
    check_connections: bool
    answers_from_memory: bool


# Fragile is what many services are: a pool, taken as it comes. Only its patience is shorter than psycopg_pool's own,
# with which each request would hang for 30 s, and the service stay away for as long again as its database was gone.
_FRAGILE: Final = Build(
    name="fragile",
    pool_timeout=1.0,
    reconnect_timeout=10.0,
    answer_timeout=None,
    attempts=1,
    check_connections=False,
    answers_from_memory=False,
)
_RESILIENT: Final = Build(
    name="resilient",
    pool_timeout=0.15,
    reconnect_timeout=0.5,
    answer_timeout=0.5,
    attempts=2,
    check_connections=True,
    answers_from_memory=True,
)
BUILDS: Final = MappingProxyType({build.name: build for build in (_FRAGILE, _RESILIENT)})


def find(name: str) -> Build:
    """Return the build called `name`.

    Raises:
        UsageError: there is none.
    """
    try:
        return BUILDS[name]
    except KeyError:
        accepted = ", ".join(BUILDS)
        raise UsageError(f"there is no build {name!r}{nearest(name, BUILDS)}; accepted: {accepted}") from None
