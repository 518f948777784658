"""Where the session description is inside a body (RFC 2046 multipart, RFC 5621).

The description is cut out by offsets and put back between the same octets, so every other part, the preamble and the boundaries stay as
they arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TYPE = re.compile(r"\s*([^\s/;]+)\s*/\s*([^\s;]+)\s*")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE | re.DOTALL)
_EMPTY_LINE = re.compile(rb"(?:\A|(?<=\n))\r?\n")
_PART_TYPE = re.compile(rb"^content-type[ \t]*:((?:[^\r\n]|\r?\n[ \t])*)", re.IGNORECASE | re.MULTILINE)
_PART_DISPOSITION = re.compile(rb"^content-disposition[ \t]*:\s*([^\s;]+)", re.IGNORECASE | re.MULTILINE)
_PART_LENGTH = re.compile(rb"^(content-length[ \t]*:[ \t]*)\d+", re.IGNORECASE | re.MULTILINE)
_MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class SdpPart:
    """A description and the octets around it in the whole body. `before + body + after` is the body that arrived."""

    body: bytes
    """The description itself."""
    before: bytes = b""
    after: bytes = b""
    header_start: int = 0
    """Offset in `before` at which the part's own header begins."""

    def replace(self, sdp: bytes) -> bytes:
        """The whole body with another description. A Content-Length in the part's own header follows; nothing else changes."""
        outer, header = self.before[: self.header_start], self.before[self.header_start :]
        return outer + _PART_LENGTH.sub(rb"\g<1>%d" % len(sdp), header) + sdp + self.after


def find_sdp(content_type: str | None, body: bytes) -> SdpPart | None:
    """The first `application/sdp` of the session in a body, also inside nested multiparts; None when there is none. Never raises.

    A body without Content-Type counts as a description when it begins like one. A part under a Content-Transfer-Encoding is given as it
    stands: parsing it then says that it is unusable.
    """
    if not body:
        return None
    if content_type is None:
        return SdpPart(body) if body.startswith(b"v=0") else None
    return _find(content_type, body, 0, len(body), 0, _MAX_DEPTH)


def _find(content_type: str, body: bytes, start: int, end: int, header_start: int, depth: int) -> SdpPart | None:
    kind = _TYPE.match(content_type)
    if kind is None:
        return None
    if (kind[1].lower(), kind[2].lower()) == ("application", "sdp"):
        return SdpPart(body[start:end], body[:start], body[end:], header_start) if end > start else None
    boundary = _BOUNDARY.search(content_type)
    if kind[1].lower() != "multipart" or boundary is None or not depth:
        return None
    text = re.sub(r"\\(.)", r"\1", boundary[1], flags=re.DOTALL) if boundary[1] is not None else boundary[2]
    for at, until in _parts(body, start, end, text.encode("utf-8", "surrogateescape")):
        blank = _EMPTY_LINE.search(body[at:until])
        stated = _PART_TYPE.search(body[at : at + blank.end()]) if blank else None
        if blank is None or stated is None or not _is_of_session(body[at : at + blank.end()]):
            continue
        found = _find(stated[1].decode("utf-8", "surrogateescape"), body, at + blank.end(), until, at, depth - 1)
        if found is not None:
            return found
    return None


def _is_of_session(header: bytes) -> bool:
    """Whether a part is for the session (RFC 3261 20.11): an early-session (RFC 3959) or something to be shown is not."""
    disposition = _PART_DISPOSITION.search(header)
    return disposition is None or disposition[1].lower() == b"session"


def _parts(body: bytes, start: int, end: int, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Offsets of each part, its header included. The line end before a delimiter belongs to the delimiter (RFC 2046 section 5.1.1)."""
    delimiter = re.compile(rb"(?:\A|(?<=\n)|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r?\n|\Z)")
    part: int | None = None
    for found in delimiter.finditer(body[start:end]):
        if part is not None:
            yield part, max(part, start + found.start())
        if found[1] is not None:
            return
        part = start + found.end()
    if part is not None:
        yield part, end
