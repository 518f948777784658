"""Numbers and stamps one call's facts, in the order in which they happened.

A call has some twenty of them, and most are written while somebody waits for a SIP message to go on. So the lines are made straight from
the values; `control.contract.facts` says what they must look like, and the tests hold every kind of line against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from pydantic_core import to_json

from control.contract.call import ClockOffset, Model, Turn
from sidecar.b2bua import effects as e
from sidecar.clocks import Addr, Mono, Wall
from sidecar.identity.digest import redact_message
from sidecar.turns.measured import Measured

Value = str | int | float | bool | dict[str, float]
Fields = dict[str, Value]


class Recorder:
    """Makes the lines of one trace. `seq` counts from 1 without gaps; `elapsed_ms` is monotonic from the first fact, and so is `at`: the
    wall clock is read once, lest a call lasts an hour longer or ends before it began because somebody set the clock.
    """

    def __init__(self, call: str, sidecar: str, clock: ClockOffset | None = None) -> None:
        """`clock`: control's clock against the one that the facts are stamped with, if it is known."""
        self.call = call
        self._clock = clock
        self.sidecar = sidecar
        self._seq = 0
        self._started: Mono | None = None
        self._epoch = 0.0
        """What the monotonic clock was behind the wall clock at the first fact."""

    def record(self, fact: e.Fact, now: Mono, wall: Wall) -> bytes | None:
        """The line for one fact of the B2BUA; None for one that only the shell needs (`Gone`)."""
        self._begin(now, wall)
        made = _from_b2bua(fact, self.sidecar)
        models = b',"clock":' + _model(self._clock) if self._clock is not None and isinstance(fact, e.Started) else b""
        return None if made is None else self._line(*made, now, wall, models)

    def media_opened(self, leg: e.Leg, codec: str, local: Addr, remote: Addr, now: Mono, wall: Wall) -> bytes:
        """The line that says which codec and addresses an offer/answer exchange settled for one leg."""
        fields: Fields = {"leg": leg, "codec": readable(codec), "local": shown(local), "remote": readable(shown(remote))}
        return self._line("media_opened", fields, now, wall)

    def turn(self, turn: Turn, now: Mono, wall: Wall) -> bytes:
        """The line for a turn as it is known so far."""
        return self._line("turn_measured", {}, now, wall, b',"turn":' + _model(turn))

    def measured(self, result: Measured, now: Mono, wall: Wall) -> bytes:
        """The line with the final figures."""
        lists = _models(result.turns), _models(result.barge_ins)
        models = b',"turns":%b,"barge_ins":%b,"speech":%b,"media":%b' % (*lists, _model(result.speech), _model(result.media))
        fields = _known({"greeting_ms": result.greeting_ms, "first_agent_rtp_ms": result.first_agent_rtp_ms})
        models += b"" if result.tracks is None else b',"tracks":' + _model(result.tracks)
        return self._line("call_measured", fields, now, wall, models)

    def closed(self, now: Mono, wall: Wall) -> bytes:
        """The trace's last line."""
        return self._line("call_closed", {}, now, wall)

    def _begin(self, now: Mono, wall: Wall) -> Mono:
        """When the first fact was."""
        if self._started is None:
            self._started, self._epoch = now, wall - now
        return self._started

    def _line(self, kind: str, fields: Fields, now: Mono, wall: Wall, models: bytes = b"") -> bytes:
        """A line with the fields that every fact begins with. `models` is JSON that goes behind them as it is."""
        started = self._begin(now, wall)
        self._seq += 1
        elapsed = round((now - started) * 1000, 3)
        # Call id, number, time and kind need no escaping.
        head = (
            f'{{"call":"{self.call}","seq":{self._seq},"at":"{rfc3339(Wall(self._epoch + now))}","elapsed_ms":{elapsed!r},"kind":"{kind}"'
        )
        if not fields:
            return b"%b%b}" % (head.encode(), models)
        return b"%b,%b%b}" % (head.encode(), to_json(fields)[1:-1], models)


def _from_b2bua(fact: e.Fact, sidecar: str) -> tuple[str, Fields] | None:
    """Kind and fields of a fact; absent fields are left out."""
    match fact:
        case e.Message(flow=flow):
            fields: Fields = {
                "leg": fact.leg,
                "direction": fact.direction,
                "transport": flow.transport,
                "local": shown(flow.local),
                "remote": shown(flow.remote),
                "text": redact_message(fact.data.decode("utf-8", "backslashreplace")),
                "retransmission": fact.retransmission,
            }
            return "sip_message", fields
        case e.Started():
            fields = {
                "sidecar": sidecar,
                "route": fact.route,
                "platform": fact.platform,
                "call_kind": fact.kind,
                "direction": fact.direction,
                "sip_call_id": readable(fact.sip_call_id),
                "from": readable(fact.from_),
                "to": readable(fact.to),
                "source": shown(fact.source),
            }
            if fact.correlation_id is not None:
                fields["correlation_id"] = readable(fact.correlation_id)
            if fact.recipient is not None:
                fields["recipient"] = readable(fact.recipient)
            if fact.wire_only is not None:
                fields["wire_only"] = fact.wire_only
            return "call_started", fields
        case e.Dialled():
            return "leg_started", {"call_id": readable(fact.call_id), "target": readable(fact.target)}
        case e.HopProven():
            return "hop_seen", {"hop": fact.hop, "evidence": readable(fact.evidence)}
        case e.Learned():
            return "id_learned", {"name": fact.name, "value": readable(fact.value)}
        case e.Found():
            return "finding_made", {"name": fact.name, "detail": readable(fact.detail)}
        case e.Challenged():
            fields = {
                "leg": fact.leg,
                "status": fact.status,
                "realm": readable(fact.realm),
                "algorithm": readable(fact.algorithm),
                "result": fact.result,
                "detail": readable(fact.detail),
            }
            return "authentication", fields
        case e.Answered():
            return "call_answered", {}
        case e.Ended(timings=t):
            timings = {"to_100": t.to_100, "to_ringing": t.to_ringing, "to_answer": t.to_answer, "auth": t.auth}
            fields = {
                "status": fact.status,
                "ended_by": fact.ended_by,
                "reason": fact.reason,
                "cause": readable(fact.cause),
                "timings_ms": {name: round(value * 1000, 3) for name, value in timings.items() if value is not None},
            }
            return "call_ended", fields
        case e.Gone():
            return None


def readable(text: str) -> str:
    """Text that any JSON reader takes: octets that were not UTF-8 appear as `\\xNN`."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def rfc3339(wall: Wall) -> str:
    """A wall clock's time in UTC, to the microsecond."""
    micros = round(wall * 1e6)
    return f"{_second(micros // 1_000_000)}.{micros % 1_000_000:06d}Z"


@lru_cache(maxsize=8)
def _second(since_epoch: int) -> str:
    """Many facts share a second."""
    return datetime.fromtimestamp(since_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _model(model: Model) -> bytes:
    return model.model_dump_json(by_alias=True, exclude_none=True).encode()


def _models(models: Sequence[Model]) -> bytes:
    return b"[%b]" % b",".join(map(_model, models))


def _known(fields: dict[str, float | None]) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def shown(addr: Addr) -> str:
    """`host:port`, an IPv6 host in brackets."""
    host, port = addr
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
