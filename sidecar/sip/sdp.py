"""Session descriptions, edited by line and never re-serialised (RFC 8866, RFC 3264).

A relay changes where the media goes and nothing else, so a description is kept as the octets that arrived: rewriting replaces the
address in `c=`, the port in `m=` and the value of `a=rtcp`, drops the ICE lines and leaves every other octet, known or not, in place.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import takewhile
from types import MappingProxyType
from typing import Literal

from sidecar.clocks import Addr
from sidecar.sip.errors import SipError
from sidecar.sip.multipart import SdpPart, find_sdp

__all__ = ["STATIC", "Direction", "MediaLine", "RtpMap", "Sdp", "SdpPart", "UnusableSdp", "find_sdp", "parse", "refusal"]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

_CONNECTION = re.compile(rb"c=[ \t]*IN[ \t]+(?P<family>IP4|IP6)[ \t]+(?P<address>[^\s/]+)(?P<multicast>/\S*)?[ \t]*", re.IGNORECASE)
_MEDIA = re.compile(rb"m=(?P<kind>\S+)[ \t]+(?P<port>\d{1,5})(?:/(?P<count>\d{1,5}))?[ \t]+(?P<proto>\S+)(?P<formats>(?:[ \t]+\S+)*)[ \t]*")
_RTCP = re.compile(rb"a=rtcp:[ \t]*(?P<port>\d{1,5})(?:[ \t]+IN[ \t]+(?P<family>IP4|IP6)[ \t]+(?P<address>\S+))?[ \t]*", re.IGNORECASE)
_RTPMAP = re.compile(rb"a=rtpmap:[ \t]*(?P<pt>\d{1,3})[ \t]+(?P<name>[^\s/]+)/(?P<rate>\d{1,9})(?:/(?P<channels>\d{1,3}))?[ \t]*")
_FMTP = re.compile(rb"a=fmtp:[ \t]*(?P<pt>\d{1,3})[ \t]+(?P<params>.*)")
_PTIME = re.compile(rb"a=ptime:[ \t]*(?P<ms>\d{1,5}(?:\.\d{1,3})?)[ \t]*")
_DIRECTION = re.compile(rb"a=(sendrecv|sendonly|recvonly|inactive)[ \t]*")
# The relay is the only path between the legs: a candidate that went through would let the media pass beside it (RFC 8839).
_ICE = re.compile(
    rb"a=(?:candidate|remote-candidates|end-of-candidates|ice-ufrag|ice-pwd|ice-options|ice-lite|ice-mismatch|ice-pacing)(?::.*)?[ \t]*"
)
_ICE_BEGINS = (b"a=candidate", b"a=remote-candidates", b"a=end-of-candidates", b"a=ice-")
_PLACES = (b"m=", b"c=")
_DIRECTIONS: Mapping[bytes, Direction] = MappingProxyType(
    {b"sendrecv": "sendrecv", b"sendonly": "sendonly", b"recvonly": "recvonly", b"inactive": "inactive"}
)
_LONGEST_LITERAL = 64
"""Characters, the zone of an IPv6 address included."""
_HOST = re.compile(r"[A-Za-z0-9.:_%-]+")


class UnusableSdp(SipError):
    """The description cannot be relayed. `status` is what to answer (488), `detail` says why in words."""

    def __init__(self, detail: str, *, status: int = 488) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


@dataclass(frozen=True, slots=True)
class RtpMap:
    """`a=rtpmap`: `name` as written, `clock_rate` in Hz, `channels` 1 unless stated."""

    name: str
    clock_rate: int
    channels: int = 1


# RFC 3551 tables 4 and 5: payload types that mean something without an rtpmap.
STATIC: Mapping[int, RtpMap] = MappingProxyType(
    {
        0: RtpMap("PCMU", 8000),
        3: RtpMap("GSM", 8000),
        4: RtpMap("G723", 8000),
        5: RtpMap("DVI4", 8000),
        6: RtpMap("DVI4", 16000),
        7: RtpMap("LPC", 8000),
        8: RtpMap("PCMA", 8000),
        9: RtpMap("G722", 8000),
        10: RtpMap("L16", 44100, 2),
        11: RtpMap("L16", 44100),
        12: RtpMap("QCELP", 8000),
        13: RtpMap("CN", 8000),
        15: RtpMap("G728", 8000),
        16: RtpMap("DVI4", 11025),
        17: RtpMap("DVI4", 22050),
        18: RtpMap("G729", 8000),
        26: RtpMap("JPEG", 90000),
        31: RtpMap("H261", 90000),
        34: RtpMap("H263", 90000),
    }
)


@dataclass(frozen=True, slots=True)
class MediaLine:
    """One `m=` line with what the lines under it and the session level say about it."""

    index: int
    """Position among the `m=` lines, from 0."""
    kind: str
    """`audio`, `video`, `image` …, as written."""
    port: int
    """0: the medium is refused or disabled."""
    port_count: int
    """`/n` behind the port; 1 when absent."""
    proto: str
    formats: tuple[str, ...]
    address: str
    """Host of the `c=` line in force (media level before session level); empty for a disabled medium without one. May be a name."""
    rtcp: Addr | None
    """Where RTCP is to go: `a=rtcp` (RFC 3605), else `port` + 1. None when the medium is disabled, not RTP, or has no such port."""
    rtcp_mux: bool
    direction: Direction
    """As stated for the medium, else for the session, else `sendrecv` (RFC 8866 section 6.7)."""
    rtpmap: Mapping[int, RtpMap]
    """Payload types of `formats`, the static ones of RFC 3551 filled in."""
    fmtp: Mapping[int, str]
    ptime: float | None
    """Milliseconds."""
    crypto: tuple[str, ...] = field(default=(), repr=False)
    """What stands behind each `a=crypto:` (RFC 4568), keys and all."""
    fingerprints: tuple[str, ...] = ()
    """What stands behind each `a=fingerprint:` (RFC 8122), of the medium or else of the session."""
    setup: str = ""
    """`a=setup` (RFC 4145), likewise; empty when absent."""
    ice_ufrag: str = ""
    """`a=ice-ufrag` (RFC 8839), likewise."""

    @property
    def is_rtp(self) -> bool:
        """True for the RTP profiles (`RTP/AVP`, `RTP/SAVPF`, `UDP/TLS/RTP/SAVP` …)."""
        return "RTP/" in self.proto.upper()

    @property
    def null_address(self) -> bool:
        """The address says "send nothing": `0.0.0.0`, its IPv6 twin, or a name under `.invalid` (RFC 3264 section 8.4, RFC 3725)."""
        return _is_null(self.address)

    @property
    def held(self) -> bool:
        """Whoever wrote this put the other side on hold: `sendonly`, `inactive`, or the null address of RFC 2543."""
        return self.null_address or self.direction in ("sendonly", "inactive")

    @property
    def remote(self) -> Addr | None:
        """Where media is to be sent; None while disabled, under the null address, or when the address is a name."""
        return (self.address, self.port) if self.port and not self.null_address and _is_literal(self.address) else None


@dataclass(frozen=True, slots=True)
class Sdp:
    """A description as it arrived. `lines` hold their own line ends, so joining them gives the very octets that were parsed."""

    lines: tuple[bytes, ...]
    media: tuple[MediaLine, ...]
    origin: str
    """The value of `o=`, empty when missing. It changes whenever its writer changes the description (RFC 3264 section 8)."""

    def encode(self) -> bytes:
        """The octets that were parsed."""
        return b"".join(self.lines)

    def rewrite(self, host: str, ports: Mapping[int, tuple[int, int]]) -> bytes:
        """The same description with the media at `host`: an IP literal (or a name, which keeps the family that was written).

        `ports` gives (RTP port, RTCP port) by index of the medium. A live medium that is not in it is refused with port 0 and stays in
        its place (RFC 3264 section 6); one that has port 0 keeps it. Null addresses stay, so a hold stays a hold. `o=` stays as it is.
        `a=rtcp` is written only where it was, or where RTCP does not go to RTP + 1. Raises ValueError for a host or port that is none.
        """
        own = _Host.read(host)
        for given in ports.values():
            if not all(0 < port < 65536 for port in given):
                raise ValueError(f"not a pair of ports: {given}")
        out: list[bytes] = []
        for medium, section in self._sections():
            pair = ports.get(medium.index, (0, 0)) if medium and medium.port else None
            out += _rewrite_section(section, medium, pair, own)
        return b"".join(out)

    def _sections(self) -> Iterator[tuple[MediaLine | None, list[bytes]]]:
        media = iter(self.media)
        current: MediaLine | None = None
        section: list[bytes] = []
        for line in self.lines:
            if line.startswith(b"m="):
                yield current, section
                current, section = next(media), []
            section.append(line)
        yield current, section


def parse(body: bytes) -> Sdp:
    """Read a description. Lines may end in CRLF or LF; what is not understood is kept.

    Raises UnusableSdp when it does not begin with `v=`, when an `m=` line is not one, or when a live medium has no unicast address.
    """
    # A lone CR ends no line (RFC 8866 section 5), so `bytes.splitlines` would cut too often.
    *whole, rest = body.split(b"\n")
    lines = tuple([line + b"\n" for line in whole] + ([rest] if rest else []))
    if not lines or not lines[0].startswith(b"v="):
        raise UnusableSdp("the session description does not begin with v=")
    heads = [number for number, line in enumerate(lines) if line.startswith(b"m=")]
    bounds = [*heads, len(lines)]
    session = _read_level(lines[: bounds[0]])
    media = tuple(_medium(index, lines[start : bounds[index + 1]], session) for index, start in enumerate(heads))
    origin = next((_text(_content(line)[2:]) for line in lines[: bounds[0]] if line.startswith(b"o=")), "")
    return Sdp(lines, media, origin)


@dataclass(slots=True)
class _Level:
    """What one level (session or medium) states; the first statement of its kind counts."""

    rtpmap: dict[int, RtpMap]
    fmtp: dict[int, str]
    connection: re.Match[bytes] | None = None
    direction: Direction | None = None
    rtcp: re.Match[bytes] | None = None
    mux: bool = False
    crypto: list[str] = field(default_factory=list)
    fingerprints: list[str] = field(default_factory=list)
    setup: str = ""
    ice_ufrag: str = ""
    ptime: float | None = None


def _read_level(lines: tuple[bytes, ...]) -> _Level:
    level = _Level({}, {})
    for line in lines:
        content = _content(line)
        if content.startswith(b"c="):
            level.connection = level.connection or _CONNECTION.fullmatch(content)
        elif content.startswith(b"a="):
            _read_attribute(level, content)
    return level


def _read_attribute(level: _Level, content: bytes) -> None:
    # By the first letters, since most patterns fit no more than one attribute and every line would be held against all.
    if content.startswith(b"a=rtpmap:"):
        if found := _RTPMAP.fullmatch(content):
            level.rtpmap.setdefault(int(found["pt"]), RtpMap(_text(found["name"]), int(found["rate"]), int(found["channels"] or 1)))
    elif content.startswith(b"a=fmtp:"):
        if found := _FMTP.fullmatch(content):
            level.fmtp.setdefault(int(found["pt"]), _text(found["params"]).strip())
    elif content.startswith(b"a=ptime:"):
        if found := _PTIME.fullmatch(content):
            level.ptime = level.ptime or float(found["ms"])
    elif found := _DIRECTION.fullmatch(content):
        level.direction = level.direction or _DIRECTIONS[found[1]]
    elif found := _RTCP.fullmatch(content):
        level.rtcp = level.rtcp or found
    elif content[:9].lower() == b"a=crypto:":
        level.crypto.append(_text(content[9:]).strip())
    elif content[:14].lower() == b"a=fingerprint:":
        level.fingerprints.append(_text(content[14:]).strip())
    elif content.startswith(b"a=setup:"):
        level.setup = level.setup or _text(content[8:]).strip().lower()
    elif content.startswith(b"a=ice-ufrag:"):
        level.ice_ufrag = level.ice_ufrag or _text(content[12:]).strip()
    elif content.rstrip() == b"a=rtcp-mux":
        level.mux = True


def _medium(index: int, lines: tuple[bytes, ...], session: _Level) -> MediaLine:
    head = _MEDIA.fullmatch(_content(lines[0]))
    if head is None or int(head["port"]) > 65535:
        raise UnusableSdp(f"media line {index + 1} cannot be read")
    level = _read_level(lines[1:])
    connection = level.connection or session.connection
    port, proto = int(head["port"]), _text(head["proto"])
    if port and (connection is None or connection["multicast"] or _is_group(_text(connection["address"]))):
        raise UnusableSdp(f"media line {index + 1} has no unicast address")
    address = _text(connection["address"]) if connection else ""
    formats = tuple(_text(word) for word in head["formats"].split())
    is_rtp = "RTP/" in proto.upper()
    static = (
        {int(word): STATIC[int(word)] for word in formats if len(word) <= 2 and word.isascii() and word.isdigit() and int(word) in STATIC}
        if is_rtp
        else {}
    )
    return MediaLine(
        index=index,
        kind=_text(head["kind"]),
        port=port,
        port_count=int(head["count"] or 1),
        proto=proto,
        formats=formats,
        address=address,
        rtcp=_rtcp_address(address, port, level.rtcp) if is_rtp else None,
        rtcp_mux=level.mux,
        direction=level.direction or session.direction or "sendrecv",
        rtpmap=MappingProxyType({**static, **level.rtpmap}),
        fmtp=MappingProxyType(level.fmtp),
        ptime=level.ptime if level.ptime is not None else session.ptime,
        crypto=tuple(level.crypto),
        fingerprints=tuple(level.fingerprints or session.fingerprints),
        setup=level.setup or session.setup,
        ice_ufrag=level.ice_ufrag or session.ice_ufrag,
    )


def _rtcp_address(address: str, port: int, stated: re.Match[bytes] | None) -> Addr | None:
    if not port:
        return None
    host, rtcp = address, port + 1
    if stated is not None:
        host, rtcp = _text(stated["address"]) if stated["address"] else address, int(stated["port"])
    return (host, rtcp) if 0 < rtcp < 65536 else None


def _rewrite_section(section: list[bytes], medium: MediaLine | None, pair: tuple[int, int] | None, host: _Host) -> Iterator[bytes]:
    """One level's lines with the new place. `pair` None: the ports stay; (0, 0): the medium is refused."""
    rtcp = _rtcp_port(medium, pair)
    kept = [line for line in section if not (line.startswith(_ICE_BEGINS) and _ICE.fullmatch(_content(line)))]
    if rtcp is not None and medium is not None and not medium.rtcp_mux and not any(_RTCP.fullmatch(_content(line)) for line in kept):
        _state_rtcp(kept, rtcp, pair)
    for line in kept:
        if not line.startswith(_PLACES) and line[:6].lower() != b"a=rtcp":
            yield line
            continue
        content = _content(line)
        if line.startswith(b"m=") and pair is not None and (head := _MEDIA.fullmatch(content)):
            yield _splice(line, [(head.span("port"), b"%d" % pair[0])])
        elif (line.startswith(b"c=") and (found := _CONNECTION.fullmatch(content))) or (found := _RTCP.fullmatch(content)):
            edits = host.edits(found)
            if rtcp is not None and "port" in found.re.groupindex:
                edits.insert(0, (found.span("port"), b"%d" % rtcp))
            yield _splice(line, edits)
        else:
            yield line


