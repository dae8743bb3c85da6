"""container_crash: the victim, known by pid and start time, is really gone or frozen, and it comes back."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaoslab.agent import process_table, processes
from chaoslab.agent.search import read_pid_file
from chaoslab.demo.premises import Premises
from chaoslab.errors import NotDelivered, NotReverted, ScenarioFileError
from chaoslab.faults.container_crash import ChosenProcess, DockerContainer, SupervisedProcess
from chaoslab.journal import Journal
from chaoslab.targets import Target
from chaoslab.undo import undo
from tests.faults import kit
from tests.faults.conftest import inspect
from tests.faults.kit import HOST, deliver, do, read, scenario, surroundings
from tests.faults.trials import SUPERVISOR
from tests.test_processes import until

# A server with workers: it listens, forks two that do nothing, and says so.
SERVER = """
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for _ in range(2):
    if os.fork() == 0:
        time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server with two workers, and its port."""
    port = free_port()
    argv = [sys.executable, "-c", SERVER, str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process, port
        os.killpg(process.pid, signal.SIGKILL)


def states(pid: int) -> list[str]:
    """The state of a process and of its descendants."""
    return [member.state for member in process_table.family(process_table.look(), pid)]


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Target]:
    file = tmp_path / "pid"
    supervisor = processes.spawn([sys.executable, "-c", SUPERVISOR, str(file)], token="supervised-test")
    until(lambda: read_pid_file(file) is not None)
    yield Target(url="http://127.0.0.1:1", name="sleeper", build="", pid_file=str(file))
    processes.end_family("supervised-test")
    supervisor.wait()


# The process that the target published.


def test_a_supervised_process_is_killed_and_comes_back(supervised: Target) -> None:
    before = read_pid_file(Path(supervised.pid_file))
    (dose,) = deliver(SupervisedProcess(), scenario("container_crash"), surroundings(supervised), seconds=0.1)
    assert (dose.asked, dose.delivered, dose.ok) == (1, 1, True)
    after = read_pid_file(Path(supervised.pid_file))
    assert before is not None
    assert after is not None
    assert not before.alive
    assert after.alive


def test_a_supervised_process_is_frozen_and_goes_on(supervised: Target) -> None:
    before = read_pid_file(Path(supervised.pid_file))
    (dose,) = deliver(SupervisedProcess(), scenario("container_crash", action="pause"), surroundings(supervised), 0.3)
    assert dose.ok
    assert "frozen" in dose.mechanism
    assert read_pid_file(Path(supervised.pid_file)) == before
    assert before is not None
    assert states(before.pid) == ["S"]


def test_a_target_that_published_nothing_is_refused() -> None:
    assert "published" in str(SupervisedProcess().obstacle(scenario("container_crash"), surroundings()))


def test_a_stale_pid_file_is_refused_before_anything_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text("1 123456789")
    target = Target(url="http://127.0.0.1:1", name="stale", build="", pid_file=str(file))
    with pytest.raises(NotDelivered, match="no living process"):
        SupervisedProcess().inject(scenario("container_crash"), surroundings(target), seconds=1, token="t")


def test_the_embedded_shops_service_can_be_a_victim_and_its_supervisor_cannot(shop: tuple[Premises, Target]) -> None:
    premises, target = shop
    where = surroundings(target)
    assert SupervisedProcess().obstacle(scenario("container_crash"), where) is None
    port = int(target.url.rpartition(":")[2])
    assert ChosenProcess().obstacle(scenario("container_crash", port=port, recovery="policy"), where) is None
    supervisor = scenario("container_crash", process=f"demo serve .*{premises.path}", recovery="policy")
    assert "the target hangs on it" in str(ChosenProcess().obstacle(supervisor, where))
    assert "chaoslab's own" in str(ChosenProcess().obstacle(supervisor, surroundings()))


# A process that the scenario names.


def test_a_process_found_by_its_port_is_killed_and_started_again_when_the_time_is_over(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "pid"
    code = SERVER.replace("print(", f"open({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n'); print(")
    argv = [sys.executable, "-c", code, str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        asked = scenario("container_crash", port=port, start_command=argv)
        where = surroundings(allow_commands=True)
        injection = ChosenProcess().inject(asked, where, seconds=1, token="t")
        assert f"kill of process {process.pid} of " in injection.steps[0].name
        assert "-c" in injection.steps[0].name
        os.killpg(process.pid, signal.SIGSTOP)  # its workers hold the port too: they must go for it to be free
        for worker in process_table.family(process_table.look(), process.pid)[1:]:
            os.kill(worker.pid, signal.SIGKILL)
        os.kill(process.pid, signal.SIGCONT)
        (dose,) = deliver(ChosenProcess(), asked, where, seconds=0.3)
    assert dose.ok
    assert "start command" in dose.mechanism
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    started = int(log.read_text().split()[1])
    assert started != process.pid
    assert process_table.token(started) is None
    os.killpg(started, signal.SIGKILL)


def test_a_start_command_that_fails_is_a_failed_undo_with_its_own_last_words(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        file = tmp_path / "pid"
        file.write_text(f"{sleeper.pid}\n")
        asked = scenario("container_crash", pid_file=str(file), start_command=["sh", "-c", "echo no disk >&2; exit 3"])
        (step,) = ChosenProcess().inject(asked, surroundings(allow_commands=True), seconds=1, token="t").steps
        do(step)
        sleeper.wait()
        result = HOST.run(step.undo, timeout=10)
    assert result.exit_code == 1
    assert "ended with 3: no disk" in result.stderr


def test_a_process_that_comes_back_too_soon_is_no_outage(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with subprocess.Popen(["sleep", "60"]) as sleeper, subprocess.Popen(["sleep", "60"]) as other:
        file.write_text(str(sleeper.pid))
        asked = scenario("container_crash", pid_file=str(file), start_command=["false"])
        injection = ChosenProcess().inject(asked, surroundings(allow_commands=True), seconds=1, token="t")
        readings = [read(injection.steps[0])]
        do(injection.steps[0])
        readings += kit.wait_for_effect(injection, *readings)
        file.write_text(str(other.pid))
        readings.append(read(injection.steps[0]))
        (dose,) = injection.doses(readings)
        assert (dose.delivered, dose.ok) == (0.0, False)
        other.kill()


def test_a_graceful_stop_asks_first_and_ends_what_does_not_listen(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    willing = deaf.replace("SIG_IGN", "SIG_DFL")
    for code, expected in ((willing, signal.SIGTERM), (deaf, signal.SIGKILL)):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            file = tmp_path / "pid"
            file.write_text(str(process.pid))
            options = {"action": "stop", "grace_seconds": 1, "recovery": "policy"}
            asked = scenario("container_crash", pid_file=str(file), **options)
            do(ChosenProcess().inject(asked, surroundings(), seconds=1, token="t").steps[0])
            assert process.wait() == -expected


# Asked to end, it takes a second to say farewell.
SLOW = """
import signal, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[2], "w"), time.sleep(1), sys.exit()))
print("ready", flush=True)
while True:
    time.sleep(60)
