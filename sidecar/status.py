"""What the admin port sees of a running sidecar."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client.core import Metric

from sidecar.admin import LiveCall, counter, gauge

if TYPE_CHECKING:
    from sidecar.app import Sidecar


class Status:
    """An `AdminState` over one `Sidecar`."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def not_ready(self) -> Sequence[str]:
        """Why no new call should be sent here."""
        reasons = []
        if self._sidecar.engine.draining:
            reasons.append("the sidecar is draining")
        if not self._sidecar.config.routes:
            reasons.append("there is nothing to dial: the file has no routes, and control has sent none yet")
        if self._sidecar.pool.free < 2:
            reasons.append("no RTP port pairs are free: widen media.ports")
        if (relays := self._sidecar.relays) is not None and not any(server.is_up for server in relays.servers):
            reasons.append("no media relay answers: see media.rtpengine.servers")
        if (problem := self._sidecar.reporter.spool.problem()) is not None:
            reasons.append(problem)
        return reasons

    def calls(self) -> Sequence[LiveCall]:
        """The live calls, in the order in which they began."""
        return [
            session.live(self._sidecar.engine.calls.get(call)) for call, session in self._sidecar.sessions.items() if session.ended is None
        ]

    def metrics(self) -> Iterable[Metric]:
        """Counters, gauges and distributions."""
        engine = self._sidecar.engine
        yield gauge("trunkside_calls_live", "Calls that are not over", len(engine.calls))
        yield gauge("trunkside_new_calls_share", "Share of new calls that is let in: below 1 under overload", engine.valve.share)
        yield counter("trunkside_calls_ended", "Calls by how they ended", self._sidecar.ended, "reason")
        yield counter("trunkside_sip_events", "Messages that became no call, by cause", engine.counts, "event")
        yield counter("trunkside_identity_findings", "What was odd about the identity of calls", engine.findings, "name")
        yield counter(
            "trunkside_analysis_deaths", "Times that the analysis process died and was started again", self._sidecar.analysis.deaths
        )
        yield gauge("trunkside_rtp_port_pairs_free", "RTP port pairs that are free", self._sidecar.pool.free)
        if (relays := self._sidecar.relays) is not None:
            up = sum(server.is_up for server in relays.servers)
            yield gauge("trunkside_media_relays_up", "Instances of rtpengine that answer", up)
        if (fleet := self._sidecar.fleet) is not None:
            yield gauge("trunkside_fleet_connected", "Whether control is connected", float(fleet.connected))
        spool = self._sidecar.reporter.spool.describe()
        for name, value in spool.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield gauge(f"trunkside_spool_{name}", f"Spool: {name.replace('_', ' ')}", value)
        recordings = self._sidecar.recordings
        yield gauge("trunkside_recordings_waiting", "Recordings and captures that control does not have yet", recordings.waiting)
        yield counter("trunkside_recordings_uploaded", "Recordings and captures that control took", recordings.uploaded)
        yield counter("trunkside_recordings_refused", "Recordings and captures that control will not take", recordings.refused)
        yield from self._sidecar.figures.collect()

    def describe(self) -> Mapping[str, Any]:
        """The state of every engine."""
        return {
            "sip": self._sidecar.listening,
            "engine": self._sidecar.engine.describe(),
            "rtp_port_pairs_free": self._sidecar.pool.free,
            "media_relays": self._sidecar.relays.describe() if self._sidecar.relays is not None else None,
            "analysis": self._sidecar.analysis.describe(),
            "reporter": self._sidecar.reporter.describe(),
            "transports": self._sidecar.transports.describe(),
            "resolver": self._sidecar.resolver.describe(),
            "exports": self._sidecar.exports.describe(),
            "configuration": self._sidecar.configuration.describe(),
            "fleet": self._sidecar.fleet.describe() if self._sidecar.fleet is not None else None,
            "recordings": self._sidecar.recordings.describe(),
            # What must not grow with the calls that were: resident memory also tells what the allocator keeps for later.
            "process": {"allocated_blocks": sys.getallocatedblocks(), "tasks": len(asyncio.all_tasks())},
        }

    def drain(self) -> None:
        """Take no new call, end when the live ones have."""
        self._sidecar.stopping.set()

    async def drained(self) -> None:
        """Wait until a drain was asked for and the last call is over."""
        await self._sidecar.stopping.wait()
        await self._sidecar.idle.wait()