def _rtcp_port(medium: MediaLine | None, pair: tuple[int, int] | None) -> int | None:
    """The RTCP port to state for a live RTP medium. One that shared its port with RTP goes on doing so (RFC 5761 section 5.1.1)."""
    if medium is None or not pair or not pair[0] or not medium.is_rtp:
        return None
    return pair[0] if medium.rtcp and medium.rtcp[1] == medium.port else pair[1]


def _state_rtcp(kept: list[bytes], rtcp: int, pair: tuple[int, int] | None) -> None:
    """Add `a=rtcp` before the medium's first attribute when RTCP is not at the port that RFC 3550 section 11 presumes."""
    if pair is None or rtcp == pair[0] + 1:
        return
    end = b"\r\n" if kept[0].endswith(b"\r\n") or not kept[0].endswith(b"\n") else b"\n"
    at = next((number for number, line in enumerate(kept) if line.startswith(b"a=")), len(kept))
    if not kept[at - 1].endswith(b"\n"):
        kept[at - 1] += end
    kept.insert(at, b"a=rtcp:%d" % rtcp + end)


@dataclass(frozen=True, slots=True)
class _Host:
    """The relay's own address as it is written into lines."""

    address: bytes
    family: bytes | None
    """None for a name: the family that was written stays."""

    @classmethod
    def read(cls, host: str) -> _Host:
        bare = host.removeprefix("[").removesuffix("]")
        if not _HOST.fullmatch(bare):
            raise ValueError(f"not a host: {host!r}")
        if not _is_literal(bare):
            return cls(bare.encode("ascii"), None)
        return cls(bare.encode("ascii"), b"IP6" if ":" in bare else b"IP4")

    def edits(self, found: re.Match[bytes]) -> list[tuple[tuple[int, int], bytes]]:
        """What to replace in a `c=` or `a=rtcp` line. Null and multicast addresses are left alone."""
        if not found["address"] or _is_null(_text(found["address"])) or ("multicast" in found.re.groupindex and found["multicast"]):
            return []
        family = [(found.span("family"), self.family)] if self.family and self.family != found["family"].upper() else []
        return [*family, (found.span("address"), self.address)]


