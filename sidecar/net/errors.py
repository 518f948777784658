"""What start-up can stumble over."""

from __future__ import annotations


class StartError(Exception):
    """The sidecar cannot start. The text is one line that names what was wrong and what to do."""
