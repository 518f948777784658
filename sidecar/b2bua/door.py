"""Who is let in: what a request outside any dialog is answered, or which call it begins. Changes no state but the nonce counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from sidecar.b2bua import outcome as o
from sidecar.b2bua.call import RETRY_AFTER_REFUSAL, Call
from sidecar.b2bua.crossing import warning
from sidecar.b2bua.routes import Route, choose, within_any
from sidecar.b2bua.session_timer import too_small
from sidecar.b2bua.settings import Settings
from sidecar.clocks import Mono
from sidecar.identity import inbound
from sidecar.identity.digest import Accepted, Challenge, Malformed
from sidecar.identity.inbound import Identity
from sidecar.sip.dialog import check_usable
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.ids import Ids
from sidecar.sip.message import Request
from sidecar.sip.uri import SipUri

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, REFER, NOTIFY, SUBSCRIBE"
CAPABILITIES = (
    ("Allow", ALLOW),
    ("Accept", "application/sdp, multipart/mixed"),
    ("Accept-Encoding", "identity"),
    ("Accept-Language", "*"),
    ("Supported", "100rel, replaces, timer"),
)
"""11.2: what a 200 to OPTIONS lists."""
ONLY_IN_DIALOG = frozenset({"BYE", "PRACK", "UPDATE", "INFO", "NOTIFY"})
"""Requests that mean nothing outside a dialog: 481 there, not 405."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered that begins no call."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    refused: str | None = None
    """Why, as a metric label, when somebody was refused; None for an ordinary answer."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An INVITE that begins a call."""

    route: Route
    identity: Identity


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody who may ask. `user`: the name under which a stranger authenticated; None for whom we trust by address."""

    user: str | None


def judge(request: Request, source: str, sender: Sender, known: Sequence[Call], *, draining: bool, settings: Settings) -> Reply | Admitted:
    """A request outside any dialog, from the IP literal `source`. `known`: the live calls with its Call-ID."""
    if request.method == "OPTIONS":
        if required := [*request.headers.values("Require"), *request.headers.values("Proxy-Require")]:
            # 8.2.2.3: it goes no further, so nobody else could know these.
            return Reply(420, [("Unsupported", ", ".join(required))])
        if draining:
            return Reply(503, [("Allow", ALLOW), RETRY_AFTER_REFUSAL])
        return Reply(_for_an_invite(request, source, settings), CAPABILITIES)
    if request.method != "INVITE":
        return Reply(481 if request.method in ONLY_IN_DIALOG else 405, [("Allow", ALLOW)])
    if draining:
        return _refused(o.draining())
    try:
        return _admit(request, source, sender, known, settings)
    except MalformedMessage as error:
        return _refused(o.malformed(error.status or 400, error.detail))


def identify(request: Request, source: str, settings: Settings, ids: Ids, now: Mono) -> Sender | Reply:
    """Whose request it is. A stranger proves who it is, or gets a challenge, or a refusal that tells it nothing."""
    if within_any(source, settings.trusted):
        return Sender(None)
    if settings.digest is None:
        return Reply(403, refused="untrusted-source")
    verdict = settings.digest.check(request, now)
    match verdict:
        case Accepted(user):
            return Sender(user)
        case Malformed(detail):
            return Reply(400, [warning(detail)], refused="malformed-credentials")
        case Challenge(stale, reason):
            # To ask is no refusal; to be asked again is.
            refused = None if reason == "no_credentials" else reason.replace("_", "-")
            return Reply(settings.digest.status, settings.digest.challenge(ids.token(), now, stale=stale), refused)
        case _ as never:
            assert_never(never)


def _for_an_invite(request: Request, source: str, settings: Settings) -> int:
    """11.2: the status that an INVITE to the same would get. Without a user, it is the sidecar that is asked; and so at its last hop."""
    try:
        if SipUri.parse(request.uri).user is None or request.max_forwards == 0:
            return 200
        return 200 if choose(settings.routes, request, source) is not None else 404
    except MalformedMessage as error:
        return error.status or 400


def _admit(request: Request, source: str, sender: Sender, known: Sequence[Call], settings: Settings) -> Reply | Admitted:
    """Raises MalformedMessage."""
    # 12.1.1: what the dialog will need later must be usable now.
    check_usable(request)
    if request.max_forwards == 0:
        return _refused(o.too_many_hops())
    if demanded := request.headers.values("Proxy-Require"):
        # 16.3: who stands where a proxy would must not drop in silence what the caller insists on (`privacy`, RFC 3323).
        return _refused(o.proxy_extension(", ".join(demanded)))
    if too_small(request.headers, settings.min_se):
        return _refused(o.interval_too_small(settings.min_se))
    if any(call.leg_of(request.from_tag, None) == "B" for call in known):
        return _refused(o.looped())
    uri = SipUri.parse(request.uri)
    route = choose(settings.routes, request, source)
    if route is None:
        return _refused(o.no_route(request.uri))
    if route.direction == "outbound" and uri.for_request_line() is not uri:
        # 19.1.1 allows none there; this URI would be carried on as it is, to somebody who may obey them (RFC 4475 3.1.2.11).
        return _refused(o.malformed(400, "header fields or a method in the Request-URI"))
    if not route.permits(uri):
        return _refused(o.recipient_not_allowed(request.uri, route.name))
    identity = inbound.read(
        request,
        trusted=sender.user is None,
        call_id_in_use=bool(known),
        simulation=route.simulation,
        source=source,
        networks=settings.evaluator_networks,
        digest_user=sender.user,
        digest_users=settings.evaluator_users,
        policy=route.policy,
    )
    return Admitted(route, identity)


def _refused(outcome: o.Outcome) -> Reply:
    later = [RETRY_AFTER_REFUSAL] if outcome.status == 503 else []
    return Reply(outcome.status, [warning(outcome.cause), *outcome.headers, *later], outcome.reason)