def _splice(line: bytes, edits: list[tuple[tuple[int, int], bytes]]) -> bytes:
    """`line` with spans replaced; `edits` in order of their places."""
    out, at = b"", 0
    for (start, end), new in edits:
        out += line[at:start] + new
        at = end
    return out + line[at:]


def _content(line: bytes) -> bytes:
    return line.rstrip(b"\r\n")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _is_literal(host: str) -> bool:
    return len(host) <= _LONGEST_LITERAL and _is_short_literal(host)


@lru_cache(maxsize=4096)
def _is_short_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_null(host: str) -> bool:
    if host.lower().rstrip(".").endswith(".invalid"):
        return True
    return _is_literal(host) and _is_unspecified(host)


def _is_group(host: str) -> bool:
    return _is_literal(host) and _is_multicast(host)


@lru_cache(maxsize=4096)
def _is_multicast(host: str) -> bool:
    return ipaddress.ip_address(host).is_multicast


@lru_cache(maxsize=4096)
def _is_unspecified(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified


def refusal(offer: Sdp, host: str) -> bytes:
    """The answer of `host`, an IP literal or a name, that takes none of an offer's media.

    RFC 3264 6: each line in its place with port 0, the times of the offer, an origin of our own.
    """
    family = "IP6" if ":" in host else "IP4"
    lines = ["v=0", f"o=- 0 0 IN {family} {host}", "s=-", f"c=IN {family} {host}", *(_times(offer) or ["t=0 0"])]
    lines += [f"m={line.kind} 0 {line.proto} {' '.join(line.formats)}" for line in offer.media]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")


def _times(offer: Sdp) -> list[str]:
    """The lines of a description that say when its session takes place."""
    session = takewhile(lambda line: not line.startswith(b"m="), offer.lines)
    return [_text(_content(line)) for line in session if line.startswith((b"t=", b"r=", b"z="))]
