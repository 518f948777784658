"""The one kind of error of the client."""

from __future__ import annotations


class ClientError(Exception):
    """Nothing can be shown; the text is the line that says why and what to do."""