"""


def test_a_victim_that_is_still_dying_when_it_is_undone_is_not_taken_for_the_service(tmp_path: Path) -> None:
    port, asked_to_end = free_port(), tmp_path / "asked to end"
    argv = [sys.executable, "-c", SLOW, str(port), str(asked_to_end)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        asked = scenario("container_crash", port=port, action="stop", grace_seconds=3, start_command=argv)
        injection = ChosenProcess().inject(asked, surroundings(allow_commands=True), seconds=1, token="dying")
        (step,) = injection.steps
        journal = Journal.create("j")
        journal.intend("r", step)
        HOST.hold(step.do, token=step.token)
        until(asked_to_end.exists, seconds=10)
        undo(step, run="r", journal=journal, host=HOST)
        (found,) = process_table.listeners(process_table.look(), port)
        assert found.pid != process.pid
        process.wait(timeout=5)
    found.identity.send(signal.SIGKILL)


def test_a_pause_freezes_the_whole_family_and_lets_all_of_it_go_on(server: tuple[subprocess.Popen[str], int]) -> None:
    process, port = server
    asked = scenario("container_crash", port=port, action="pause")
    injection = ChosenProcess().inject(asked, surroundings(), seconds=1, token="test-family")
    do(injection.steps[0])
    assert states(process.pid) == ["T", "T", "T"]
    assert read(injection.steps[0]).data["frozen"] == 3
    assert HOST.run(injection.steps[0].undo, timeout=10).ok
    assert "T" not in states(process.pid)
    (dose,) = deliver(ChosenProcess(), asked, surroundings(), seconds=0.3)
    assert dose.ok
    assert "T" not in states(process.pid)


def test_workers_whose_head_died_while_all_were_frozen_go_on_too(server: tuple[subprocess.Popen[str], int]) -> None:
    process, port = server
    workers = [member.pid for member in process_table.family(process_table.look(), process.pid)[1:]]
    asked = scenario("container_crash", port=port, action="pause")
    (step,) = ChosenProcess().inject(asked, surroundings(), seconds=1, token="test-orphans").steps
    do(step)
    process.kill()
    process.wait()
    assert [process_table.look()[pid].state for pid in workers] == ["T", "T"]
    assert HOST.run(step.undo, timeout=10).ok
    assert "T" not in [process_table.look()[pid].state for pid in workers]
    assert HOST.run(step.undo, timeout=10).ok


def test_what_somebody_else_has_stopped_is_not_ours_to_freeze(server: tuple[subprocess.Popen[str], int]) -> None:
    process, port = server
    worker = process_table.family(process_table.look(), process.pid)[1]
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: "T" in states(process.pid))
    obstacle = ChosenProcess().obstacle(scenario("container_crash", port=port, action="pause"), surroundings())
    assert "stopped already, by somebody else" in str(obstacle)


def test_a_server_with_workers_is_one_victim_and_strangers_of_one_pattern_are_refused_and_listed(
    server: tuple[subprocess.Popen[str], int],
) -> None:
    _, port = server
    asked = scenario("container_crash", process=rf"create_server.*{port}", action="pause")
    assert ChosenProcess().obstacle(asked, surroundings()) is None
    with subprocess.Popen(["sleep", "61.5"]) as one, subprocess.Popen(["sleep", "61.5"]) as other:
        asked = scenario("container_crash", process=r"^sleep 61\.5$", action="pause")
        obstacle = str(ChosenProcess().obstacle(asked, surroundings()))
        one.kill()
        other.kill()
    assert "not one but 2" in obstacle
    assert f"{one.pid} of root: sleep 61.5" in obstacle or f"{one.pid} of " in obstacle
    assert f"{other.pid} of " in obstacle


def by_pid(tmp_path: Path, pid: int) -> str:
    file = tmp_path / "pid"
    file.write_text(f"{pid}\n")
    asked = scenario("container_crash", pid_file=str(file), recovery="policy")
    return str(ChosenProcess().obstacle(asked, surroundings()))


def test_what_must_never_be_a_victim_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "chaoslab itself runs below it" in by_pid(tmp_path, os.getpid())
    assert "everything runs below it" in by_pid(tmp_path, 1)
    kernel = next((one.pid for one in process_table.look().values() if one.is_kernel_thread), None)
    if kernel is not None:
        assert "a thread of the kernel" in by_pid(tmp_path, kernel)
    own = processes.spawn(["sleep", "60"], token="test-own")
    assert "chaoslab's own" in by_pid(tmp_path, own.pid)
    processes.end_family("test-own")
    own.wait()
    assert "no living process" in by_pid(tmp_path, own.pid)


def test_a_pid_file_older_than_its_process_names_another_one(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        file = tmp_path / "pid"
        file.write_text(f"{sleeper.pid}\n")
        assert read_pid_file(file) is not None
        hour_ago = time.time() - 3600
        os.utime(file, (hour_ago, hour_ago))
        assert read_pid_file(file) is None
        sleeper.kill()


def test_a_pid_that_was_reused_is_not_hit() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        true = processes.identify(sleeper.pid)
        assert true is not None
        impostor = (str(sleeper.pid), str(true.start_ticks - 1), "--boot", processes.boot_id())
        argv = [sys.executable, "-m", "chaoslab.agent.victim"]
        for command in (["kill", *impostor, "--signal", "KILL"], ["freeze", *impostor, "--mark", "test-reused"]):
            result = subprocess.run([*argv, *command], capture_output=True, text=True)
            assert result.returncode == 1
            assert "gone already" in result.stderr
        assert sleeper.poll() is None
        sleeper.kill()


def test_the_undo_of_what_was_never_done_is_fine_and_touches_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        file = tmp_path / "pid"
        file.write_text(str(sleeper.pid))
        for more in ({"action": "pause"}, {"start_command": ["touch", str(tmp_path / "started")]}):
            asked = scenario("container_crash", pid_file=str(file), **more)
            (step,) = (
                ChosenProcess().inject(asked, surroundings(allow_commands=True), seconds=1, token="test-undone").steps
            )
            assert HOST.run(step.undo, timeout=10).ok
        assert states(sleeper.pid) == ["S"]
        assert not (tmp_path / "started").exists()
        sleeper.kill()


def test_a_port_on_which_nobody_listens_is_refused() -> None:
    asked = scenario("container_crash", port=free_port(), action="pause")
    assert "nobody listens" in str(ChosenProcess().obstacle(asked, surroundings()))


def test_a_process_here_is_refused_when_the_target_is_elsewhere() -> None:
    asked = scenario("container_crash", port=1, action="pause")
    assert "allow_other_host" in str(ChosenProcess().obstacle(asked, surroundings(local=False)))


def test_a_start_command_needs_leave_to_run_commands() -> None:
    asked = scenario("container_crash", port=1, start_command=["true"])
    assert "--allow-commands" in str(ChosenProcess().obstacle(asked, surroundings()))


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"pid_file": "/x", "port": 1}, "name two victims"),
        ({"container": "a", "port": 1}, "name two victims"),
        ({"port": 1}, "nothing would bring the process back"),
        ({"port": 1, "recovery": "us"}, "needs a start_command"),
        ({"port": 1, "recovery": "policy", "start_command": ["x"]}, "exclude each other"),
        ({"container": "a", "start_command": ["x"]}, "started by Docker"),
        ({"container": "a", "action": "pause", "recovery": "policy"}, "does not go with action: pause"),
        ({"container": "a", "action": "restart", "recovery": "us"}, "brings it back at once"),
        ({"port": 1, "action": "restart"}, "is for a container"),
        ({"container": "a", "action": "stop", "signal": "INT"}, "signal goes with action: kill"),
        ({"container": "a", "signal": "SIGSTOP"}, "use action: pause"),
        ({"container": "a", "signal": "NOPE"}, "not a signal"),
        ({"process": "(", "action": "pause"}, "not a regular expression"),
        ({"port": 70_000, "action": "pause"}, "less than or equal to 65535"),
    ],
)
def test_bad_input_is_refused_when_the_file_is_read(parameters: dict[str, object], complaint: str) -> None:
    with pytest.raises(ScenarioFileError, match=complaint):
        scenario("container_crash", **parameters)


@pytest.mark.parametrize("given", [15, "TERM", "sigterm"])
def test_a_signal_may_be_given_by_name_or_number(given: object) -> None:
    assert scenario("container_crash", container="a", signal=given).parameters.signal == "TERM"  # type: ignore[attr-defined]


# A container.


@pytest.mark.parametrize("policy", ["no", "always"])
def test_a_container_is_killed_and_runs_again_with_and_without_a_restart_policy(
    run_container: Callable[..., str], policy: str
) -> None:
    container = run_container(f"--restart={policy}")
    (dose,) = deliver(DockerContainer(), scenario("container_crash", container=container), surroundings(), seconds=0.5)
    assert dose.ok
    assert ("its restart policy" if policy == "always" else "restarted by Docker") in dose.mechanism
    assert inspect(container, "Status") == "running"


@pytest.mark.parametrize(
    ("asked", "ends"),
    [
        ({"action": "pause"}, False),
        ({"action": "stop", "grace_seconds": 0}, True),
        ({"action": "kill", "signal": "KILL", "recovery": "us"}, True),
    ],
    ids=lambda value: str(value),
)
def test_an_outage_of_a_container_lasts_until_we_bring_it_back(
    run_container: Callable[..., str], asked: dict[str, object], ends: bool
) -> None:
    container = run_container("--restart=always")
    wanted = scenario("container_crash", container=container, **asked)
    (dose,) = deliver(DockerContainer(), wanted, surroundings(), seconds=0.3)
    assert dose.ok
    assert dose.unit == "s"
    assert inspect(container, "Status") == "running"
    assert (inspect(container, "FinishedAt") > "1970") == ends


def test_a_container_that_was_removed_meanwhile_is_a_failed_undo_with_the_reason(
    run_container: Callable[..., str],
) -> None:
    container = run_container()
    asked = scenario("container_crash", container=container, action="pause")
    (step,) = DockerContainer().inject(asked, surroundings(), seconds=1, token="t").steps
    journal = Journal.create("removed")
    journal.intend("kit", step)
    do(step)
    subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)
    with pytest.raises(NotReverted, match="was removed meanwhile, and cannot be brought back"):
        undo(step, run="kit", journal=journal, host=HOST)
    journal.path.unlink()


def test_a_container_that_would_go_with_its_end_is_refused_but_may_be_paused(run_container: Callable[..., str]) -> None:
    container = run_container("--rm")
    stop = scenario("container_crash", container=container, action="stop")
    assert "made with --rm" in str(DockerContainer().obstacle(stop, surroundings()))
    pause = scenario("container_crash", container=container, action="pause")
    assert DockerContainer().obstacle(pause, surroundings()) is None


def test_a_policy_that_is_not_there_is_refused_with_the_command_that_sets_it(run_container: Callable[..., str]) -> None:
    container = run_container()
    asked = scenario("container_crash", container=container, recovery="policy")
    obstacle = str(DockerContainer().obstacle(asked, surroundings()))
    assert f"docker update --restart=always {container}" in obstacle


def test_a_container_that_does_not_run_is_refused(run_container: Callable[..., str]) -> None:
    container = run_container()
    subprocess.run(["docker", "pause", container], check=True, capture_output=True)
    obstacle = DockerContainer().obstacle(scenario("container_crash", container=container), surroundings())
    assert "is paused, not running" in str(obstacle)


def test_a_container_that_does_not_exist_is_refused_and_those_that_run_are_named(image: str) -> None:
    obstacle = DockerContainer().obstacle(scenario("container_crash", container="none-such"), surroundings())
    assert "there is no container 'none-such'; running:" in str(obstacle)


def test_without_an_engine_docker_is_refused_and_nothing_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    obstacle = DockerContainer().obstacle(None, surroundings())
    gc.collect()  # a socket left open would warn now, and a warning is an error
    assert "does not answer at unix:///nonexistent: No such file" in str(obstacle)
    assert "start dockerd" in str(obstacle)


def test_an_undo_that_no_engine_answers_cannot_tell_and_is_no_success() -> None:
    argv = [sys.executable, "-W", "error", "-m", "chaoslab.agent.container", "up", "x"]
    result = subprocess.run(
        argv, env={**os.environ, "DOCKER_HOST": "unix:///nonexistent"}, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "does not answer" in result.stderr
    assert "ResourceWarning" not in result.stderr


def test_an_engine_that_accepts_and_says_nothing_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        monkeypatch.setattr("chaoslab.agent.container._FIRST_ANSWER_SECONDS", 0.1)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/socket")
        assert "does not answer" in str(DockerContainer().obstacle(None, surroundings()))


def test_a_container_that_is_still_stopping_when_it_is_undone_is_started_again(
    run_container: Callable[..., str],
) -> None:
    name = run_container()  # its sleep, as a first process, does not listen to TERM: Docker waits for the grace
    asked = scenario("container_crash", container=name, action="stop", grace_seconds=2, recovery="us")
    (step,) = DockerContainer().inject(asked, surroundings(), seconds=1, token="stopping").steps
    journal = Journal.create("j")
    journal.intend("r", step)
    HOST.hold(step.do, token=step.token)
    time.sleep(1.0)  # the request is with the engine, and its sender is cut off
    before = inspect(name, "StartedAt")
    undo(step, run="r", journal=journal, host=HOST)
    time.sleep(1.5)
    assert inspect(name, "Status") == "running"
    assert inspect(name, "StartedAt") != before


def test_a_container_that_docker_lets_wait_before_its_next_try_is_not_waited_for(
    run_container: Callable[..., str],
) -> None:
    name = run_container("--restart=always")
    last = "0"
    for _ in range(7):  # each death doubles what Docker waits, from 0.1 s on: in the end it is 6.4 s
        until(lambda: inspect(name, "Pid") not in ("0", last), seconds=30)  # noqa: B023 - called at once
        last = inspect(name, "Pid")
        os.kill(int(last), signal.SIGKILL)
    until(lambda: inspect(name, "Status") == "restarting", seconds=10)
    began = time.monotonic()
    ended = HOST.run((sys.executable, "-m", "chaoslab.agent.container", "up", name), timeout=20)
    assert ended.ok, ended.problem
    assert time.monotonic() - began < 5.0
    assert inspect(name, "Status") == "running"


def test_a_containers_look_is_data_that_tells_one_life_from_the_next(run_container: Callable[..., str]) -> None:
    container = run_container()
    argv = [sys.executable, "-m", "chaoslab.agent.container", "look", container]
    before = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    subprocess.run(["docker", "restart", "--time=0", container], check=True, capture_output=True)
    after = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert before["status"] == after["status"] == "running"
    assert before["started_at"] != after["started_at"]
