"""The identifiers that the core asks for instead of drawing them itself."""

from __future__ import annotations

from typing import Final, Protocol

MAGIC_COOKIE: Final = "z9hG4bK"
"""Begins every branch that is globally unique (RFC 3261 8.1.1.7)."""


class Ids(Protocol):
    """A source of identifiers that never gives the same one twice."""

    def branch(self) -> str:
        """A Via branch with the magic cookie."""
        ...

    def tag(self) -> str:
        """A From or To tag with at least 32 bits of randomness (19.3)."""
        ...

    def token(self) -> str:
        """32 lower-case hex digits."""
        ...
