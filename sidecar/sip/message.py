"""Requests and responses, and how octets become one (RFC 3261 7 and 18.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.fields import CSeq, NameAddr, Via, cseq, name_addr, via
from sidecar.sip.headers import KNOWN, Folded, Headers, Item, has_bare_nul, is_token, split_list
from sidecar.sip.reasons import reason_phrase as reason_phrase

MAX_OCTETS: Final = 65536
MAX_HEADER_LINES: Final = 200
_MEMORABLE: Final = 256
"""Characters of a header line that is remembered: long ones are not, so that strangers cannot fill the memory."""
VERSION: Final = "SIP/2.0"
_FIRST_CSEQ_LIMIT: Final = 2**31
"""8.1.1.5: below it a dialog begins. Its later requests count on, past it if need be (12.2.1.1)."""
_MANDATORY: Final = ("from", "to", "call-id", "cseq")  # Via besides, which may come several times; Max-Forwards may be absent (16.3)
_SINGLE: Final = frozenset((*_MANDATORY, "max-forwards", "content-length"))
_SUPERFLUOUS: Final = ";;;"
"""RFC 4475 3.1.2.1: no parameters, several times over."""
# Responses to these create dialogs, so they repeat the Record-Route (12.1.1, 6665, 3515).
_DIALOG_FORMING: Final = frozenset(("INVITE", "SUBSCRIBE", "REFER", "NOTIFY"))


@dataclass(slots=True, eq=False)
class _Message:
    """What requests and responses share. Every accessor parses once per header value and raises MalformedMessage."""

    headers: Headers
    body: bytes

    def _header(self, name: str) -> str:
        value = self.headers.get(name)
        if value is None:
            raise MalformedMessage(f"missing {name}")
        return value

    @property
    def call_id(self) -> str:
        """Call-ID as written."""
        return self._header("call-id")

    @property
    def cseq(self) -> CSeq:
        """Sequence number and method."""
        parsed = self.headers.parsed
        known: CSeq | None = parsed.get("cseq")
        if known is None:
            known = parsed["cseq"] = cseq(self._header("cseq"))
        return known

    @property
    def from_(self) -> NameAddr:
        """From."""
        parsed = self.headers.parsed
        known: NameAddr | None = parsed.get("from")
        if known is None:
            known = parsed["from"] = name_addr(self._header("from"))
        return known

    @property
    def to(self) -> NameAddr:
        """To."""
        parsed = self.headers.parsed
        known: NameAddr | None = parsed.get("to")
        if known is None:
            known = parsed["to"] = name_addr(self._header("to"))
        return known

    @property
    def from_tag(self) -> str | None:
        """Tag of From; None for a peer of RFC 2543."""
        return self.from_.tag

    @property
    def to_tag(self) -> str | None:
        """Tag of To; None outside a dialog."""
        return self.to.tag

    @property
    def contact(self) -> NameAddr | None:
        """First Contact, or None. Not every message needs one, so nonsense there is found here and not by `parse` (8.2)."""
        raw = self.headers.get("contact")
        if raw is None:
            return None
        parsed = self.headers.parsed
        known: NameAddr | None = parsed.get("contact")
        if known is None:
            elements = split_list(raw)
            known = parsed["contact"] = name_addr(elements[0] if elements else "")
        return known

    @property
    def via(self) -> Via:
        """Topmost Via."""
        parsed = self.headers.parsed
        known: Via | None = parsed.get("via")
        if known is None:
            elements = split_list(self._header("via"))
            known = parsed["via"] = via(elements[0] if elements else "")
        return known

    @property
    def content_type(self) -> str | None:
        """Media type of the body without parameters, in lower case; None when the header is absent."""
        raw = self.headers.get("content-type")
        return None if raw is None else raw.partition(";")[0].strip().lower()

    def _encode(self, start: str) -> bytes:
        if "\r" in start or "\n" in start:
            raise ValueError("line break in the start line")
        return f"{start}\r\n{self.headers.encode(len(self.body))}\r\n".encode("utf-8", "surrogateescape") + self.body


@dataclass(slots=True, eq=False, init=False)
class Request(_Message):
    """A request. `uri` is the Request-URI as written."""

    method: str
    uri: str

    def __init__(self, method: str, uri: str, headers: Headers | Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        """`headers` that are not a Headers yet raise ValueError like `Headers.add`."""
        self.method = method
        self.uri = uri
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards; None when it is absent. Raises MalformedMessage."""
        raw = self.headers.get("max-forwards")
        return None if raw is None else _number(raw, 255, "Max-Forwards")

    def encode(self) -> bytes:
        """Octets for the wire, Content-Length fresh. ValueError when the start line holds a line break."""
        return self._encode(f"{self.method} {self.uri} {VERSION}")

    def copy(self) -> Request:
        """An independent copy."""
        return Request(self.method, self.uri, self.headers.copy(), self.body)


