"""Which headers cross from one leg to the other: all but those that belong to a hop, to a dialog or to one leg's credentials.

Values cross as they were written, byte for byte, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.sip.headers import Headers, key_of

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
CHALLENGES = ("WWW-Authenticate", "Proxy-Authenticate")
_OPTION_HEADERS = ("supported", "require")


def crossing(headers: Headers, *, besides: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The headers that go on to the other leg. `besides` names more that stay (lower case)."""
    stays = STAYS.union(besides)
    crossed = []
    for name, value in headers.items():
        canonical = key_of(name)
        if canonical in stays:
            continue
        if canonical in _OPTION_HEADERS and any(tag in value for tag in HOP_OPTIONS):
            value = ", ".join(tag for tag in (part.strip() for part in value.split(",")) if tag.lower() not in HOP_OPTIONS)
            if not value:
                continue
        crossed.append((name, value))
    return crossed


def warning(text: str) -> tuple[str, str]:
    """RFC 3261 20.43: words for a person, as a quoted string."""
    quoted = text.replace("\\", "").replace('"', "'")
    return "Warning", f'399 trunkside "{quoted}"'
