"""How a call can end: a closed set. The `reason` is the same string in the trace, in metrics and in logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EndedBy = Literal["caller", "agent", "sidecar"]
_ACCEPTS = (("Accept", "application/sdp, multipart/mixed"), ("Accept-Encoding", "identity"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict on the call: who ended it, why, and the sentence that says so.

    `status` is what the caller gets for its INVITE when it has no final response yet, else the cause that our BYE states.
    """

    status: int
    ended_by: EndedBy
    reason: str
    cause: str
    headers: tuple[tuple[str, str], ...] = ()
    """What the status must not come without."""


def hung_up(by: EndedBy) -> Outcome:
    """An answered call that one side ended with BYE."""
    return Outcome(200, by, "completed", f"the {by} hung up")


def hung_up_by_operator(detail: str) -> Outcome:
    """The sidecar ended the call because it was told to."""
    return Outcome(480, "sidecar", "hung-up", detail)


def cancelled() -> Outcome:
    """CANCEL (RFC 3261 section 9) or BYE in the early dialog."""
    return Outcome(487, "caller", "cancelled", "the caller gave up before the call was answered")


def rejected(status: int, phrase: str, edge: str) -> Outcome:
    """The edge refused the call."""
    return Outcome(status, "agent", "rejected", f"{edge} answered {status} {phrase}".rstrip())


def credentials_refused(status: int, edge: str, detail: str) -> Outcome:
    """The edge did not accept the route's digest answer."""
    return Outcome(status, "agent", "credentials-refused", f"credentials refused by {edge}: {detail}")


def credentials_missing(status: int, edge: str, detail: str) -> Outcome:
    """The edge challenges and the route has nothing to answer with."""
    return Outcome(status, "agent", "credentials-missing", f"{edge} asks for credentials: {detail}")


def edge_silent(edge: str) -> Outcome:
    """No answer to the INVITE within timer B, or no final answer within the ring limit."""
    return Outcome(408, "sidecar", "upstream-silent", f"{edge} did not answer the INVITE")


def edge_never_answered(edge: str, limit_s: float) -> Outcome:
    """It rang for longer than RFC 3261 16.6 (timer C) lets a call ring."""
    return Outcome(408, "sidecar", "upstream-silent", f"{edge} rang for {limit_s:g} s without an answer")


def edge_unreachable(edge: str, detail: str) -> Outcome:
    """The transport refused the INVITE."""
    return Outcome(503, "sidecar", "upstream-unreachable", f"{edge} cannot be reached: {detail}")


def ack_missing(by: EndedBy) -> Outcome:
    """One side never acknowledged a 200 OK (RFC 3261 13.3.1.4)."""
    return Outcome(408, "sidecar", "ack-missing", f"the {by} never acknowledged the 200 OK")


def peer_gone(who: EndedBy, method: str) -> Outcome:
    """One side does not answer requests any more (RFC 3261 12.2.1.2)."""
    return Outcome(408, who, "peer-gone", f"the {who} did not answer {method}")


def early_bye(edge: str) -> Outcome:
    """The edge said BYE before it answered, which RFC 3261 section 15 forbids it."""
    return Outcome(480, "agent", "rejected", f"{edge} sent BYE before it answered")


def no_route(target: str) -> Outcome:
    """Nothing that may be dialled matches the request."""
    return Outcome(404, "sidecar", "no-route", f"no route matches {target}")


def recipient_not_allowed(target: str, route: str) -> Outcome:
    """The agent dials a host that its route does not list."""
    return Outcome(403, "sidecar", "recipient-not-allowed", f"route {route} does not allow dialling {target}")


def malformed(status: int, detail: str) -> Outcome:
    """The INVITE parses but cannot form a dialog."""
    return Outcome(status, "caller", "malformed", detail)


def policy(cause: str) -> Outcome:
    """The identity policy of the route says reject."""
    return Outcome(400, "sidecar", "identity-rejected", cause)


def no_ports(detail: str) -> Outcome:
    """No RTP port pair is free."""
    return Outcome(503, "sidecar", "no-media-ports", detail)


def no_relay(detail: str) -> Outcome:
    """The media relay that is no part of this process does not answer, or will not take the call."""
    return Outcome(503, "sidecar", "no-media-relay", detail)


def sdp_unusable(detail: str) -> Outcome:
    """The session description cannot be relayed."""
    return Outcome(488, "sidecar", "sdp-unusable", detail)


def body_encoded(coding: str) -> Outcome:
    """The session description is compressed, so its addresses cannot be replaced (RFC 3261 8.2.3)."""
    return Outcome(415, "sidecar", "body-encoded", f"a session description under Content-Encoding {coding} cannot be relayed", _ACCEPTS)


def session_expired(who: EndedBy, interval: int) -> Outcome:
    """Nobody refreshed the session of one leg in time (RFC 4028 section 10)."""
    return Outcome(408, who, "session-expired", f"the session with the {who} was not refreshed within {interval} s")


def interval_too_small(minimum: int) -> Outcome:
    """The caller asks for refreshes more often than RFC 4028 or the configuration allows."""
    return Outcome(
        422, "caller", "session-interval-too-small", f"the session interval must be at least {minimum} s", (("Min-SE", str(minimum)),)
    )


def prack_missing() -> Outcome:
    """The caller requires reliable provisional responses and does not acknowledge them (RFC 3262 section 3)."""
    return Outcome(504, "caller", "prack-missing", "the caller never acknowledged a reliable provisional response")


def expired(seconds: int) -> Outcome:
    """The caller's INVITE was valid for so long (RFC 3261 13.3.1)."""
    return Outcome(487, "caller", "expired", f"the INVITE expired after {seconds} s without an answer")


def draining() -> Outcome:
    """The sidecar is going away and takes no new call."""
    return Outcome(503, "sidecar", "draining", "the sidecar is draining and takes no new call")


def too_many_hops() -> Outcome:
    """Max-Forwards reached 0."""
    return Outcome(483, "sidecar", "too-many-hops", "Max-Forwards of the INVITE is 0")


def proxy_extension(options: str) -> Outcome:
    """The caller wants a proxy to know what none here does (RFC 3261 16.3)."""
    return Outcome(
        420, "sidecar", "extension-unsupported", f"Proxy-Require asks for {options}, which is not served here", (("Unsupported", options),)
    )


def looped() -> Outcome:
    """Our own INVITE came back to us."""
    return Outcome(482, "sidecar", "loop", "the INVITE that left on the B leg came back: a route points at the sidecar itself")


def ordered(by: str) -> Outcome:
    """Somebody had control end the call."""
    return Outcome(480, "sidecar", "hung-up", f"ended by control on behalf of {by}")


def overrun(detail: str) -> Outcome:
    """The deadline of a drain ended the call."""
    return Outcome(503, "sidecar", "drained", detail)
