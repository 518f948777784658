"""The machine that is measured on: cores, CPU time and memory of a process tree, and what else was running beside it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE = CORES[0]
"""The load tools' core."""
TEST_CORE = CORES[-1]
"""The core of what is measured; the same one where there is only one."""
_TICK = os.sysconf("SC_CLK_TCK")


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """`command`, to be started on one core."""
    return ["taskset", "--cpu-list", str(core), *command]


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(entry)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        at = todo.pop()
        found.append(at)
        todo += children.get(at, [])
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that these processes have used, over all their threads that still live."""
    return sum(_thread_seconds(thread) for pid in pids for thread in _threads(pid))


class Thread(NamedTuple):
    """A thread, and the seconds that it has used outside of the kernel and within."""

    name: str
    user: float
    system: float


def threads(pids: Sequence[int]) -> dict[int, Thread]:
    """The threads of these processes that still live, by their id."""
    found: dict[int, Thread] = {}
    for folder in (thread for pid in pids for thread in _threads(pid)):
        try:
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue
        if fields := _stat(folder):
            found[int(folder.name)] = Thread(name, int(fields[11]) / _TICK, int(fields[12]) / _TICK)
    return found


def memory_kb(pids: Sequence[int]) -> int:
    """Memory of these processes: what they share is counted once (the proportional set size)."""
    return sum(_rollup(pid) for pid in pids)


def core_busy_seconds(core: int) -> float:
    """How long a core has been busy since the start of the machine."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *figures = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, *_ = map(int, figures)
            return (user + nice + system + irq + softirq) / _TICK
    return 0.0


@dataclass(frozen=True, slots=True)
class Used:
    """What a stretch of time cost. Seconds."""

    cpu: float
    foreign: float
    """Time that the test core spent on something else than the system under test."""


class Meter:
    """CPU of one process tree between two instants."""

    def __init__(self, pid: int) -> None:
        self._pids = tree(pid)
        self.start()

    def start(self) -> None:
        """Count from now."""
        self._cpu, self._busy = cpu_seconds(self._pids), core_busy_seconds(TEST_CORE)

    def read(self) -> Used:
        """What was used since."""
        cpu = cpu_seconds(self._pids) - self._cpu
        return Used(cpu, max(0.0, core_busy_seconds(TEST_CORE) - self._busy - cpu))


def describe() -> str:
    """The machine in one line."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    kernel = platform.release().split("-")[0]
    load = os.getloadavg()[0]
    # Distributions build Python with profile-guided optimisation, and one that somebody built may be a quarter slower without it.
    whose = f"{platform.freedesktop_os_release()['NAME']}'s" if sys.base_prefix == "/usr" else "not the distribution's"
    python = f"Python {platform.python_version()} ({whose})"
    return f"{len(CORES)} cores of {model}, Linux {kernel}, {python}, load average {load:.1f} at the start"


def version(command: Sequence[str]) -> str:
    """The first line that has a digit of what a program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if any(c.isdigit() for c in line)), "?")


def _stat(folder: Path) -> list[str]:
    """The fields of a process's or a thread's stat behind the name: state, parent, …; none when it is gone."""
    try:
        return (folder / "stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _thread_seconds(thread: Path) -> float:
    try:
        return int((thread / "schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        pass
    fields = _stat(thread)
    return (int(fields[11]) + int(fields[12])) / _TICK if fields else 0.0


def _rollup(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