@dataclass(slots=True, eq=False, init=False)
class Response(_Message):
    """A response."""

    status: int
    reason: str

    def __init__(self, status: int, reason: str, headers: Headers | Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        """`headers` that are not a Headers yet raise ValueError like `Headers.add`."""
        self.status = status
        self.reason = reason
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body

    def encode(self) -> bytes:
        """Octets for the wire, Content-Length fresh. ValueError when the start line holds a line break."""
        return self._encode(f"{VERSION} {self.status} {self.reason}")

    def copy(self) -> Response:
        """An independent copy."""
        return Response(self.status, self.reason, self.headers.copy(), self.body)


Message = Request | Response


def parse(data: bytes) -> Request | Response | None:
    """One datagram as a message; None for a keepalive (nothing but CR, LF, NUL or space; RFC 5626 3.5.1, and what phones send).

    Checks all that 8.1.1 and 18.3 demand of every message, so that the accessors of what comes back do not raise (`contact` apart). A body
    is cut to Content-Length; without one it is the rest of the datagram. MalformedMessage has status 400, 413 or 505 for a request and
    None for a response, because responses are never answered.
    """
    if not data.strip(b"\r\n\0 "):
        return None
    data = data.lstrip(b"\r\n")  # 7.5: leading CRLFs are ignored
    if data[:4].upper() != b"SIP/":
        return _parse_request(data)
    try:
        return _parse_response(data)
    except MalformedMessage as error:
        raise MalformedMessage(error.detail, None) from error


def _parse_request(data: bytes) -> Request:
    start, lines, body = _split(data)
    words = start.split(" ")
    if len(words) != 3 or not is_token(words[0]) or not words[1]:
        raise MalformedMessage("malformed request line")
    method, uri, version = words
    if version.upper() != VERSION:
        raise MalformedMessage("malformed SIP version", 505 if version[:4].upper() == "SIP/" else 400)
    if uri[0] in '<"' or "\0" in uri:
        raise MalformedMessage("malformed Request-URI")
    items, firsts = _header_items(lines)
    request = Request(method, uri, Headers.of_parsed(items), _body(body, firsts))
    _validate(request, firsts)
    if request.cseq.method != method:
        raise MalformedMessage("CSeq method differs from the request's")
    if request.cseq.number >= _FIRST_CSEQ_LIMIT and request.to_tag is None:
        raise MalformedMessage("CSeq number out of range")
    if "max-forwards" in firsts:
        _number(firsts["max-forwards"], 255, "Max-Forwards")
    return request


def _parse_response(data: bytes) -> Response:
    start, lines, body = _split(data)
    version, _, rest = start.partition(" ")
    code, _, reason = rest.partition(" ")
    if version.upper() != VERSION or len(code) != 3 or not code.isascii() or not code.isdigit() or not "100" <= code <= "699":
        raise MalformedMessage("malformed status line")
    items, firsts = _header_items(lines)
    response = Response(int(code), reason, Headers.of_parsed(items), _body(body, firsts))
    _validate(response, firsts)
    return response


def _split(data: bytes) -> tuple[str, list[str], bytes]:
    """Start line, header lines, and all that follows the empty line."""
    if len(data) > MAX_OCTETS:
        raise MalformedMessage("message too large", 413)
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        raise MalformedMessage("no empty line after the headers")
    text = head.decode("utf-8", "surrogateescape")
    lines = text.split("\r\n")
    breaks = len(lines) - 1
    # A lone CR or LF would let one peer's header value become another peer's header line.
    if text.count("\n") != breaks or text.count("\r") != breaks:
        raise MalformedMessage("lone CR or LF among the headers")
    if "\0" in text and has_bare_nul(text):
        raise MalformedMessage("NUL among the headers")
    start = lines.pop(0)
    if len(lines) > MAX_HEADER_LINES:
        raise MalformedMessage("too many header lines")
    folded = "\r\n " in text or "\r\n\t" in text
    return start, _joined(lines) if folded else lines, body


def _header_items(lines: list[str]) -> tuple[list[Item], dict[str, str]]:
    """Header lines as items, and the value of each header that may stand only once."""
    items: list[Item] = []
    firsts: dict[str, str] = {}
    for line in lines:
        item = _remembered_item(line) if len(line) <= _MEMORABLE else _item(line)
        key = item[0]
        if key in _SINGLE:
            if key in firsts:
                raise MalformedMessage(f"more than one {key}")
            firsts[key] = item[2]
        items.append(item)
    return items, firsts


def _item(line: str) -> Item:
    """One header line. Most lines of a call stand in several of its messages, and some in every call's."""
    name, colon, value = line.partition(":")
    key = KNOWN.get(name)
    if key is None or not colon:
        name = name.rstrip(" \t")  # `Subject : x` is legal (7.3.1)
        if not colon or not is_token(name):
            raise MalformedMessage("malformed header line")
        key = KNOWN.get(name) or name.lower()
    value = value.strip(" \t\r\n")
    return key, name, Folded(value) if "\r" in value else value


_remembered_item: Final = lru_cache(maxsize=4096)(_item)


def _joined(lines: list[str]) -> list[str]:
    """One entry a header: continuation lines are joined to theirs with the CRLF kept (7.3.1)."""
    joined: list[list[str]] = []
    for line in lines:
        if line[:1] not in (" ", "\t"):
            joined.append([line])
        elif joined:
            joined[-1].append(line)
        else:
            raise MalformedMessage("continuation line without a header")
    return ["\r\n".join(parts) for parts in joined]


def _validate(message: Request | Response, firsts: dict[str, str]) -> None:
    for key in _MANDATORY:
        if not firsts.get(key):
            raise MalformedMessage(f"missing {key}")
    # Parsed here and cached: what passes never raises later, far from the edge.
    _ = message.via, message.cseq, message.from_, message.to
    if _SUPERFLUOUS in (raw := message.headers.get("via") or "") and '"' not in raw:
        raise MalformedMessage("superfluous separators")


def _body(rest: bytes, firsts: dict[str, str]) -> bytes:
    """18.3: what lies beyond Content-Length is dropped, a body that falls short is an error."""
    stated = firsts.get("content-length")
    if stated is None:
        return rest
    length = _number(stated, 10 * MAX_OCTETS, "Content-Length")
    if length > len(rest):
        raise MalformedMessage("body shorter than Content-Length")
    return rest[:length]


def _number(text: str, limit: int, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > limit:
        raise MalformedMessage(f"malformed {what}")
    return int(text)


def response_to(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """The response that 8.2.6 builds from `request`; `to_tag` is added where To has none.

    Record-Route is copied into a 101–299 that can form a dialog (12.1.1), Timestamp into a 100 (8.2.6.1). Then come `headers`, as given.
    """
    copied: list[Item] = []
    record_route = 100 < status < 300 and request.method in _DIALOG_FORMING
    for item in request.headers.lines():
        key, name, value = item
        if key == "to" and to_tag and request.to_tag is None:
            copied.append((key, name, f"{value};tag={to_tag}"))
        elif (
            key in ("via", "from", "to", "call-id", "cseq")
            or (key == "record-route" and record_route)
            or (key == "timestamp" and status == 100)
        ):
            copied.append(item)
    response = Response(status, reason_phrase(status) if reason is None else reason, Headers.of_parsed(copied), body)
    known = request.headers.parsed
    response.headers.parsed = {key: known[key] for key in ("via", "cseq", "from") if key in known}
    for name, value in headers:
        response.headers.add(name, value)
    if content_type is not None:
        response.headers.set("Content-Type", content_type)
    return response
