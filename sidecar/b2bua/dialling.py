"""The INVITE of the B leg, as it is made from the caller's."""

from __future__ import annotations

from dataclasses import replace

from sidecar.b2bua.crossing import crossing
from sidecar.b2bua.outgoing import user_of
from sidecar.b2bua.routes import Route
from sidecar.identity.carriage import carry
from sidecar.identity.inbound import Identity
from sidecar.sip.message import Request


def target_of(route: Route, invite: Request) -> str:
    """The Request-URI to dial. An outbound route relays the caller's own, byte for byte; an inbound one names the target.

    A target without a user part gets the one that the caller dialled.
    """
    if route.direction == "outbound":
        return invite.uri
    target = route.target if route.target.user is not None else replace(route.target, user=user_of(invite.uri))
    return str(target)


def b_invite(invite: Request, route: Route, identity: Identity, *, tag: str, contact: str, body: bytes) -> Request:
    """The caller's INVITE for the edge: its Call-ID and its headers but for those of the hop, our own From-tag, the identity's headers."""
    carried = carry(route.preset, identity.carried_id, identity.correlation_id)
    forwards = invite.max_forwards
    request = Request(
        "INVITE",
        target_of(route, invite),
        [
            ("Max-Forwards", "70" if forwards is None else str(forwards - 1)),
            ("From", str(invite.from_.with_tag(tag))),
            ("To", invite.headers.get("To") or ""),
            ("Call-ID", invite.call_id),
            ("CSeq", str(invite.cseq)),
            ("Contact", contact),
        ],
        body,
    )
    stays = {name.lower() for name, _ in carried} | identity.stripped
    for name, value in [*crossing(invite.headers, besides=stays), *carried]:
        request.headers.add(name, value)
    return request
