"""What this process asks of collector, allocator and kernel: not to look at what stays, to give memory back, to dump no secret."""

from __future__ import annotations

import ctypes
import gc
import resource
from contextlib import suppress
from pathlib import Path

_YOUNG = 20_000
"""Objects between two collections: a call makes thousands, and hardly any of them in a cycle."""
# <malloc.h> of the GNU C library
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_BLOCK = 128 * 1024


def leave_no_core() -> None:
    """No core dump of this process, nor of those it starts, holds its memory, and so its passwords.

    The limit stops the kernel's own files; a handler that the kernel pipes to is not bound by it, but gets what the filter lets through.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # another kernel, or /proc is not there
        Path("/proc/self/coredump_filter").write_text("0")


def settle(free: int = 4 * _BLOCK) -> None:
    """Call it once, when everything is loaded and before the first call. So many octets may be held that are not in use."""
    gc.collect()
    gc.freeze()  # what was loaded stays: no collection need look at it again
    gc.set_threshold(_YOUNG, 20, 20)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library, with ways of its own
    # Fixed thresholds: the library would raise them to the largest block ever freed, and keep what many calls at once had taken.
    mallopt(_M_MMAP_THRESHOLD, _BLOCK)
    mallopt(_M_TRIM_THRESHOLD, free)
    mallopt(_M_ARENA_MAX, 2)


def give_back() -> None:
    """Return to the kernel what the C library holds free between blocks in use. Takes milliseconds: for a moment without calls."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
