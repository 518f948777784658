"""The measurements of all calls that are being analysed. Pure: requests in, answers out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final, assert_never

from control.contract.call import Turn
from sidecar.analysis.work import Answered, Ended, Figures, Finish, Hold, Look, Negotiated, Request, Turns, Work
from sidecar.clocks import Mono
from sidecar.media.tap import Tapped
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement


class Calls:
    """Call id → measurement, from the first work that names a call to its `Ended`."""

    def __init__(self) -> None:
        self._calls: Final[dict[str, Measurement]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def answer(self, request: Request) -> Turns | Figures:
        """What a request asks for."""
        match request:
            case Look(calls, now):
                return [self._look(call, work, now) for call, work in calls]
            case Finish(calls):
                return [self._finish(ended) for ended in calls]
            case _ as never:
                assert_never(never)

    def _look(self, call: str, work: Sequence[Work], now: Mono) -> list[Turn]:
        measurement = self._calls.get(call)
        if measurement is None:
            measurement = self._calls[call] = Measurement()
        _feed(measurement, work)
        return measurement.live(now)

    def _finish(self, ended: Ended) -> Measured | None:
        measurement = self._calls.pop(ended.call, None) or Measurement()
        if not ended.answered:
            return None
        _feed(measurement, ended.work)
        return measurement.finish(ended.at, tap_dropped=ended.tap_dropped, refused=ended.refused, relay_delay=ended.relay_delay)


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
