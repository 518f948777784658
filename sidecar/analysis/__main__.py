"""The analysis process: reads requests from the descriptor it was given, answers each, ends when the sidecar has closed its end."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from sidecar import logs
from sidecar.analysis.calls import Calls
from sidecar.analysis.recordings import Recordings
from sidecar.analysis.work import LENGTH, packed, unpacked
from sidecar.net.process import settle
from sidecar.speech.neural import Network

log = structlog.get_logger()

NICENESS: Final = 5
"""Where the processors are all taken, calls come first and their figures a little later."""

FREE: Final = 8 << 20
"""A look's packets come and go several times a second: the kernel need not clear their memory each time."""


def main() -> None:
    """Serve until the sidecar is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group: the sidecar drains, and needs us until it has
    os.nice(NICENESS)
    logs.configure()
    with socket.socket(fileno=int(sys.argv[1])) as sock, sock.makefile("rb") as requests:
        calls = Calls(Recordings(Path(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 2 else None, _network)
        settle(FREE)
        sock.sendall(packed(os.getpid()))
        while (body := _frame(requests)) is not None:
            sock.sendall(packed(calls.answer(unpacked(body))))


def _network() -> Network | None:
    """The neural detector's network; without it the call is measured by the default one, and says so."""
    from sidecar.analysis.silero import Silero

    try:
        return Silero()
    except (ImportError, OSError, RuntimeError) as error:
        log.error("accurate measurement not possible", cause=str(error), note="these calls are measured by the default detector")
        return None


def _frame(requests: BinaryIO) -> bytes | None:
    """The body of the next frame; None when the sidecar has gone, also in the middle of one."""
    head = requests.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = requests.read(length)
    return body if len(body) == length else None


if __name__ == "__main__":
    main()
