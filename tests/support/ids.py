"""Identifiers that a test can foretell."""

from __future__ import annotations

from itertools import count

from sidecar.sip.ids import MAGIC_COOKIE


class SeqIds:
    """Counts: `z9hG4bK-1`, `tag-1`, `000…1`. `prefix` keeps two parties' identifiers apart."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._branches, self._tags, self._tokens = count(1), count(1), count(1)

    def branch(self) -> str:
        """The next branch."""
        return f"{MAGIC_COOKIE}-{self._prefix}{next(self._branches)}"

    def tag(self) -> str:
        """The next tag."""
        return f"{self._prefix}tag-{next(self._tags)}"

    def token(self) -> str:
        """The next token of 32 hex digits."""
        return f"{next(self._tokens):032x}"
