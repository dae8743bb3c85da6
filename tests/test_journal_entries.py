"""Every entry of a journal says who, when, in which boot; an intent says what is touched and how that stood before."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chaoslab.agent import namespaces, processes
from chaoslab.agent.processes import Identity, boot_id
from chaoslab.cli import main
from chaoslab.conformance import prepare
from chaoslab.errors import NotReverted
from chaoslab.faults.victims import VICTIM
from chaoslab.hosts import LocalHost
from chaoslab.journal import Journal, Step, leftovers
from chaoslab.journal_lines import line
from chaoslab.undo import undo, undo_all
from tests.conform import IN_A_NAMESPACE
from tests.faults.trials import HERE, NAMESPACED, TRIALS
from tests.journals import disown, rewrite
from tests.test_journal import touching

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


def test_every_entry_says_who_wrote_it_when_and_in_which_boot(tmp_path: Path) -> None:
    journal, step = Journal.create("j"), touching(tmp_path / "a")
    journal.intend("r", step, prior={"exit_code": 0, "seen": {"status": "running"}})
    undo(step, run="r", journal=journal, host=LocalHost())
    entries = list(journal.entries())
    assert [entry["sequence"] for entry in entries] == [1, 2, 3, 4]
    assert [entry["phase"] for entry in entries] == ["opened", "intent", "undo_started", "undone"]
    for entry in entries:
        assert entry["boot_id"] == boot_id()
        assert {"run", "step", "wall", "monotonic_us", "writer"} <= set(entry)
    assert set(entries[0]["owner"]) == {"pid", "start_ticks", "token"}
    assert entries[1]["prior"] == {"exit_code": 0, "seen": {"status": "running"}}
    assert entries[1]["overdue_us"] > entries[1]["monotonic_us"]


# What each mechanism says of the thing that it touches: enough to find it by hand.
TOUCHED = {
    "cpu_stress": {"host", "processes_of", "beside"},
    "memory_stress": {"host", "processes_of", "beside"},
    "disk_stress": {"host", "processes_of", "beside"},
    "container_crash by docker": {"container", "id", "pid", "restart_policy"},
    "container_crash by process": {"host", "victim", "pid", "start_ticks", "boot_id"},
    "container_crash by supervised process": {"host", "victim", "pid", "start_ticks", "boot_id"},
    "database_outage by docker": {"container", "id", "pid", "restart_policy"},
    "database_outage by pg_ctl": {"host", "data_directory", "address", "pid"},
    "database_outage by commands": {"host", "database"},
    "database_outage by frozen server": {"host", "victim", "pid", "start_ticks", "boot_id"},
    "database_outage by control": {"database_of", "kind"},
    "database_outage by port cut": {"host", "network_namespace", "packets", "rules"},
    "packet_loss by nftables": {"host", "network_namespace", "packets", "rules"},
    "packet_loss by iptables": {"host", "network_namespace", "packets", "rules"},
    "network_partition by nftables": {"host", "network_namespace", "packets", "rules"},
    "network_partition by iptables": {"host", "network_namespace", "packets", "rules"},
    "dns_failure": {"host", "network_namespace", "packets", "rules"},
    "network_latency by tcp proxy": {"proxy", "toxic"},
    "packet_loss by tcp proxy": {"proxy", "toxic"},
    "network_partition by tcp proxy": {"proxy", "toxic"},
    "http_fault": {"proxy", "toxic"},
}


def touched(name: str) -> list[dict[str, object]]:
    """What the steps of one mechanism say that they touch, through JSON as a journal has it."""
    with TRIALS[name]() as trial:
        return [json.loads(json.dumps(step.touches)) for step in prepare(trial).steps]


@pytest.mark.parametrize("name", HERE)
def test_a_mechanism_says_what_exactly_it_touches(name: str) -> None:
    (keys,) = [keys for start, keys in TOUCHED.items() if name.startswith(start)]
    *_, last = touched(name)
    assert set(last) == keys
    assert all(last.values())


def test_so_do_those_that_change_the_network() -> None:
    code = (
        "import json; from tests.test_journal_entries import touched;"
        f"print(json.dumps([touched(name) for name in {list(NAMESPACED)}]))"
    )
    shown = subprocess.run([*IN_A_NAMESPACE, sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for name, steps in zip(NAMESPACED, json.loads(shown.stdout), strict=True):
        (keys,) = [keys for start, keys in TOUCHED.items() if name.startswith(start)]
        for one in steps:
            assert set(one) == keys
            assert one["network_namespace"] not in ("", namespaces.own())


# Recovery, by hand, of what another process left.


def abandoned(step: Step, *, boot: str = "", prior: dict[str, object] | None = None) -> Journal:
    """A journal whose owner is dead, in this boot or another one, with one step still open."""
    journal = Journal.create(f"dead-{step.token}")
    journal.intend("r", step, prior=prior)
    disown(journal)
    # The boot of the entries, not that within the commands: whoever changes that shall have to say so.
    rewrite(journal, lambda entry: line(entry | ({"boot_id": boot} if boot else {})))
    return Journal(journal.path)


def run(*argv: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(list(argv))
    return ended.value.code


def test_recover_shows_what_is_touched_and_how_it_was_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = replace(touching(tmp_path / "a"), touches={"container": "web", "restart_policy": "always"})
    abandoned(step, prior={"exit_code": 0, "seen": {"status": "running"}})
    assert run("recover", "--list") == 0
    printed = capsys.readouterr().out
    assert "touches: container web, restart_policy always" in printed
    assert "prior: exit_code 0, seen {'status': 'running'}" in printed
    assert run("recover", "--list", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["touches"] == {"container": "web", "restart_policy": "always"}
    assert found["prior"]["seen"] == {"status": "running"}
    assert found["this_boot"] is True


# After a reboot.


def freeze_of(identity: Identity, boot: str) -> Step:
    which = (str(identity.pid), str(identity.start_ticks), "--boot", boot, "--mark", "reboot-test")
    return Step(
        name="freeze", do=(*VICTIM, "freeze", *which), undo=(*VICTIM, "thaw", *which), token="reboot", deadline=60
    )


def test_a_process_of_another_boot_is_never_touched_and_its_freeze_counts_as_undone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        stranger = processes.identify(process.pid)
        assert stranger is not None
        stranger.send(19)  # stopped by whoever has that pid, and that very start time, in this boot
        # What was noted of the freeze lies in a folder that outlives a reboot on many machines.
        ledger = Path("/tmp/chaoslab-frozen-reboot-test")
        ledger.write_text(f"{stranger.pid} {stranger.start_ticks}\n")
        abandoned(freeze_of(stranger, OTHER_BOOT), boot=OTHER_BOOT)
        assert run("recover", "--list") == 0
        assert "(before the last reboot)" in capsys.readouterr().out
        assert run("recover") == 0
        assert Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        assert not ledger.exists()
        process.kill()
    assert not leftovers()


@pytest.mark.parametrize("command", ["kill --signal KILL", "stop --grace 1", "freeze --mark t"])
def test_a_victim_of_another_boot_is_not_hit(command: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        stranger = processes.identify(process.pid)
        assert stranger is not None
        action, *options = command.split()
        argv = [*VICTIM, action, str(stranger.pid), str(stranger.start_ticks), "--boot", OTHER_BOOT, *options]
        ended = subprocess.run(argv, capture_output=True, text=True)
        assert ended.returncode == 1
        assert "was of another boot" in ended.stderr
        assert stranger.alive
        assert Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        process.kill()


def test_a_service_that_was_killed_before_a_reboot_is_started_where_there_is_a_command_for_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    start = ["sh", "-c", f"sleep 60 & echo $! > {file}; wait"]
    back = [*VICTIM, "back", "--pid-file", str(file), "--victim", "1", "1", "--boot", OTHER_BOOT, "--patience", "9"]
    assert subprocess.run(back).returncode == 0  # nobody to start it, and nothing of this boot to wait for
    assert not file.exists()
    assert subprocess.run([*back, "--start", *start]).returncode == 0
    found = processes.identify(int(file.read_text()))
    assert found is not None
    found.send(9)


@pytest.mark.parametrize("name", ["nftables", "iptables"])
def test_rules_and_processes_of_another_boot_are_gone_and_count_as_undone(name: str) -> None:
    code = (
        "from tests.faults.trials import TRIALS; from chaoslab.conformance import prepare;"
        "from tests.test_journal_entries import abandoned, OTHER_BOOT; from chaoslab.undo import undo_all;"
        "from chaoslab.hosts import LocalHost; from dataclasses import replace\n"
        f"with TRIALS['network_partition by {name}']() as trial:\n"
        "    for step in prepare(trial).steps:\n"
        "        journal = abandoned(step, boot=OTHER_BOOT)\n"
        "        undo_all(journal, LocalHost())\n"
        "        assert not journal.open_steps()\n"
    )
    ended = subprocess.run([*IN_A_NAMESPACE, sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_claim_of_another_boot_is_earlier_whatever_its_clock_says(tmp_path: Path) -> None:
    old = Journal.create("old")
    old.intend("r", touching(tmp_path / "a"), claims=["database of x"])
    rewrite(old, lambda entry: line(entry | {"boot_id": OTHER_BOOT, "monotonic_us": 2**60}))
    new = Journal.create("new")
    new.intend("r", touching(tmp_path / "b"), claims=["database of x"])
    assert new.rival("r", new.open_steps()[0].step) == "old has the database of x"


# Another network namespace.


def test_what_was_done_in_another_network_namespace_is_not_taken_for_undone_from_here(tmp_path: Path) -> None:
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo in; exec sleep 60"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        namespace = str(Path(f"/proc/{holder.pid}/ns/net").readlink())
        step = replace(touching(tmp_path / "a"), touches={"network_namespace": namespace})
        journal = abandoned(step)
        with pytest.raises(NotReverted, match=r"another network namespace: nsenter --net=/proc/\d+/ns/net chaoslab"):
            undo_all(journal, LocalHost())
        assert journal.open_steps()
        holder.kill()
    undo_all(journal, LocalHost())  # nobody is in it any more: it has gone, and all that was in it
    assert not journal.open_steps()
