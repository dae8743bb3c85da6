"""Where commands run. A host runs argv; that is all it does."""

from __future__ import annotations

from chaoslab.errors import UsageError
from chaoslab.hosts.container import DockerHost
from chaoslab.hosts.local import Completed, Host, LocalHost, Unreachable, placed
from chaoslab.hosts.ssh import SshHost

__all__ = ["Completed", "DockerHost", "Host", "LocalHost", "SshHost", "Unreachable", "host_of", "placed"]


def host_of(name: str) -> Host:
    """Return the host that a scenario names, once it has answered.

    Raises:
        UsageError: no such kind of host, no such container, or a machine that cannot be used.
    """
    if name == LocalHost.name:
        return LocalHost()
    if name.startswith(DockerHost.prefix):
        return DockerHost.found(name)
    if name.startswith(SshHost.prefix):
        return SshHost.reached(name)
    raise UsageError(f"the host {name!r} is not accepted; accepted: local, docker:NAME, ssh://[USER@]HOST[:PORT]")
