"""The webhook's files: certificate and template are read again when they change, since both are renewed while control runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

from control.inject.template import Template, load_template

log = structlog.get_logger()

LOOK_EVERY_S = 10.0

Mark = tuple[tuple[int, int, int], ...]


class Followed:
    """The template of a file, as it is now."""

    def __init__(self, file: Path) -> None:
        """Raises ValueError with one line when the file cannot be used."""
        self._file = file
        self._mark = _look(file)
        self._template = load_template(file)

    def current(self) -> Template:
        """The template; one that cannot be used leaves the last good one in force."""
        try:
            if (mark := _look(self._file)) != self._mark:
                self._mark = mark
                self._template = load_template(self._file)
                log.info("template renewed", file=str(self._file))
        except ValueError as error:
            log.warning("template not renewed", cause=str(error))
        return self._template


class Certificates:
    """A server's TLS context over a certificate and its key. Connections made after `refresh` see the new certificate."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises ValueError with one line when the files cannot be used."""
        self._files = (certificate, key)
        self._mark = _look(*self._files)
        self.context = self._read()

    def refresh(self) -> bool:
        """Take changed files into use; returns whether it did. Files that cannot be used (half written) leave the old ones in force."""
        try:
            mark = _look(*self._files)
            if mark == self._mark:
                return False
            self._read()  # on a context of its own first: a failed load leaves the live one as it was
            self.context.load_cert_chain(*self._files)
        except (ValueError, OSError) as error:
            log.warning("webhook certificate not renewed", cause=str(error))
            return False
        self._mark = mark
        log.info("webhook certificate renewed", file=str(self._files[0]))
        return True

    async def follow(self) -> None:
        """Look at the files from time to time, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.refresh()

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            why = error.strerror or str(error)
            raise ValueError(f"certificate {self._files[0]} and key {self._files[1]} cannot be used: {why}") from None
        return context


def _look(*files: Path) -> Mark:
    """What tells a file from its successor. A mounted Secret or ConfigMap changes its files at once, by a link."""
    try:
        seen = [file.stat() for file in files]
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from None
    return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in seen)
