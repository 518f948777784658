"""Requests and responses for the tests of this folder."""

from __future__ import annotations

from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, Response


def challenged(status: int, *challenges: str, header: str | None = None) -> Response:
    """A 401 or 407 with one challenge header a value."""
    name = header or ("WWW-Authenticate" if status == 401 else "Proxy-Authenticate")
    return Response(status, "Unauthorized", Headers((name, value) for value in challenges), b"")


def ok(*headers: tuple[str, str]) -> Response:
    """A 200."""
    return Response(200, "OK", Headers(headers), b"")


def request(
    *headers: tuple[str, str], method: str = "INVITE", uri: str = "sip:agent@edge.example", call_id: str = "c1@example.net"
) -> Request:
    """A request with a Call-ID and the given headers."""
    return Request(method, uri, Headers([("Call-ID", call_id), ("CSeq", f"1 {method}"), *headers]), b"")
