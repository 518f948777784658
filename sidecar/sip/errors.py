"""What can be wrong with a SIP message or with its place in a dialog."""

from __future__ import annotations


class SipError(Exception):
    """Base of every error that this package raises because of what a peer sent."""


class MalformedMessage(SipError):
    """The peer sent what RFC 3261 forbids. `status` is what to answer a request with; None means drop it silently."""

    def __init__(self, detail: str, status: int | None = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class OutOfOrder(SipError):
    """A request whose CSeq is lower than one already seen in its dialog; RFC 3261 12.2.2 wants it answered with `status`."""

    status = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
