"""Signals are noted when they come and acted on where it is safe."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from chaoslab.errors import Interrupted
from chaoslab.interrupts import SIGNALS, Interrupts


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_work_with_its_own_exit_code(signum: int, code: int) -> None:
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signum)
        with pytest.raises(Interrupted) as ended:
            interrupts.check()
    assert ended.value.exit_code == code


def test_nothing_is_raised_between_checks_however_often_signals_come() -> None:
    with Interrupts() as interrupts:
        for signum in SIGNALS * 3:
            os.kill(os.getpid(), signum)
        assert interrupts.signum == signal.SIGINT


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_off_the_main_thread_it_does_no_harm() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with Interrupts() as interrupts:
                interrupts.check()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
