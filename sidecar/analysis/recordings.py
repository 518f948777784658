"""What is kept of calls besides their figures: audio, and packets as they passed. All of it in one folder of bounded size."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from control.contract import capture as pcap
from control.contract.call import Capture, Recording, RecordingFormat
from sidecar.analysis.folder import Folder, Form
from sidecar.analysis.ogg import Ogg
from sidecar.analysis.wav import Wav
from sidecar.analysis.work import Captured
from sidecar.clocks import Addr
from sidecar.media.decode import RATE
from sidecar.media.relay import Leg
from sidecar.media.wire import Flow

_FRAME_BYTES: Final = 4
_CAPTURE: Final = ".pcap"


class Pcap:
    """The form of a capture. One that nobody finished ends within a packet, where its readers stop."""

    def begin(self, file: BinaryIO) -> PcapWriter:
        """With the header of a file."""
        file.write(pcap.HEADER)
        return PcapWriter(file)

    def mend(self, file: BinaryIO) -> None:
        """There is nothing to mend."""


class PcapWriter:
    """Records as they are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def most(self, content: bytes) -> int:
        """Just as much."""
        return len(content)

    def add(self, content: bytes) -> None:
        """Add records."""
        self._file.write(content)

    def seal(self) -> None:
        """Nothing is missing."""


_FORMS: Final[dict[str, Form]] = {".wav": Wav(), ".ogg": Ogg(), _CAPTURE: Pcap()}


@dataclass(slots=True)
class _Capturing:
    packets: int = 0
    dropped: int = 0
    decrypted: set[Leg] = field(default_factory=set)
    ways: dict[Flow, tuple[pcap.Way, pcap.Way]] = field(default_factory=dict)


class Recordings:
    """By call: `<call>.wav` or `<call>.ogg`, and `<call>.pcap`."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = Folder(folder, most_bytes, _FORMS)
        self._seconds: dict[str, float] = {}
        self._capturing: dict[str, _Capturing] = {}

    def append(self, call: str, form: RecordingFormat, frames: bytes) -> None:
        """Add to a call's recording; the first time, begin it."""
        if self._folder.append(f"{call}.{form}", frames):
            self._seconds[call] = self._seconds.get(call, 0.0) + len(frames) / (RATE * _FRAME_BYTES)

    def finish(self, call: str, form: RecordingFormat) -> Recording | None:
        """The recording is whole; None where there is none."""
        seconds = self._seconds.pop(call, 0.0)
        kept = self._folder.finish(f"{call}.{form}")
        if kept is None:
            return None
        return Recording(format=form, seconds=round(seconds, 3), bytes=kept.bytes, sha256=kept.sha256, cut=kept.cut)

    def capture(self, call: str, captured: Captured) -> None:
        """Add to a call's capture: each packet as it came on one leg and as it left on the other."""
        known = self._capturing.setdefault(call, _Capturing())
        known.dropped = captured.dropped
        known.decrypted |= captured.decrypted
        records = []
        for flow, data, arrival in captured.packets:
            at_ns = round((arrival + captured.wall_offset) * 1e9)
            ways = known.ways.get(flow)
            if ways is None:
                ways = known.ways[flow] = _ways(flow)
            records += [pcap.record(at_ns, way.datagram(data)) for way in ways]
        if self._folder.append(f"{call}{_CAPTURE}", b"".join(records)):
            known.packets += len(captured.packets)

    def captured(self, call: str) -> Capture | None:
        """The capture is whole; None where there is none."""
        known, kept = self._capturing.pop(call, None), self._folder.finish(f"{call}{_CAPTURE}")
        if known is None or kept is None:
            return None
        return Capture(
            packets=known.packets,
            bytes=kept.bytes,
            sha256=kept.sha256,
            cut=kept.cut,
            dropped=known.dropped,
            decrypted=["caller" if leg == "A" else "agent" for leg in sorted(known.decrypted)],
        )


def _ways(flow: Flow) -> tuple[pcap.Way, pcap.Way]:
    return pcap.Way(_end(flow.source), _end(flow.local)), pcap.Way(_end(flow.out), _end(flow.destination))


def _end(addr: Addr) -> pcap.End:
    host, port = addr
    return pcap.end(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
