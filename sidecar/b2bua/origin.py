"""The version in the o= line of what one leg's party gets (RFC 3264 8)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_VERSION: Final = re.compile(rb"^(o=\S+ \S+ )([0-9]{1,20})(?= )", re.MULTILINE)


@dataclass(slots=True)
class Origin:
    """Descriptions on their way to one leg. o= is their writer's, and its version rises with every change of his; the change that is ours
    alone, as when a relay took the media elsewhere, needs one more.
    """

    ahead: int = 0
    """What the version that leaves is above the one that came."""
    came: bytes = b""
    left: bytes = b""

    def told(self, came: bytes, rewritten: bytes) -> bytes:
        """What is to leave for a description that came and was rewritten."""
        leaving = self._versioned(rewritten)
        if came == self.came and leaving != self.left:
            self.ahead += 1
            leaving = self._versioned(rewritten)
        self.came, self.left = came, leaving
        return leaving

    def _versioned(self, text: bytes) -> bytes:
        if not self.ahead:
            return text
        return _VERSION.sub(lambda found: found[1] + b"%d" % (int(found[2]) + self.ahead), text, count=1)
