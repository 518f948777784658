"""A Containerfile read as its instructions, and its build stages carried out in throw-away roots over this machine's own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BASE = ""
"""The name of what stages with an image as their base stand on: this machine's own root."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, continuation lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments: of a JSON form its items, else the shell's words."""
        return [str(item) for item in json.loads(self.text)] if self.text.startswith("[") else shlex.split(self.text)


@dataclass
class Stage:
    """From one FROM to the next."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, name: str) -> Instruction | None:
        """The instruction of this kind that counts."""
        return next((each for each in reversed(self.instructions) if each.name == name), None)


def read(file: Path) -> tuple[list[Instruction], list[Stage]]:
    """What stands before the first FROM, and the stages."""
    before: list[Instruction] = []
    stages: list[Stage] = []
    for instruction in _instructions(file.read_text(encoding="utf-8")):
        if instruction.name == "FROM":
            base, word, name = instruction.words
            assert word.upper() == "AS", f"a stage without a name: {instruction.text}"
            stages.append(Stage(name, base))
        elif stages:
            stages[-1].instructions.append(instruction)
        else:
            before.append(instruction)
    return before, stages


def _instructions(text: str) -> Iterator[Instruction]:
    joined = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not (joined or line.strip()):
            continue
        joined += line.rstrip("\\") if line.endswith("\\") else line
        if not line.endswith("\\"):
            name, _, rest = joined.strip().partition(" ")
            yield Instruction(name.upper(), rest.strip())
            joined = ""


def lineage(stages: list[Stage], name: str) -> list[Stage]:
    """The stages that `name` stands on, the lowest first, and itself."""
    known = {stage.name: stage for stage in stages}
    found = [known[name]]
    while found[0].base in known:
        found.insert(0, known[found[0].base])
    return found


class Script:
    """A shell script that carries stages out. It must be run in a mount namespace of its own: nothing of it is left behind."""

    def __init__(self, context: Path) -> None:
        """`context` is the build context."""
        self._context = context
        self._lines = ["set -eu", "mount -t tmpfs none /mnt", "umask 022"]
        self._made: dict[str, list[str]] = {}

    def stage(self, stage: Stage) -> None:
        """Build one stage; those that it stands on or copies from come first."""
        lower = self._made.get(stage.base, [])
        self._root(stage.name, lower)
        env = {"PATH": f"{sys.base_prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        folder = "/"
        for instruction in stage.instructions:
            match instruction.name:
                case "RUN":
                    self.run(stage.name, f"cd {folder} && {instruction.text}", env)
                case "COPY":
                    self._copy(stage.name, instruction.words, folder)
                case "ENV":
                    for word in instruction.words:
                        key, _, value = word.partition("=")
                        env[key] = value.replace("$PATH", env["PATH"])
                case "WORKDIR":
                    folder = instruction.text
                    self.run(stage.name, f"mkdir -p {folder}", env)
                case _:
                    pass

    def run(self, stage: str, command: str, env: dict[str, str]) -> None:
        """A shell command inside a stage's root."""
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in {**_pip(), **env}.items())
        self._lines.append(f"chroot /mnt/{stage}/root env -i {settings} /bin/sh -euc {shlex.quote(command)}")

    def outside(self, command: str) -> None:
        """A shell command of the script itself; /mnt/STAGE/root is a stage's root."""
        self._lines.append(command)

    def carry_out(self, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run it; its standard output and error as they came."""
        command = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", "\n".join(self._lines)]
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)

    def _root(self, name: str, lower: list[str]) -> None:
        upper = f"/mnt/{name}/upper"
        layers = ":".join([*lower, "/"])
        self._made[name] = [upper, *lower]
        self._lines += [
            f"mkdir -p {upper} /mnt/{name}/work /mnt/{name}/root",
            f"mount -t overlay overlay -o lowerdir={layers},upperdir={upper},workdir=/mnt/{name}/work /mnt/{name}/root",
            f"mount --bind /proc /mnt/{name}/root/proc",
            f"mount --rbind /dev /mnt/{name}/root/dev",
            f"mount -t tmpfs none /mnt/{name}/root/tmp",
        ]
        # This machine's interpreter stands in for the image's, and may lie where only root looks.
        for folder in [Path(os.path.realpath(sys.base_prefix)), *Path(os.path.realpath(sys.base_prefix)).parents]:
            self._lines.append(f"chmod o+rx /mnt/{name}/root{folder}")

    def _copy(self, stage: str, words: list[str], folder: str) -> None:
        source = str(self._context)
        if words[0].startswith("--from="):
            source = f"/mnt/{words.pop(0).removeprefix('--from=')}/root"
        *names, target = words
        place = f"/mnt/{stage}/root" + (target if target.startswith("/") else f"{folder}/{target}")
        self._lines.append(f"mkdir -p {place if target.endswith('/') else Path(place).parent}")
        self._lines += [f"cp -a {source}/{name.lstrip('/')} {place}" for name in names]


def _pip() -> dict[str, str]:
    """How this machine reaches its package index."""
    return {key: value for key, value in os.environ.items() if key.startswith("PIP_") or key.lower().endswith("_proxy")}


def why_not() -> str | None:
    """Why stages cannot be carried out here; None when they can."""
    if os.geteuid() != 0:
        return "not root: throw-away roots need mounts"
    probe = (
        "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/r && mount -t overlay o -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r"
    )
    done = subprocess.run(["unshare", "--mount", "/bin/sh", "-c", probe], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no overlay file system here: {done.stderr.strip()}"
