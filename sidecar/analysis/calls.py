"""The measurements of all calls that are being analysed. Pure: requests in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Final, Protocol, assert_never, cast

from control.contract.call import Capture, Recording, RecordingFormat
from sidecar.analysis.work import (
    Accurate,
    Answered,
    Captured,
    Ended,
    Figures,
    Finish,
    Hold,
    Listen,
    Look,
    Negotiated,
    News,
    Record,
    Request,
    Work,
)
from sidecar.clocks import Mono
from sidecar.media.tap import Tapped
from sidecar.speech.neural import Bench, Network
from sidecar.turns.listening import Listening
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement


class Recordings(Protocol):
    """Where the audio of recorded calls goes, and the packets of captured ones."""

    def append(self, call: str, form: RecordingFormat, frames: bytes) -> None:
        """Add to a call's recording; the first time, begin it."""
        ...

    def finish(self, call: str, form: RecordingFormat) -> Recording | None:
        """The recording is whole; None where there is none."""
        ...

    def capture(self, call: str, captured: Captured) -> None:
        """Add to a call's capture; the first time, begin it."""
        ...

    def captured(self, call: str) -> Capture | None:
        """The capture is whole; None where there is none."""
        ...


class Calls:
    """Call id → measurement, from the first work that names a call to its `Ended`. Without `recordings` no call is recorded."""

    def __init__(self, recordings: Recordings | None = None, network: Callable[[], Network | None] = lambda: None) -> None:
        """`network` loads the neural detector's, asked when a call wants it for the first time; None where it cannot be had."""
        self._calls: Final[dict[str, Measurement]] = {}
        self._recordings = recordings
        self._bench = cache(lambda: None if (loaded := network()) is None else Bench(loaded))
        self._recorded: Final[dict[str, RecordingFormat]] = {}
        self._listened: Final[dict[str, Listening]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def answer(self, request: Request) -> list[News] | Figures:
        """What a request asks for."""
        match request:
            case Look(calls, now):
                for call, work in calls:
                    measurement = self._calls.get(call) or self._begin(call, work)
                    self._feed(call, measurement, work)
                    measurement.look(now)  # of all before the first is asked for its turns: what is heard is judged together
                return [self._news(call, now) for call, _ in calls]
            case Finish(calls):
                return [self._finish(ended) for ended in calls]
            case _ as never:
                assert_never(never)

    def _news(self, call: str, now: Mono) -> News:
        measurement = self._calls[call]
        turns = measurement.live(now)
        form = self._recorded.get(call)
        if form is not None and self._recordings is not None and (frames := measurement.recorded()):
            self._recordings.append(call, form, frames)
        listening = self._listened.get(call)
        return News(turns, listening.take(now) if listening is not None else b"")

    def _begin(self, call: str, work: Sequence[Work]) -> Measurement:
        form = next((item.form for item in work if isinstance(item, Record)), None) if self._recordings is not None else None
        if form is not None:
            self._recorded[call] = form
        bench = self._bench() if any(isinstance(item, Accurate) for item in work) else None
        measurement = self._calls[call] = Measurement(record=form is not None, bench=bench)
        return measurement

    def _finish(self, ended: Ended) -> Measured | None:
        measurement = self._calls.get(ended.call) or self._begin(ended.call, ended.work)
        del self._calls[ended.call]
        form = self._recorded.pop(ended.call, None)
        self._feed(ended.call, measurement, ended.work)
        self._listened.pop(ended.call, None)  # somebody may have begun to listen in that work
        capture = self._recordings.captured(ended.call) if self._recordings is not None else None
        if not ended.answered:
            return None
        figures = measurement.finish(ended.at, tap_dropped=ended.tap_dropped, refused=ended.refused, relay_delay=ended.relay_delay)
        figures.media.capture = capture
        if form is not None and self._recordings is not None:
            self._recordings.append(ended.call, form, measurement.recorded(ended.at))
            figures.media.recording = self._recordings.finish(ended.call, form)
        return figures

    def _feed(self, call: str, measurement: Measurement, work: Sequence[Work]) -> None:
        for kind, items in groupby(work, type):
            if kind is tuple:
                packets = list(cast("Iterator[Tapped]", items))
                measurement.packets(packets)
                if (listening := self._listened.get(call)) is not None:
                    listening.packets(packets)
                continue
            for item in items:
                match item:
                    case Negotiated(leg, codecs):
                        measurement.negotiated(leg, codecs)
                        if (listening := self._listened.get(call)) is not None:
                            listening.negotiated(leg, codecs)
                    case Answered(at):
                        measurement.answered(at)
                    case Hold(leg, held, at):
                        measurement.hold(leg, held, at)
                    case Listen(on=True, at=at):
                        self._listened.setdefault(call, Listening(measurement.codecs(), at))
                    case Listen():
                        self._listened.pop(call, None)
                    case Captured() if self._recordings is not None:
                        self._recordings.capture(call, item)
