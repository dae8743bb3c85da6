"""Frames of our own, sent through an emulator and seen again as they leave it: what it does to each is then known.

They carry the EtherType that IEEE 802 sets aside for experiments, and are addressed to the interface that sends them,
so that no service and no other machine has to do with them. A packet socket sees what leaves an interface behind its
queues. Each frame repeats its number, so that it is known again with any one bit changed.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

ETHERTYPE: Final = 0x88B5

# What the socket module has no names for; the numbers are those of most of Linux's architectures.
_ETH_P_ALL: Final = 3
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35
_LIKE_ETHERNET: Final = (1, 772)  # ARPHRD_ETHER, ARPHRD_LOOPBACK
_COPIES: Final = 4
_STAMP: Final = struct.Struct("!8sI")
_LEAST_BYTES: Final = 14 + _COPIES * _STAMP.size
_ROOM: Final = 16 * 1024**2
_ROOM_FOR_ONE: Final = 65_535
_ROOM_FOR_TIME: Final = 64
# Classic BPF (bpf(4)): load the protocol, accept the frame if it is ours, else nothing of it.
_ONLY_OURS: Final = ((0x28, 0, 0, 0xFFFFF000), (0x15, 0, 1, ETHERTYPE), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Volley:
    """So many frames of so many bytes, each `pause` seconds after the last; `patience` is waited for the last ones."""

    count: int
    size: int
    pause: float
    patience: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame as it left: its number, after how many milliseconds, when (ns), and whether it was changed."""

    number: int
    delay_ms: float
    at_ns: int
    altered: bool


def cross(interface: str, volley: Volley) -> list[Seen]:
    """Send a volley by `interface` and return what left, in the order in which it left; a frame may do so twice.

    Raises:
        OSError: no such interface, or no permission.
    """
    mark = os.urandom(8)
    with _tap(interface) as tap, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((interface, 0))
        address = _address(sender)
        frames = [_frame(address, mark, number, volley.size) for number in range(volley.count)]
        sent = list(_send(sender, frames, volley.pause))
        received = _receive(tap, volley.patience)
    return [
        Seen(number, (at - sent[number]) / 1e6, at, data != frames[number])
        for data, at in received
        if (number := _number(data, mark)) is not None and number < volley.count
    ]


def _address(sender: socket.socket) -> bytes:
    interface, _, _, kind, address = sender.getsockname()
    if kind not in _LIKE_ETHERNET:
        raise OSError(f"{interface} takes no frames as Ethernet does")
    return bytes(address)


def _frame(address: bytes, mark: bytes, number: int, size: int) -> bytes:
    head = address + address + struct.pack("!H", ETHERTYPE) + _STAMP.pack(mark, number) * _COPIES
    return head.ljust(max(size, _LEAST_BYTES), b"\x55")


def _number(frame: bytes, mark: bytes) -> int | None:
    """Return the number that most copies in a frame agree on, or None where the frame is not of this volley."""
    copies = _STAMP.iter_unpack(frame[14:_LEAST_BYTES])
    found = Counter(number for ours, number in copies if ours == mark).most_common(1)
    return found[0][0] if found else None


def _send(sender: socket.socket, frames: Sequence[bytes], pause: float) -> Iterator[int]:
    due = time.monotonic()
    for frame in frames:
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        yield time.clock_gettime_ns(time.CLOCK_REALTIME)
        with suppress(BlockingIOError):  # a queue that is full has dropped it, which is for the counting to say
            sender.send(frame)
        due += pause


def _receive(tap: socket.socket, patience: float) -> list[tuple[bytes, int]]:
    """Return the frames that left, each with its time (ns): what left already, and what does within `patience`."""
    found: list[tuple[bytes, int]] = []
    deadline = time.monotonic() + patience
    while True:
        # Once the time is over, what has left by then is still read.
        tap.settimeout(max(0.0, deadline - time.monotonic()))
        try:
            data, ancillary, _, (_, _, kind, *_) = tap.recvmsg(_ROOM_FOR_ONE, _ROOM_FOR_TIME)
        except (TimeoutError, BlockingIOError):
            return found
        if kind == socket.PACKET_OUTGOING:
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            found.append((data, seconds * 10**9 + nanoseconds))


@contextmanager
def _tap(interface: str) -> Iterator[socket.socket]:
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _ONLY_OURS)
    buffer = ctypes.create_string_buffer(program)
    # Protocol 0 until the filter is in place: nothing else may get in before.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as tap:
        attached = struct.pack("HL", len(_ONLY_OURS), ctypes.addressof(buffer))
        tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
        tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        tap.bind((interface, _ETH_P_ALL))
        yield tap
