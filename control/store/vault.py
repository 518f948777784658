"""Secrets at rest: credentials of senders are kept encrypted, with a key from a file that only this user can read.

To change the key, put a new one on the first line of the file and restart: it seals from then on, and those below still open what they
sealed. `cryptography` is loaded when something is first sealed or opened, since it takes a part of the time until ready.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from control.config import ControlConfig
from control.errors import StartupError
from control.store.dialect import sqlite_file

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

_KEY_BYTES = 32


class Vault:
    """Encrypts with the first of its keys and decrypts with any, or refuses when there is none. Raises ValueError for what is no key."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if len(base64.b64decode(key, altchars=b"-_", validate=True)) != _KEY_BYTES:
                raise ValueError("a Fernet key has 32 bytes")
        self._keys = tuple(keys)

    @cached_property
    def _fernet(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self._keys])

    def seal(self, secret: str) -> bytes:
        """The encrypted form of `secret`. Raises ValueError when there is no key."""
        if not self._keys:
            raise ValueError("no secret_key_file")
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes | None) -> str | None:
        """The secret, or None for none and for one that a key which is not here sealed."""
        if sealed is None or not self._keys:
            return None
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            return None


def open_vault(config: ControlConfig) -> Vault:
    """The vault of `config`. Raises StartupError when a key is needed and cannot be had."""
    path = config.secret_key_file
    if path is None:
        file = sqlite_file(config.database)
        if file is None:
            if config.evaluator.key is None or any(token.evaluator is not None for token in config.tokens):
                raise StartupError(
                    "secret_key_file: needed with PostgreSQL while evaluator.api_key is null or a token has its own, to keep keys encrypted"
                )
            return Vault(())
        path = file.with_name(f"{file.name}.key")
        _make(path)
    try:
        keys = path.read_bytes().split()
        if not keys:
            raise ValueError("no key")
        return Vault(keys)
    except OSError as error:
        raise StartupError(f"secret_key_file: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise StartupError(f"secret_key_file: {path} holds no Fernet key (32 bytes, URL-safe base64), or a line that is none") from None


def _make(path: Path) -> None:
    """Make the key file unless it is there. It appears whole or not at all."""
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
        finally:
            fresh.unlink()
    except OSError as error:
        raise StartupError(f"secret_key_file: {path} cannot be made: {error.strerror}") from None
