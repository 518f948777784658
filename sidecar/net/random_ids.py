"""Identifiers drawn from the operating system's randomness."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from sidecar.sip.ids import MAGIC_COOKIE


class RandomIds:
    """Cryptographically random, as RFC 3261 19.3 asks of tags; a guessed branch would let a stranger answer for the peer."""

    def __init__(self, mine: Callable[[str], bool] = lambda _: True) -> None:
        """`mine`: whether what is said under a Call-ID comes back here. Only such tokens are made: a Call-ID of our own is one."""
        self._mine = mine

    def branch(self) -> str:
        """A Via branch: magic cookie and 96 random bits."""
        return MAGIC_COOKIE + secrets.token_hex(12)

    def tag(self) -> str:
        """A tag of 64 random bits."""
        return secrets.token_hex(8)

    def token(self) -> str:
        """128 random bits as 32 hex digits."""
        while not self._mine(token := secrets.token_hex(16)):
            pass
        return token
