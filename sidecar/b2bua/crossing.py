"""Which headers cross from one leg to the other: all but those that belong to a hop, to a dialog or to one leg's credentials.

Values cross as they were written, byte for byte, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.sip.headers import Headers, key_of
from sidecar.sip.message import Request, Response

# RFC 3261 20: hop (Via, Route, …), dialog (Call-ID, tags, Contact, CSeq), body framing. RFC 7616: credentials stay on their leg.
# RFC 3327 Path and RFC 3608 Service-Route name a registration's hops, RFC 3262 RAck is rebuilt because CSeq differs on each leg.
STAYS = frozenset(
    {
        "via",
        "route",
        "record-route",
        "max-forwards",
        "proxy-require",
        "path",
        "service-route",
        "timestamp",
        "call-id",
        "from",
        "to",
        "cseq",
        "contact",
        "rack",
        "content-length",
        "authorization",
        "proxy-authorization",
        "www-authenticate",
        "proxy-authenticate",
        "authentication-info",
        "proxy-authentication-info",
    }
)
HOP_OPTIONS = frozenset({"path", "outbound", "gruu"})
"""Option tags that describe the hop to a registrar or edge proxy (RFC 3327, 5626, 5627), not the far end."""
OF_BODY = frozenset({"content-type", "content-disposition", "content-encoding", "content-language", "mime-version"})
"""Headers that mean something only beside a body."""
_OPTION_HEADERS = ("supported", "require")
# 9.1: a CANCEL must not require anything.
_NOT_ON_CANCEL = frozenset({"require", *OF_BODY})
_CHALLENGES = ("WWW-Authenticate", "Proxy-Authenticate")


def crossing(headers: Headers, *, besides: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The headers that go on to the other leg. `besides` names more that stay (lower case)."""
    stays = STAYS.union(besides) if besides else STAYS
    crossed = []
    for canonical, name, value in headers.lines():
        if canonical in stays:
            continue
        if canonical in _OPTION_HEADERS:
            tags = [part.strip() for part in value.split(",")]
            kept = [tag for tag in tags if tag.lower() not in HOP_OPTIONS]
            if not kept:
                continue
            if len(kept) < len(tags):
                value = ", ".join(kept)
        crossed.append((name, value))
    return crossed


def crossing_answer(response: Response, *, body: bytes) -> list[tuple[str, str]]:
    """The headers of a response that go on, with those that its status is nothing without. `body` is what crosses of its body."""
    crossed = crossing(response.headers, besides=() if body else OF_BODY)
    # 22.3: a 401 or 407 must carry a challenge; 8.1.3.4: a 3xx names its targets in Contact.
    kept = _CHALLENGES if response.status in (401, 407) else ("Contact",) if 300 <= response.status < 400 else ()
    return crossed + [(name, value) for name in kept for value in response.headers.all(name)]


def crossing_cancel(headers: Headers) -> list[tuple[str, str]]:
    """The headers of a CANCEL that go on: Reason (RFC 3326) above all."""
    return crossing(headers, besides=_NOT_ON_CANCEL)


def required_of(invite: Request, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an ACK without what its INVITE, as it left, did not require (8.2.2.3)."""
    asked = {tag.strip().lower() for value in invite.headers.all("Require") for tag in value.split(",")}
    return [
        (name, value)
        for name, value in headers
        if key_of(name) != "require" or all(tag.strip().lower() in asked for tag in value.split(","))
    ]


def warning(text: str) -> tuple[str, str]:
    """RFC 3261 20.43: words for a person, as a quoted string, whatever was quoted in them."""
    quoted = "".join(sign if sign >= " " and sign != "\x7f" else " " for sign in text.replace("\\", "").replace('"', "'"))
    return "Warning", f'399 trunkside "{quoted}"'
