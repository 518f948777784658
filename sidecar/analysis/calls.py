"""The measurements of all calls that are being analysed. Pure: requests in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import Final, Protocol, assert_never

from control.contract.call import Recording, Turn
from sidecar.analysis.work import Accurate, Answered, Ended, Figures, Finish, Hold, Look, Negotiated, Record, Request, Turns, Work
from sidecar.clocks import Mono
from sidecar.media.tap import Tapped
from sidecar.speech.neural import Bench, Network
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement


class Recordings(Protocol):
    """Where the audio of recorded calls goes."""

    def append(self, call: str, frames: bytes) -> None:
        """Add to a call's recording; the first time, begin it."""
        ...

    def finish(self, call: str) -> Recording | None:
        """The recording is whole; None where there is none."""
        ...


class Calls:
    """Call id → measurement, from the first work that names a call to its `Ended`. Without `recordings` no call is recorded."""

    def __init__(self, recordings: Recordings | None = None, network: Callable[[], Network | None] = lambda: None) -> None:
        """`network` loads the neural detector's, asked when a call wants it for the first time; None where it cannot be had."""
        self._calls: Final[dict[str, Measurement]] = {}
        self._recordings = recordings
        self._bench = cache(lambda: None if (loaded := network()) is None else Bench(loaded))
        self._recorded: Final[set[str]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def answer(self, request: Request) -> Turns | Figures:
        """What a request asks for."""
        match request:
            case Look(calls, now):
                for call, work in calls:
                    measurement = self._calls.get(call) or self._begin(call, work)
                    _feed(measurement, work)
                    measurement.look(now)  # of all before the first is asked for its turns: what is heard is judged together
                return [self._turns(call, now) for call, _ in calls]
            case Finish(calls):
                return [self._finish(ended) for ended in calls]
            case _ as never:
                assert_never(never)

    def _turns(self, call: str, now: Mono) -> list[Turn]:
        measurement = self._calls[call]
        turns = measurement.live(now)
        if call in self._recorded and self._recordings is not None and (frames := measurement.recorded()):
            self._recordings.append(call, frames)
        return turns

    def _begin(self, call: str, work: Sequence[Work]) -> Measurement:
        record = self._recordings is not None and any(isinstance(item, Record) for item in work)
        if record:
            self._recorded.add(call)
        bench = self._bench() if any(isinstance(item, Accurate) for item in work) else None
        measurement = self._calls[call] = Measurement(record=record, bench=bench)
        return measurement

    def _finish(self, ended: Ended) -> Measured | None:
        measurement = self._calls.get(ended.call) or self._begin(ended.call, ended.work)
        del self._calls[ended.call]
        recorded = ended.call in self._recorded
        self._recorded.discard(ended.call)
        if not ended.answered:
            return None
        _feed(measurement, ended.work)
        figures = measurement.finish(ended.at, tap_dropped=ended.tap_dropped, refused=ended.refused, relay_delay=ended.relay_delay)
        if recorded and self._recordings is not None:
            self._recordings.append(ended.call, measurement.recorded(ended.at))
            figures.media.recording = self._recordings.finish(ended.call)
        return figures


def _feed(measurement: Measurement, work: Sequence[Work]) -> None:
    for kind, items in groupby(work, type):
        if kind is tuple:
            packets: list[Tapped] = [item for item in items if isinstance(item, tuple)]
            measurement.packets(packets)
            continue
        for item in items:
            match item:
                case Negotiated(leg, codecs):
                    measurement.negotiated(leg, codecs)
                case Answered(at):
                    measurement.answered(at)
                case Hold(leg, held, at):
                    measurement.hold(leg, held, at)
