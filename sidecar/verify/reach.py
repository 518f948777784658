"""Whether anything listens at a target: UDP as far as ICMP tells, TCP, and TLS with its certificate."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

from sidecar.clocks import Addr
from sidecar.net.tcp import reason_of
from sidecar.net.tls import TlsSettings
from sidecar.net.udp import SipSocket
from sidecar.sip.flow import Flow
from sidecar.sip.targets import Target
from sidecar.verify.certificate import inspect
from sidecar.verify.findings import Finding, finding
from sidecar.verify.steps import Facts

ICMP_S = 0.15
"""How long a closed UDP port is given to say so. A later refusal still ends the request that meets it."""
# Ignored by every SIP element (RFC 3261 7.5), and enough to make a closed port speak.
_NUDGE = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Reached:
    """What became of one target. `local` is our address towards it, empty when there is no way."""

    target: Target
    local: str
    detail: str
    facts: Facts = ()
    findings: tuple[Finding, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent there."""
        return all(found.name == "tls_expires_soon" for found in self.findings)


async def reach(target: Target, origin: str, settings: TlsSettings, within: float) -> Reached:
    """Try one target. `origin` begins the sentence about a closed port."""
    try:
        local = local_address(target.remote)
    except OSError as error:
        return Reached(target, "", "no way there", findings=(finding("unreachable", target=target, why=reason_of(error)),))
    if target.transport == "udp":
        if await udp_is_closed(local, target.remote):
            return Reached(target, local, "closed", findings=(udp_closed(target, origin),))
        return Reached(target, local, "nothing refuses UDP there")
    refusal = await _reach_tcp(target, origin, local, within)
    if refusal is not None:
        return Reached(target, local, "no connection", findings=(refusal,))
    if target.transport == "tcp":
        return Reached(target, local, "TCP connected")
    inspected = await inspect(target.remote, target.host, settings, within)
    detail = "TLS connected" if inspected.usable else "TLS refused"
    return Reached(target, local, detail, inspected.facts, inspected.findings)


def udp_closed(target: Target, origin: str) -> Finding:
    """ICMP said that nobody listens."""
    return finding("udp_closed", origin=origin, port=target.port, addr=target.addr)


def local_address(remote: Addr) -> str:
    """Our address on the way to `remote`. OSError when there is no way."""
    with socket.socket(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(remote)
        host: str = probe.getsockname()[0]
        return host


async def udp_is_closed(local: str, remote: Addr, patience: float = ICMP_S) -> bool:
    """Whether ICMP refuses a datagram to `remote` within `patience` seconds. False says little: firewalls drop without a word."""
    refused = asyncio.Event()

    def ignore(_data: bytes, _flow: Flow) -> None:
        """Whatever comes back is no refusal."""

    sock = await SipSocket.open((local, 0), ignore, lambda _flow: refused.set())
    try:
        sock.send(_NUDGE, Flow("udp", sock.local, remote))
        async with asyncio.timeout(patience):
            await refused.wait()
    except TimeoutError:
        return False
    finally:
        sock.close()
        await asyncio.sleep(0)  # the loop closes a socket in its next turn
    return True


async def tcp_refusal(remote: Addr, within: float) -> str | None:
    """Why no TCP connection to `remote` can be made; "" when it takes longer than `within` seconds, None when it can."""
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(*remote)
    except TimeoutError:
        return ""
    except OSError as error:
        return "refused" if isinstance(error, ConnectionRefusedError) else reason_of(error)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def _reach_tcp(target: Target, origin: str, local: str, within: float) -> Finding | None:
    why = await tcp_refusal(target.remote, within)
    if why is None:
        return None
    if why == "":
        return finding("tcp_timeout", origin=origin, port=target.port, addr=target.addr, seconds=f"{within:g}", local=local)
    if why == "refused":
        return finding("tcp_refused", origin=origin, port=target.port, addr=target.addr)
    return finding("unreachable", target=target, why=why)
