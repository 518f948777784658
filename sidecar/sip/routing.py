"""Where responses go: the Via of a request on arrival and the way back (RFC 3261 18.2, RFC 3581)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sidecar.sip.fields import Via
from sidecar.sip.flow import Flow
from sidecar.sip.headers import split_list
from sidecar.sip.message import Request

DEFAULT_PORT: Final = 5060
_DEFAULT_PORTS: Final = {"tls": 5061, "ws": 80, "wss": 443}


def stamp_via(request: Request, flow: Flow) -> None:
    """Write into the top Via where the request came from: `received` (18.2.1) and, where asked for, `rport` (RFC 3581 4)."""
    via = request.via
    stamped = via.seen_from(*flow.remote)
    if stamped is via:
        return
    first = request.headers.get("via") or ""
    request.headers.replace_first("via", ", ".join([str(stamped), *split_list(first)[1:]]))
    request.headers.parsed["via"] = stamped


def default_port(transport: str) -> int:
    """The port where a URI or Via names none (19.1.2, RFC 7118 5.2.4)."""
    return _DEFAULT_PORTS.get(transport, DEFAULT_PORT)


def way_back(via: Via, flow: Flow) -> Flow:
    """The flow for responses under a stamped top Via.

    A reliable transport answers on its connection, rport goes to the source, else it is the source address with sent-by's port (18.2.2).
    A maddr parameter is not followed: it would let a stranger aim our responses.
    """
    if flow.reliable or via.wants_rport:
        return flow
    port = via.port or DEFAULT_PORT
    return flow if port == flow.remote[1] else replace(flow, remote=(flow.remote[0], port))
