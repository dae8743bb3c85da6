"""Standard output and error that outlive whoever reads them.

A terminal that is closed, or a pipe whose other end goes away, must not decide how a campaign ends: what nobody reads
is let go.
"""

from __future__ import annotations

import errno
import io
import sys
from typing import Any, Final, TextIO

_NOBODY_READS: Final = (errno.EIO, errno.EPIPE)


class _Tolerant(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                raise
            return memoryview(data).nbytes


def tolerate_closed_ends() -> None:
    """Replace this process's own streams; those that somebody else has put in their place stay."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _tolerant(stream))


def _tolerant(stream: TextIO) -> TextIO:
    stream.flush()
    raw = _Tolerant(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream is sys.__stderr__ or stream.isatty(),
        write_through=stream is sys.__stderr__,
    )
