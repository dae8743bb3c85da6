"""Frames of our own leave an interface as they were sent, and are known again when a bit of them changes."""

from __future__ import annotations

import json
import subprocess
import sys

from chaoslab.agent import frames
from chaoslab.agent.frames import Volley, cross
from chaoslab.agent.netem import _fates, _kbit


def test_without_an_emulator_all_frames_leave_at_once_and_unchanged(namespace: None) -> None:
    seen = cross("lo", Volley(count=200, size=100, pause=0.0001, patience=0.05))
    assert [frame.number for frame in seen] == list(range(200))
    assert not any(frame.altered for frame in seen)
    assert sorted(frame.delay_ms for frame in seen)[100] < 20


def test_a_frame_with_any_one_bit_changed_is_known_again() -> None:
    mark = b"8 bytes."
    frame = frames._frame(bytes(6), mark, 77, 100)
    for bit in range(len(frame) * 8):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        assert frames._number(bytes(changed), mark) == 77
    assert frames._number(frame, b"another.") is None


def test_fates_are_told_apart() -> None:
    def left(number: int, delay_ms: float, *, altered: bool = False) -> frames.Seen:
        return frames.Seen(number, delay_ms, int(delay_ms * 1e6), altered)

    found = _fates([left(3, 0.1), left(0, 10), left(1, 12, altered=True), left(2, 9), left(2, 11)], 5, early_ms=5)
    assert (found["sent"], found["arrived"], found["twice"], found["altered"], found["early"]) == (5, 4, 1, 1, 1)
    assert (found["delays"], found["delay_ms"]) == (2, 22)
    assert _kbit([left(0, 1), left(1, 2), left(2, 3)], 125) == 1000
    assert _kbit([left(0, 1), left(1, 2)], 125) is None


def test_looks_taken_together_say_what_each_says() -> None:
    looks = [[sys.executable, "-c", f"print('{{\"{name}\": 1}}'); exit({code})"] for name, code in (("a", 0), ("b", 3))]
    command = [sys.executable, "-m", "chaoslab.agent.together", *map(json.dumps, looks)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (json.loads(result.stdout), result.returncode) == ({"a": 1, "b": 1}, 3)
