"""Who offers and who answers (RFC 3264, RFC 6337), as far as the messages of one call tell."""

from __future__ import annotations

from sidecar.b2bua.effects import Leg
from sidecar.sip.message import Request, Response


class Exchange:
    """The offer that was made last."""

    def __init__(self) -> None:
        self._offerer: Leg | None = None

    def offers(self, message: Request | Response, leg: Leg) -> bool:
        """Whether the description that came on `leg` is an offer.

        Requests offer, but for the answers in ACK and PRACK; a response offers where its request did not.
        """
        offers = (isinstance(message, Request) and message.method in ("INVITE", "UPDATE")) or self._offerer in (None, leg)
        if offers:
            self._offerer = leg
        return offers

    def quiet(self, message: Request | Response) -> None:
        """A message without a description: after such an INVITE the response offers (RFC 3261 13.2.1)."""
        if isinstance(message, Request) and message.method == "INVITE":
            self._offerer = None
