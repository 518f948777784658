"""The folder in which what is kept of calls grows, never beyond its bound. Runs in the analysis process, far from the media path."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import structlog

log = structlog.get_logger()

UNFINISHED: Final = ".part"


class Writer(Protocol):
    """A file that grows, in one form. Errors of the disk are OSErrors."""

    def most(self, content: bytes) -> int:
        """Octets that the file may grow by when `content` is added."""
        ...

    def add(self, content: bytes) -> None:
        """Take what comes next."""
        ...

    def seal(self) -> None:
        """Write what is still missing for the file to be whole."""
        ...


class Form(Protocol):
    """How one kind of file is begun, and mended after a process that wrote it died."""

    def begin(self, file: BinaryIO) -> Writer:
        """A writer at the beginning of an empty file."""
        ...

    def mend(self, file: BinaryIO) -> None:
        """Make whole what is there of it."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished file."""

    bytes: int
    sha256: str
    cut: bool
    """The folder was full or the disk failed: the end is missing."""


@dataclass(slots=True)
class _Open:
    file: BinaryIO
    path: Path
    writer: Writer
    cut: bool = False
    size: int = field(default=0)


class Folder:
    """One file a name, `<name>.part` while it grows. Where room is short the oldest finished one goes.

    The ending of a name says which of `forms` the file has.
    """

    def __init__(self, folder: Path, most_bytes: int, forms: Mapping[str, Form]) -> None:
        """What an earlier process left unfinished is finished: a call that a crash cut short keeps what was heard of it."""
        self._folder, self._most, self._forms = folder, most_bytes, forms
        self._open: dict[str, _Open] = {}
        self._failed: set[str] = set()
        """Live files that could not begin: begun later, they would not begin with the call."""
        self._used: int | None = None
        """Octets in the folder, at most: what is uploaded and goes meanwhile is noticed when room is short. None: not counted yet."""
        for path in folder.glob(f"*{UNFINISHED}"):
            whole = path.with_name(path.name.removesuffix(UNFINISHED))
            if (form := forms.get(whole.suffix)) is not None:
                self._mend(path, whole, form)

    def append(self, name: str, content: bytes) -> bool:
        """Add to a file; where there is no room left or the disk fails, it ends here and the call goes on. Whether it was added."""
        if name in self._failed:
            return False
        try:
            kept = self._open.get(name) or self._begin(name)
            if kept.cut:
                return False
            if not self._room(kept.writer.most(content)):
                self._cut(name, f"the folder holds {self._most} bytes; raise recordings.max_mb")
                return False
            kept.writer.add(content)
            self._grown(kept)
        except OSError as error:
            self._cut(name, error.strerror or str(error))
            return False
        return True

    def finish(self, name: str) -> Kept | None:
        """Seal a file and give it its name; None where there is none."""
        self._failed.discard(name)
        kept = self._open.pop(name, None)
        if kept is None:
            return None
        whole = kept.path.with_name(name)
        try:
            with kept.file as file:
                kept.writer.seal()
                file.flush()
                os.fsync(file.fileno())
            with kept.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = kept.path.stat().st_size
            kept.path.replace(whole)
        except OSError as error:
            log.error("recording lost", file=name, cause=error.strerror)
            return None
        return Kept(size, digest, kept.cut)

    @staticmethod
    def _mend(path: Path, whole: Path, form: Form) -> None:
        try:
            with path.open("r+b") as file:
                form.mend(file)
            path.replace(whole)
        except OSError as error:  # the next start tries again; calls that begin now are more than what is left of an old one
            log.warning("recording left unfinished", file=path.name, cause=error.strerror or str(error))

    def _begin(self, name: str) -> _Open:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}{UNFINISHED}"
        file = path.open("w+b")
        kept = self._open[name] = _Open(file, path, self._forms[path.with_suffix("").suffix].begin(file))
        self._grown(kept)
        return kept

    def _cut(self, name: str, cause: str) -> None:
        log.warning("recording cut", file=name, cause=cause)
        if name in self._open:
            self._open[name].cut = True
        else:
            self._failed.add(name)

    def _grown(self, kept: _Open) -> None:
        size = kept.file.tell()
        if self._used is not None:
            self._used += size - kept.size
        kept.size = size

    def _room(self, wanted: int) -> bool:
        """Whether so many bytes fit, after the oldest files have gone if need be."""
        if self._used is not None and self._used + wanted <= self._most:
            return True
        growing = {kept.path: kept.size for kept in self._open.values()}
        self._used = used = sum(_size(path) for path in self._folder.iterdir() if path not in growing) + sum(growing.values())
        if used + wanted <= self._most:
            return True
        for path in sorted((path for path in self._folder.iterdir() if path.suffix in self._forms), key=_age):
            size = _size(path)
            path.unlink(missing_ok=True)
            log.warning("recording dropped", file=path.name, cause="the folder is full; raise recordings.max_mb")
            self._used = used = used - size
            if used + wanted <= self._most:
                return True
        return False


def _size(path: Path) -> int:
    """Octets; 0 of a file that was uploaded and went meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _age(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0
