"""What an INVITE asks of the edge in our own name, and how it changes when the edge wants more or less (RFC 3261 8.1.3.5, 3262, 4028)."""

from __future__ import annotations

from typing import Final

from sidecar.b2bua.reliable import REL, has_offer
from sidecar.b2bua.session_timer import TIMER, asking, expires_of, lists, min_se, offers
from sidecar.sip.message import Request, Response

OURS: Final = (REL, TIMER)
"""Option tags that we can meet on one leg alone."""


def ask_for_timer(request: Request, wanted: int | None) -> None:
    """Ask for a session timer in our own name, where the caller's INVITE asks for none. `wanted`: seconds; None: we want none."""
    if wanted is None or expires_of(request.headers) is not None:
        return
    # 7.1: not below the Min-SE that stands beside it.
    for name, value in asking(max(wanted, min_se(request.headers) or 0)):
        if name != "Supported" or not offers(request.headers, TIMER):
            request.headers.add(name, value)


def adapted(invite: Request, request: Request, response: Response) -> Request | None:
    """The INVITE once more, after the edge asked for an option that the caller lacks (421), or refused one that the caller requires (420).

    Or after it found an interval that was ours too small (422). `invite` is the caller's, `request` what left for it and was refused. None
    when the answer is not about what we can meet ourselves; each thing is changed once. 100rel is not met for an INVITE without an offer:
    its first reliable response would offer, and only the two parties could make and answer that (RFC 3262 5).
    """
    if response.status == 422:
        return _with_interval(invite, request, response)
    if response.status == 421:
        missing = [tag for tag in OURS if lists(response.headers, tag, "Require") and not offers(request.headers, tag)]
        if REL in missing and not has_offer(request):
            return None
        return _with_support(request, missing) if missing else None
    refused = [tag for tag in OURS if lists(response.headers, tag, "Unsupported") and lists(request.headers, tag, "Require")]
    if response.status != 420 or not refused or (REL in refused and not has_offer(request)):
        return None
    return _without(request, refused)


def _with_interval(invite: Request, request: Request, response: Response) -> Request | None:
    minimum, asked = min_se(response.headers), expires_of(request.headers)
    if minimum is None or asked is None or minimum <= asked.seconds or expires_of(invite.headers) is not None:
        return None
    again = _fresh(request)
    again.headers.set("Session-Expires", str(minimum))
    again.headers.set("Min-SE", str(minimum))
    return again


def _with_support(request: Request, tags: list[str]) -> Request:
    again = _fresh(request)
    again.headers.add("Supported", ", ".join(tags))
    return again


def _without(request: Request, tags: list[str]) -> Request:
    again = _fresh(request)
    for name in ("Require", "Supported"):
        kept = [tag.strip() for value in again.headers.all(name) for tag in value.split(",") if tag.strip().lower() not in tags]
        again.headers.remove(name)
        if kept:
            again.headers.add(name, ", ".join(kept))
    return again


def _fresh(request: Request) -> Request:
    again = request.copy()
    again.headers.remove("Via")
    return again
