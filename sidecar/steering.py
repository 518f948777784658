"""What control sees and does of a running sidecar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import structlog

from control.contract.fleet import SidecarState, SnapshotSent
from sidecar.b2bua import outcome as o
from sidecar.net.tls import TlsSettings
from sidecar.status import Status

if TYPE_CHECKING:
    from sidecar.app import Sidecar

log = structlog.get_logger()

_DROPS = {"lost_facts": "facts", "late_facts": "late_facts", "untraced_calls": "traces", "rejected_facts": "refused_facts"}
"""Counts of the spool, and what they are called among the drops."""


class Steering:
    """A `fleet.orders.Host` over one `Sidecar`."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._status = Status(sidecar)

    def state(self) -> SidecarState:
        """What a beat tells, but for the clock."""
        sidecar = self._sidecar
        spool = sidecar.reporter.spool.describe()
        drops = {shown: int(spool[name]) for name, shown in _DROPS.items()}
        drops["analysed_packets"] = sidecar.tap_dropped + sum(session.tap_dropped for session in sidecar.sessions.values())
        drops["refused_messages"] = sum(sidecar.engine.counts[name] for name in ("malformed", "stray", "untrusted-source"))
        return SidecarState(
            live_calls=len(sidecar.engine.calls),
            ended_calls=dict(sidecar.ended),
            drops=drops,
            not_ready=list(self._status.not_ready()),
            draining=sidecar.stopping.is_set(),
            routes=[route.name for route in sidecar.config.routes],
            verify_hosts=sidecar.configuration.verify_hosts(),
            configuration=sidecar.configuration.told(),
        )

    async def take(self, sent: SnapshotSent) -> str | None:
        """Take a snapshot; why not, or None."""
        return await self._sidecar.configuration.take(sent)

    def hang_up(self, call: str, by: str) -> bool:
        """End a live call."""
        log.info("hang-up ordered", call=call, by=by)
        return self._sidecar.hang_up(call, o.ordered(by))

    def listen(self, call: str, by: str) -> AsyncIterator[bytes] | None:
        """The audio of a live call from now on."""
        log.info("listening ordered", call=call, by=by)
        return self._sidecar.listen(call)

    def capture(self, call: str, by: str) -> bool:
        """Keep the packets of a live call."""
        log.info("capture ordered", call=call, by=by)
        return self._sidecar.capture(call)

    def drain(self) -> int:
        """Take no new call, stop when the live ones have ended."""
        log.info("drain ordered")
        self._status.drain()
        return len(self._sidecar.engine.calls)

    def verify_hosts(self) -> Sequence[str]:
        """Hosts that may be dialled for a verification."""
        return self._sidecar.configuration.verify_hosts()

    def verify_tls(self) -> TlsSettings:
        """The authorities of the configuration, and no certificate of ours: evaluators have none to show."""
        tls = self._sidecar.config.sip.tls
        return TlsSettings(ca=tls.ca, verify=tls.verify, wildcards=tls.wildcards)
