"""What control raises towards whoever starts it."""

from __future__ import annotations


class StartupError(Exception):
    """Control cannot start. `message` is one line for a person: what is wrong, where, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
