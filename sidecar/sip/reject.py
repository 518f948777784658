"""Stateless answers (RFC 3261 8.2.7): to a request that is too broken for a transaction, and to one that is worth none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.events import Send
from sidecar.sip.fields import name_addr
from sidecar.sip.flow import Flow
from sidecar.sip.headers import Headers, is_token, key_of
from sidecar.sip.message import Request, Response, reason_phrase, response_to
from sidecar.sip.routing import stamp_via, way_back

_COPIED: Final = {"via": "Via", "from": "From", "to": "To", "call-id": "Call-ID", "cseq": "CSeq"}
_MAX_LINES: Final = 64
_MAX_OCTETS: Final = 8192
"""An answer never needs more, and a stranger gets no bigger echo."""


def reject(data: bytes, error: MalformedMessage, flow: Flow) -> Send | None:
    """The response with `error.status` to the octets that `parse` refused, or None when nothing can or may be answered.

    None for responses, ACK (17.1.1.3), an error without status, a request without a usable Via, and one that lacks From, To, Call-ID or
    CSeq: 8.2.6.2 wants each of them in a response, and nobody could tell what a response without one belongs to.
    """
    if error.status is None:
        return None
    data = data.lstrip(b"\r\n")
    head, ended, _ = data[:_MAX_OCTETS].partition(b"\r\n\r\n")
    start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    if not ended and len(data) > _MAX_OCTETS:
        lines = lines[:-1]  # cut in the middle
    method = start.partition(" ")[0]
    if not is_token(method) or method == "ACK" or start[:4].upper() == "SIP/":
        return None
    request = Request(method, "", _usable(lines))
    try:
        stamp_via(request, flow)
        back = way_back(request.via, flow)
    except MalformedMessage:
        return None
    if any(name not in request.headers for name in _COPIED):
        return None
    _add_tag(request, data)
    response = Response(error.status, f"{reason_phrase(error.status)} ({error.detail})", request.headers)
    return Send(response.encode(), back, None, retransmission=False, message=response)


def answer_once(request: Request, data: bytes, status: int, headers: Iterable[tuple[str, str]], flow: Flow) -> Send:
    """The response to a request under a stamped Via, which came as `data`: sent once, and forgotten (26.3.2.4)."""
    response = response_to(request, status, to_tag=_tag_of(data), headers=headers)
    return Send(response.encode(), way_back(request.via, flow), None, retransmission=False, message=response)


def _usable(lines: list[str]) -> Headers:
    """The lines that a response repeats, each single header once, without anything that could break a line."""
    headers = Headers()
    joined: list[str] = []
    for line in lines[:_MAX_LINES]:
        if line[:1] in (" ", "\t") and joined:
            joined[-1] += " " + line.strip(" \t")
        else:
            joined.append(line)
    for line in joined:
        name, colon, value = line.partition(":")
        written = _COPIED.get(key_of(name.rstrip(" \t")))
        if not colon or written is None or (written != "Via" and written in headers):
            continue
        if not any(char in value for char in "\r\n\0"):
            headers.add(written, value.strip(" \t"))
    return headers


def _add_tag(request: Request, data: bytes) -> None:
    """8.2.6.2 wants a To tag and 8.2.7 that a stateless answer has the same one each time: it is drawn from the request itself."""
    raw = request.headers.get("to")
    if not raw:
        return
    try:
        tagged = name_addr(raw).tag is not None
    except MalformedMessage:
        return
    if not tagged:
        request.headers.set("To", f"{raw};tag={_tag_of(data)}")


def _tag_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
