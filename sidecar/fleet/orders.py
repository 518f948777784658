"""What control can have a sidecar do: verify an edge, hang up a call, let somebody listen in, keep packets, drain."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, assert_never

from control.contract.fleet import CaptureOrder, DrainOrder, HangUpOrder, ListenOrder, Order, SidecarState, SnapshotSent, VerifyOrder
from sidecar.audience import MOST, Full
from sidecar.b2bua.routes import fits
from sidecar.identity.digest import Credentials
from sidecar.net.errors import StartError
from sidecar.net.tls import TlsSettings
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.uri import SipUri
from sidecar.verify.run import verify
from sidecar.verify.steps import Step

Tell = Callable[[dict[str, Any]], None]


class Refused(Exception):
    """An order that is not carried out. `status`: the HTTP status that fits; the text says what to do."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Host(Protocol):
    """The sidecar as its fleet client sees it."""

    def state(self) -> SidecarState:
        """What a beat tells, but for the clock."""

    async def take(self, sent: SnapshotSent) -> str | None:
        """Take a snapshot; why not, or None."""

    def hang_up(self, call: str, by: str) -> bool:
        """End a live call; False when there is none of this id."""

    def listen(self, call: str, by: str) -> AsyncIterator[bytes] | None:
        """The audio of a live call from now on; None when there is none of this id."""

    def capture(self, call: str, by: str) -> bool:
        """Keep the packets of a live call; False when there is none of this id."""

    def drain(self) -> int:
        """Take no new call, stop when the live ones have ended; how many those are."""

    def verify_hosts(self) -> Sequence[str]:
        """Hosts that may be dialled for a verification."""

    def verify_tls(self) -> TlsSettings:
        """With which authorities."""


async def carry_out(order: Order, host: Host, tell: Tell) -> dict[str, Any]:
    """Do it and give the result; `tell` hears of each step. Raises Refused."""
    match order:
        case VerifyOrder():
            return await _verify(order, host, tell)
        case HangUpOrder(call=call, by=by):
            if not host.hang_up(call, by):
                raise Refused(409, "this call is not live at its sidecar any more")
            return {"call": call}
        case ListenOrder(call=call, by=by):
            await _listen(host.listen(call, by), tell)
            return {"call": call}
        case CaptureOrder(call=call, by=by):
            if not host.capture(call, by):
                raise Refused(409, "this call is not live at its sidecar any more")
            return {"call": call}
        case DrainOrder():
            return {"live_calls": host.drain()}
        case _ as never:
            assert_never(never)


async def _listen(pieces: AsyncIterator[bytes] | None, tell: Tell) -> None:
    """Tell each piece of audio, until the call ends or nobody waits any more."""
    if pieces is None:
        raise Refused(409, "this call is not live at its sidecar any more")
    try:
        async for piece in pieces:
            tell({"audio": b64encode(piece).decode()})
    except Full:
        raise Refused(409, f"{MOST} listen to this call already, which is as many as may") from None


async def _verify(order: VerifyOrder, host: Host, tell: Tell) -> dict[str, Any]:
    """Only listed hosts: else whoever may ask could have any address dialled from inside the network that the sidecar is in."""
    allowed = host.verify_hosts()
    try:
        uri = SipUri.parse(order.uri)
    except MalformedMessage:
        uri = None  # dials nobody, and the report says what is wrong with it
    if uri is not None and (stranger := _not_listed(uri, allowed)) is not None:
        mend = "add a route to it, or name it in policies.verify.hosts of PUT /v1/routes or in fleet.verify of the sidecar's file"
        raise Refused(403, f"{stranger} may not be dialled for a verification: {mend}; may be dialled: {', '.join(allowed) or 'none'}")
    credentials = Credentials(order.username, order.password or "") if order.username is not None else None

    def progress(step: Step) -> None:
        tell(step.as_json())

    try:
        report = await verify(order.uri, credentials, timeout_s=order.timeout_s, tls=host.verify_tls(), progress=progress)
    except StartError as error:
        raise Refused(409, str(error)) from error
    return report.as_json()


def _not_listed(uri: SipUri, allowed: Sequence[str]) -> str | None:
    # 19.1.1: maddr overrides the host for whoever sends the request.
    hosts = [host for host in (uri.host, uri.param("maddr")) if host]
    return next((host for host in hosts if not any(fits(_bare(host), _bare(pattern)) for pattern in allowed)), None)


def _bare(host: str) -> str:
    return host.lower().strip("[]")
