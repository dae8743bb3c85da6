"""Other machines for tests, on this one: containers made of a static busybox, and an sshd of the test's own.

with container("name", "sleep", "600", options=["--cpus=0.5"]): ...
with sshd(folder) as config: ...        # for CHAOSLAB_SSH_CONFIG; the hosts "here" and "elsewhere" lead to it
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import missing

IMAGE = "chaoslab-test-busybox"

ELSEWHERE = "198.51.100.7"
"""An address of the machine "elsewhere" (RFC 5737: nobody's)."""

SERVER = """
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
PasswordAuthentication no
"""

# "elsewhere" is reached as inetd would do it, by a server of its own for each connection, in a network of its own.
CLIENT = """
Host here
  HostName 127.0.0.1
  Port {port}
Host elsewhere
  ProxyCommand unshare --net sh -c 'ip link set lo up; ip address add {address} dev lo; exec {sshd} -i -f {folder}/sshd'
Host *
  User root
  IdentityFile {folder}/user
  IdentitiesOnly yes
  HostKeyAlias test
  UserKnownHostsFile {folder}/known
  GlobalKnownHostsFile /dev/null
"""


@contextmanager
def container(name: str, *command: str, options: Sequence[str] = ()) -> Iterator[str]:
    """Run an applet of busybox in a container of that name; it is removed at the end, whatever has become of it."""
    make_image()
    _remove(name)
    run = ["docker", "run", "--detach", f"--name={name}", *options, IMAGE, "/bin/busybox", *command]
    subprocess.run(run, check=True, capture_output=True)
    try:
        yield name
    finally:
        _remove(name)


def _remove(name: str) -> None:
    subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


def make_image() -> str:
    """Make the image, and return its name: there is no registry in a test."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        missing("no Docker engine answers: apt-get install docker.io, and start dockerd")
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True).returncode == 0:
        return IMAGE
    busybox = shutil.which("busybox")
    if busybox is None:
        missing("busybox is missing: apt-get install busybox-static")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "root.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(str(busybox), "bin/busybox")
        subprocess.run(["docker", "import", str(archive), IMAGE], check=True, capture_output=True)
    return IMAGE


@contextmanager
def sshd(folder: Path) -> Iterator[Path]:
    """Run an OpenSSH server on loopback, with keys of its own; yield the client's configuration."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin") or ""
    if not program:
        missing("sshd is missing: apt-get install openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "known").write_text(f"test {(folder / 'host.pub').read_text()}")
    (folder / "sshd").write_text(SERVER.format(folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself up before it knows who comes
    port = _free_port()
    config = folder / "config"
    config.write_text(CLIENT.format(folder=folder, port=port, sshd=program, address=ELSEWHERE))
    listening = ["-o", f"ListenAddress=127.0.0.1:{port}"]
    with subprocess.Popen(
        [program, "-D", "-e", "-f", str(folder / "sshd"), *listening], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        assert "listening" in server.stderr.readline()
        try:
            yield config
        finally:
            server.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
