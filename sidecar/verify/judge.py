"""What an edge's answers mean: final responses, session descriptions and Contacts to findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import Response
from sidecar.sip.sdp import MediaLine, Sdp, UnusableSdp, find_sdp, parse
from sidecar.sip.targets import literal_of
from sidecar.sip.uri import SipUri
from sidecar.verify.findings import CauseName, Finding, finding
from sidecar.verify.offer import CODECS
from sidecar.verify.steps import Facts

OFFERED = ", ".join(CODECS)
_BY_STATUS: dict[int, CauseName] = {
    403: "forbidden",
    404: "no_such_user",
    410: "no_such_user",
    484: "no_such_user",
    604: "no_such_user",
    480: "declined",
    486: "declined",
    487: "declined",
    600: "declined",
    603: "declined",
    607: "declined",
    608: "declined",
    415: "no_common_codec",
    488: "no_common_codec",
    606: "no_common_codec",
    420: "extension_wanted",
    421: "extension_wanted",
    494: "extension_wanted",
    408: "edge_failed",
}
_SCOPES = ("loopback", "link-local", "private", "public")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a final response is judged against."""

    user: str
    """The URI's user part; empty without one."""
    local: str
    """The address that the call came from."""
    realm: str = ""
    """Of the challenge that was answered before; empty without one."""
    username: str = ""
    edge_codecs: tuple[str, ...] = ()
    """What the edge said elsewhere that it speaks."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer's description says. `audio` is where silence may be sent, in `codec`; None when nowhere."""

    facts: Facts
    findings: tuple[Finding, ...]
    codec: str | None = None
    audio: MediaLine | None = None


def refusal(response: Response, asked: Asked) -> Finding:
    """Why a final response other than 2xx, 401 and 407 refuses the call."""
    status = response.status
    name = _BY_STATUS.get(status, "redirected" if status < 400 else "edge_failed" if 500 <= status < 600 else "refused")
    if status == 403 and asked.realm:
        name = "forbidden_with_credentials"
    known = codecs_of(response) or asked.edge_codecs
    return finding(
        name,
        status=status,
        reason=response.reason,
        words=words_of(response),
        realm=quoted(asked.realm),
        user=f"user {asked.user}" if name == "no_such_user" and asked.user else asked.username or asked.user or "such URI",
        local=asked.local,
        contact=_contact_text(response),
        what=", ".join(response.headers.values("require") + response.headers.values("unsupported")) or "an extension",
        edge=f"the edge offers only {', '.join(known)}" if known else "the edge does not say which it has",
        offered=OFFERED,
    )


def words_of(response: Response) -> str:
    """The edge's own words behind a status, ready to be put after a sentence; empty when it says nothing (20.43, RFC 3326)."""
    said = response.headers.get("warning") or response.headers.get("reason")
    return f"; it says {said}" if said else ""


def codecs_of(response: Response) -> tuple[str, ...]:
    """The audio codecs of a description in a response, also in one to OPTIONS (11.2) or a 488; empty without a usable one."""
    part = find_sdp(response.headers.get("content-type"), response.body)
    if part is None:
        return ()
    try:
        audio = _audio(parse(part.body))
    except UnusableSdp:
        return ()
    return _codecs(audio) if audio is not None else ()


def answer(response: Response, reached: str) -> Judged:
    """Judge the 2xx to the INVITE. `reached` is the address under which the edge was reached."""
    findings = list(_contact(response, reached))
    part = find_sdp(response.headers.get("content-type"), response.body)
    if part is None:
        return Judged((), (finding("answer_without_sdp"), *findings))
    try:
        audio = _audio(parse(part.body))
    except UnusableSdp as error:
        return Judged((), (finding("answer_unusable", why=error.detail), *findings))
    if audio is None or not audio.port:
        return Judged((), (finding("audio_refused"), *findings))
    codecs = _codecs(audio)
    common = [codec for codec in codecs if codec in CODECS]
    facts = [("media", f"{audio.address}:{audio.port} {audio.proto}"), ("codecs", ", ".join(codecs) or "none")]
    if not any(known.name.lower() == "telephone-event" for known in audio.rtpmap.values()):
        facts.append(("digits", "no telephone-event: keys that a caller presses are not carried"))
    if not common:
        edge = ", ".join(codecs) or "nothing known"
        return Judged(tuple(facts), (finding("answer_codec", edge=edge, offered=OFFERED), *findings))
    if audio.held or audio.direction != "sendrecv":
        findings.insert(0, finding("answer_on_hold", direction="on hold" if audio.null_address else audio.direction))
    elif narrower(audio.address, reached):
        where = f"{audio.address}:{audio.port}"
        findings.insert(0, finding("media_address", address=where, kind=scope(audio.address), reached=reached))
    return Judged(tuple(facts), tuple(findings), common[0], audio)


def scope(host: str) -> str | None:
    """From how far an address can be reached: loopback, link-local, private or public; None for a name."""
    literal = literal_of(host)
    if literal is None:
        return None
    address = ip_address(literal)
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return "public" if address.is_global else "private"


def narrower(host: str, reached: str) -> bool:
    """Whether `host` cannot be reached from everywhere that `reached` can."""
    own, other = scope(host), scope(reached)
    return own is not None and other is not None and _SCOPES.index(own) < _SCOPES.index(other)


def quoted(text: str) -> str:
    """`text` in quotation marks."""
    return f'"{text}"'


def _contact(response: Response, reached: str) -> Sequence[Finding]:
    try:
        contact = response.contact
        uri = None if contact is None or contact.uri == "*" else SipUri.parse(contact.uri)
    except MalformedMessage:
        uri = None
    if uri is None:
        return [finding("contact_missing")]
    # With a Record-Route the Contact is the proxy's concern, not the caller's (12.2.1.1).
    if narrower(uri.host, reached) and not response.headers.values("record-route"):
        return [finding("contact_address", contact=uri, kind=scope(uri.host), reached=reached)]
    return []


def _contact_text(response: Response) -> str:
    try:
        contact = response.contact
    except MalformedMessage:
        contact = None
    return contact.uri if contact is not None else "nowhere"


def _audio(sdp: Sdp) -> MediaLine | None:
    return next((medium for medium in sdp.media if medium.kind.lower() == "audio"), None)


def _codecs(audio: MediaLine) -> tuple[str, ...]:
    """Names in upper case, in the edge's order; what is no codec of speech is left out."""
    names: dict[str, None] = {}
    for format_ in audio.formats:
        known = audio.rtpmap.get(int(format_)) if format_.isdigit() else None
        name = known.name.upper() if known else format_
        if name not in ("TELEPHONE-EVENT", "CN", "RED"):
            names[name] = None
    return tuple(names)
