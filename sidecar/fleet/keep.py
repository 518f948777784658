"""The last snapshot that was taken, on disk beside the spool, so that it is in force after a restart without control.

The whole file is encrypted, since it holds passwords; file and key are readable by their owner alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from pydantic import ValidationError

from control.contract.routing import Snapshot

_MODE = 0o600


class KeepError(Exception):
    """The kept snapshot cannot be used. The text is one line that names the file and says what to do."""


class Keep:
    """One snapshot in `folder`. `key_file` None: the key is made beside it. Every method blocks."""

    def __init__(self, folder: Path, key_file: Path | None) -> None:
        self.path = folder / "configuration.sealed"
        self.key_path = key_file or folder / "configuration.key"
        self._may_make_key = key_file is None

    def load(self) -> Snapshot | None:
        """The kept snapshot, None for none. Raises KeepError."""
        try:
            sealed = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeepError(f"{self.path} cannot be read: {error.strerror}") from None
        try:
            return Snapshot.model_validate_json(self._fernet().decrypt(sealed))
        except InvalidToken:
            raise KeepError(f"{self.path} was sealed with another key than {self.key_path}: remove it, control sends it again") from None
        except ValidationError:
            raise KeepError(f"{self.path} holds no snapshot that this version reads: remove it, control sends it again") from None

    def save(self, snapshot: Snapshot) -> None:
        """Keep this one in place of the one before; it is there whole or not at all. Raises KeepError."""
        sealed = self._fernet().encrypt(snapshot.model_dump_json().encode())
        try:
            _write(self.path, sealed)
        except OSError as error:
            raise KeepError(f"{self.path} cannot be written: {error.strerror}") from None

    def _fernet(self) -> Fernet:
        try:
            if self._may_make_key and not self.key_path.exists():
                _write(self.key_path, Fernet.generate_key())
            return Fernet(self.key_path.read_bytes().strip())
        except OSError as error:
            raise KeepError(f"fleet.key_file: {self.key_path} cannot be used: {error.strerror}") from None
        except ValueError:
            raise KeepError(f"fleet.key_file: {self.key_path} holds no Fernet key (32 bytes, URL-safe base64)") from None


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
