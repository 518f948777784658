"""Secrets at rest: credentials of senders are kept encrypted, with a key from a file that only this user can read."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from control.config import ControlConfig
from control.errors import StartupError
from control.store.dialect import sqlite_file


class Vault:
    """Encrypts and decrypts with one key, or refuses when there is none."""

    def __init__(self, key: bytes | None) -> None:
        self._fernet = Fernet(key) if key is not None else None

    def seal(self, secret: str) -> bytes:
        """The encrypted form of `secret`. Raises ValueError when there is no key."""
        if self._fernet is None:
            raise ValueError("no secret_key_file")
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes | None) -> str | None:
        """The secret, or None for none and for one that another key sealed."""
        if sealed is None or self._fernet is None:
            return None
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
            return Vault(None)
        path = file.with_name(f"{file.name}.key")
        _make(path)
    try:
        return Vault(path.read_bytes().strip())
    except OSError as error:
        raise StartupError(f"secret_key_file: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise StartupError(f"secret_key_file: {path} holds no Fernet key (32 bytes, URL-safe base64)") from None


def _make(path: Path) -> None:
    """Make the key file unless it is there. It appears whole or not at all."""
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(Fernet.generate_key())
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
