"""When a target does not answer: does the same address speak SIP over another transport?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from sidecar.net.errors import StartError
from sidecar.net.tls import TlsSettings
from sidecar.sip.message import Response
from sidecar.sip.routing import default_port
from sidecar.sip.targets import Target
from sidecar.verify.caller import USER_AGENT, Caller, options
from sidecar.verify.findings import Finding, finding
from sidecar.verify.reach import local_address

PATIENCE_S = 2.0
_PREFERRED = ("udp", "tcp", "tls")


async def elsewhere(uri: str, failed: Target, tried: str, settings: TlsSettings, within: float) -> Finding | None:
    """The finding that names a transport that works in place of `failed`, or None. `tried` says in words how `failed` failed."""
    others = list(_others(failed))
    answers = await asyncio.gather(*(_speaks_sip(uri, other, settings, min(within, PATIENCE_S)) for other in others))
    found = next((other for other, speaks in zip(others, answers, strict=True) if speaks), None)
    if found is None:
        return None
    name = found.transport.upper()
    port = "" if found.port == failed.port or found.port == default_port(found.transport) else f" and port {found.port}"
    mend = f"add ;transport={found.transport}{port} to the URI"
    if failed.transport != "udp" and found.transport == "udp":
        mend = f"take ;transport={failed.transport} off the URI{port.replace(' and', ' and give')}"
    return finding("other_transport", found=name, tried=tried, port=found.port, mend=mend)


def _others(failed: Target) -> Iterator[Target]:
    """The other transports at the same port, then at their own."""
    for transport in _PREFERRED:
        if transport != failed.transport:
            for port in dict.fromkeys((failed.port, default_port(transport))):
                yield replace(failed, transport=transport, port=port)


async def _speaks_sip(uri: str, target: Target, settings: TlsSettings, within: float) -> bool:
    """Whether an OPTIONS is answered. Over TLS anybody is believed: nothing secret is said."""
    caller = Caller(target, replace(settings, verify=False))
    try:
        await caller.open(local_address(target.remote))
        return isinstance(await caller.ask(options(uri, caller, USER_AGENT), within), Response)
    except (OSError, StartError):
        return False
    finally:
        await caller.close()
