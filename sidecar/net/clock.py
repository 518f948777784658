"""Where the shell reads its two clocks."""

from __future__ import annotations

import time

from sidecar.clocks import Mono, Wall


def mono() -> Mono:
    """Now, on the monotonic clock. Not the event loop's own time: uvloop's has a resolution of a millisecond."""
    return Mono(time.monotonic())


def wall() -> Wall:
    """Now, for people."""
    return Wall(time.time())
