"""The INVITE of the B leg, as it is made from the caller's, and where it may go: targets, and redirects that the route lets through."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from sidecar.b2bua.crossing import crossing
from sidecar.b2bua.outgoing import user_of
from sidecar.b2bua.routes import Route
from sidecar.identity import trace_context
from sidecar.identity.carriage import carry
from sidecar.identity.inbound import Identity
from sidecar.identity.trace_context import TraceContext
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.fields import name_addr
from sidecar.sip.message import Request, Response
from sidecar.sip.targets import Target
from sidecar.sip.uri import SipUri

_FOLLOWED = (300, 301, 302)
"""Not 305, which RFC 3261 21.3.4 lets nobody but the recipient's own server say, nor 380, which is for people."""
_MOST_REDIRECTS = 5
_LAST_FIRST_CSEQ = 2**31 - 100
"""8.1.1.5: an INVITE that begins a dialog has a number below 2**31, and so have those that answer challenges to it."""


def target_of(route: Route, invite: Request) -> str:
    """The Request-URI to dial. An outbound route relays the caller's own, byte for byte; an inbound one names the target.

    A target without a user part gets the one that the caller dialled.
    """
    if route.direction == "outbound":
        return invite.uri
    target = route.target if route.target.user is not None else replace(route.target, user=user_of(invite.uri))
    return str(target)


def next_hop_of(route: Route, uri: str) -> str:
    """Where the INVITE for `uri` is sent: an outbound route is an outbound proxy, an inbound one leads to the URI itself.

    8.1.2: a sips: URI is never sent on but by TLS.
    """
    if route.direction == "inbound":
        return uri
    return str(replace(route.target, scheme="sips") if is_sips(uri) else route.target)


def b_invite(
    invite: Request,
    uri: str,
    route: Route,
    identity: Identity,
    *,
    tag: str,
    contact: str,
    body: bytes,
    trace: TraceContext | None = None,
) -> Request:
    """The caller's INVITE for `uri`: its Call-ID and its headers but for those of the hop, our own From-tag, the identity's headers.

    `trace`: the span of ours under which the agent's belong. It takes the place of the caller's, which the exported span links to; the
    state of the caller's trace ends with it (W3C Trace Context, section 3.4). Without it both cross as they came.
    """
    carried = carry(route.preset, identity.carried_id, identity.correlation_id)
    if trace is not None:
        carried.append((trace_context.HEADER, trace_context.traceparent(trace)))
    forwards = invite.max_forwards
    request = Request(
        "INVITE",
        uri,
        [
            *([("Route", f"<{route.target}>")] if _is_preloaded(route) else []),
            ("Max-Forwards", "70" if forwards is None else str(forwards - 1)),
            ("From", str(invite.from_.with_tag(tag))),
            ("To", invite.headers.get("To") or ""),
            ("Call-ID", invite.call_id),
            ("CSeq", f"{invite.cseq.number if invite.cseq.number < _LAST_FIRST_CSEQ else 1} INVITE"),
            ("Contact", contact),
        ],
        body,
    )
    stays = {name.lower() for name, _ in carried} | identity.stripped | ({trace_context.STATE} if trace is not None else set())
    for name, value in [*crossing(invite.headers, besides=stays), *carried]:
        request.headers.add(name, value)
    return request


def _is_preloaded(route: Route) -> bool:
    """12.2.1.1 applied to 8.1.2: an outbound proxy whose URI says `lr` finds itself in Route."""
    return route.direction == "outbound" and route.target.param("lr") is not None


@dataclass(slots=True, eq=False)
class Attempts:
    """Where the B leg's INVITE is, and where it may still go."""

    uri: str
    """The Request-URI."""
    targets: deque[Target] = field(default_factory=deque)
    """Of `uri`, in the order to try (RFC 3263 4.3)."""
    current: Target | None = None
    redirects: deque[str] = field(default_factory=deque)
    """Request-URIs that redirects named, in the order to try (RFC 3261 8.1.3.4)."""
    followed: list[str] = field(default_factory=list)

    def redirected(self, response: Response, route: Route) -> None:
        """Note where a 3xx points to, as far as the route follows there. What it does not follow goes back to the caller."""
        if response.status not in _FOLLOWED or not route.redirects:
            return
        for uri in redirect_targets(response):
            parsed = SipUri.parse(uri)
            # 16.7: from sips: to sips: only, since nobody can be asked whether less will do (8.1.3.4).
            if is_sips(self.uri) and not parsed.secure:
                continue
            if route.follows(parsed) and uri not in (self.uri, *self.followed, *self.redirects):
                self.redirects.append(uri)

    def untried(self, response: Response) -> Response:
        """An answer as it goes back: 16.7 takes from a 3xx the targets that were tried here, or the caller would try them again."""
        if not self.followed or response.status // 100 != 3:
            return response
        tried = {self.uri, *self.followed}
        left = response.copy()
        left.headers.remove("Contact")
        for value in response.headers.values("contact"):
            target = _redirect_target(value)
            if target is None or target[1] not in tried:
                left.headers.add("Contact", value)
        return left

    def next_redirect(self) -> bool:
        """Turn to the next redirect. False when there is none, or when there were too many."""
        if not self.redirects or len(self.followed) >= _MOST_REDIRECTS:
            return False
        self.followed.append(self.uri)
        self.uri = self.redirects.popleft()
        return True


def redirect_targets(response: Response) -> list[str]:
    """The SIP URIs in a 3xx's Contact, by their q values (8.1.3.4), without what may not stand in a Request-URI (19.1.1)."""
    found = [target for value in response.headers.values("contact") if (target := _redirect_target(value)) is not None]
    return [uri for _, uri in sorted(found, key=lambda item: -item[0])]


def _redirect_target(contact: str) -> tuple[float, str] | None:
    """The q value and the Request-URI of one Contact value; None when it is no SIP URI."""
    try:
        address = name_addr(contact)
        uri = SipUri.parse(address.uri)
    except MalformedMessage:
        return None
    return _q(address.param("q")), str(uri.for_request_line())


def _q(value: str | None) -> float:
    try:
        return float(value or 1.0)
    except ValueError:
        return 0.0


def retry_after(response: Response, otherwise: float) -> float:
    """Seconds that a response asks to be left alone for (20.33), at most an hour; `otherwise` when it does not say."""
    digits = (response.headers.get("Retry-After") or "").split(";")[0].split("(")[0].strip()
    return min(float(digits), 3600.0) if digits.isascii() and digits.isdigit() else otherwise


def is_sips(uri: str) -> bool:
    """Whether a URI asks for TLS on every hop."""
    return uri[:5].lower() == "sips:"


def wants_sips(invite: Request) -> bool:
    """12.1.1: whether its sender is to be answered with a sips: Contact, since Request-URI, nearest Record-Route or Contact is one."""
    recorded = invite.headers.values("record-route")
    nearest = name_addr(recorded[0]).uri if recorded else invite.contact.uri if invite.contact is not None else ""
    return is_sips(invite.uri) or is_sips(nearest)
