"""The copies that leave a sidecar besides its traces: SIP messages to a capture server (HEPv3), spans of each call to a collector (OTLP).

It stands between the sessions and the reporter, so a session knows nothing of it. Neither copy can delay or fail a call.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.b2bua import effects as e
from sidecar.config import SidecarConfig
from sidecar.net.clock import wall
from sidecar.net.hep import HepExporter
from sidecar.net.otlp import CallExporter
from sidecar.session import Sink


class Exports:
    """A `Sink` that passes everything on and copies what is configured."""

    def __init__(self, config: SidecarConfig, sink: Sink) -> None:
        self._sink = sink
        self._hep = HepExporter(config.hep.server, config.hep.id) if config.hep.server is not None else None
        self._otlp = CallExporter(config.otlp.endpoint, config.name) if config.otlp.endpoint is not None else None
        self._call_ids: dict[str, str] = {}
        self._lines: dict[str, list[bytes]] = {}

    async def start(self) -> None:
        """Begin to export. Raises StartError when the environment asks the collector's client for what it cannot do."""
        if self._otlp is not None:
            await self._otlp.start()
        if self._hep is not None:
            await self._hep.start()

    async def stop(self) -> None:
        """Send what is queued, within a few seconds."""
        if self._otlp is not None:
            await self._otlp.stop()
        if self._hep is not None:
            await self._hep.stop()

    def append(self, call: str, facts: Sequence[bytes]) -> None:
        """Lines of a trace."""
        self._sink.append(call, facts)
        if self._otlp is not None:
            self._lines.setdefault(call, []).extend(facts)

    def close(self, call: str) -> None:
        """The trace is complete."""
        self._sink.close(call)
        self._call_ids.pop(call, None)
        if self._otlp is not None:
            self._otlp.finished(self._lines.pop(call, []))

    def sip(self, fact: e.Started | e.Message) -> None:
        """Copy a message to the capture server. Both legs carry the caller's Call-ID as correlation id, so that they are found together."""
        if self._hep is None:
            return
        match fact:
            case e.Started():
                self._call_ids[fact.call] = fact.sip_call_id
            case e.Message():
                self._hep.message(fact, self._call_ids.get(fact.call, ""), wall())

    def describe(self) -> dict[str, object]:
        """Counts of what left and what was dropped, for the admin API."""
        return {
            "hep": self._hep.describe() if self._hep is not None else None,
            "otlp": self._otlp.describe() if self._otlp is not None else None,
        }
