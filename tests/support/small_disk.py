"""A disk that can really be full: a tmpfs of a fixed size that only one process and its children see, gone with them."""

from __future__ import annotations

import errno
import os
import subprocess
from functools import cache
from pathlib import Path

_MOUNTED = 'mount -t tmpfs -o "size=$1,mode=0755" none "$2" && shift 2 && exec "$@"'


def on_disk(folder: Path, size: str) -> list[str]:
    """Runs a command that finds a disk of `size` (as `24m`) at `folder`, which exists."""
    return [*_unshared(), "sh", "-c", _MOUNTED, "sh", size, str(folder)]


def seen_by(pid: int, path: Path) -> Path:
    """A path as the process with this id sees it."""
    return Path(f"/proc/{pid}/root{path}")


def fill(folder: Path) -> Path:
    """Take all the room that is left on the disk of `folder`; the file that holds it."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return path


def _unshared() -> list[str]:
    """A mount namespace of its own; without root one in a user namespace, where that is allowed."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


@cache
def why_not() -> str | None:
    """Why there is no such disk here; None when there is."""
    done = subprocess.run([*_unshared(), "true"], capture_output=True, text=True, timeout=10, check=False)
    return None if done.returncode == 0 else f"no mount namespaces here: {done.stderr.strip()}"
