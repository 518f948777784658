"""Numbers and stamps one call's facts, in the order in which they happened."""

from __future__ import annotations

from datetime import UTC, datetime

from control.contract import facts as f
from control.contract.call import Timings, Turn
from sidecar.b2bua import effects as e
from sidecar.clocks import Addr, Mono, Wall
from sidecar.identity.digest import redact_message
from sidecar.turns.measurement import Measured


class Recorder:
    """Makes the lines of one trace. `seq` counts from 1 without gaps; `elapsed_ms` is monotonic from the first fact."""

    def __init__(self, call: str, sidecar: str) -> None:
        self.call = call
        self.sidecar = sidecar
        self._seq = 0
        self._started: Mono | None = None

    def record(self, fact: e.Fact, now: Mono, wall: Wall) -> bytes | None:
        """The line for one fact of the B2BUA; None for one that only the shell needs (`Gone`)."""
        base = self._stamp(now, wall)
        made = _from_b2bua(fact, base, self.sidecar)
        return None if made is None else self._line(made)

    def media_opened(self, leg: e.Leg, codec: str, local: Addr, remote: Addr, now: Mono, wall: Wall) -> bytes:
        """The line that says which codec and addresses an offer/answer exchange settled for one leg."""
        base = self._stamp(now, wall)
        return self._line(f.MediaOpened(**base, leg=leg, codec=codec, local=_address(local), remote=_address(remote)))

    def turn(self, turn: Turn, now: Mono, wall: Wall) -> bytes:
        """The line for a turn as it is known so far."""
        return self._line(f.TurnMeasured(**self._stamp(now, wall), turn=turn))

    def measured(self, result: Measured, now: Mono, wall: Wall) -> bytes:
        """The line with the final figures."""
        return self._line(
            f.CallMeasured(
                **self._stamp(now, wall),
                turns=list(result.turns),
                barge_ins=list(result.barge_ins),
                speech=result.speech,
                media=result.media,
                greeting_ms=result.greeting_ms,
                first_agent_rtp_ms=result.first_agent_rtp_ms,
            )
        )

    def closed(self, now: Mono, wall: Wall) -> bytes:
        """The trace's last line."""
        return self._line(f.CallClosed(**self._stamp(now, wall)))

    def _stamp(self, now: Mono, wall: Wall) -> _Stamp:
        if self._started is None:
            self._started = now
        return _Stamp(self.call, self._seq + 1, datetime.fromtimestamp(wall, UTC), round((now - self._started) * 1000, 3))

    def _line(self, fact: f.Fact) -> bytes:
        self._seq += 1
        return fact.model_dump_json(by_alias=True, exclude_none=True).encode()


class _Stamp(dict[str, object]):
    """The four fields that every fact begins with."""

    def __init__(self, call: str, seq: int, at: datetime, elapsed_ms: float) -> None:
        super().__init__(call=call, seq=seq, at=at, elapsed_ms=elapsed_ms)


def _from_b2bua(fact: e.Fact, base: _Stamp, sidecar: str) -> f.Fact | None:
    match fact:
        case e.Started():
            return f.CallStarted.model_validate(
                base
                | {
                    "sidecar": sidecar,
                    "route": fact.route,
                    "platform": fact.platform,
                    "call_kind": fact.kind,
                    "direction": fact.direction,
                    "sip_call_id": readable(fact.sip_call_id),
                    "correlation_id": None if fact.correlation_id is None else readable(fact.correlation_id),
                    "from": readable(fact.from_),
                    "to": readable(fact.to),
                    "recipient": None if fact.recipient is None else readable(fact.recipient),
                    "source": _address(fact.source),
                }
            )
        case e.Message(flow=flow):
            return f.SipMessage(
                **base,
                leg=fact.leg,
                direction=fact.direction,
                transport=flow.transport,
                local=_address(flow.local),
                remote=_address(flow.remote),
                text=redact_message(fact.data.decode("utf-8", "backslashreplace")),
                retransmission=fact.retransmission,
            )
        case e.Dialled():
            return f.LegStarted(**base, call_id=readable(fact.call_id), target=readable(fact.target))
        case e.HopProven():
            return f.HopSeen(**base, hop=fact.hop, evidence=readable(fact.evidence))
        case e.Learned():
            return f.IdLearned(**base, name=fact.name, value=readable(fact.value))
        case e.Found():
            return f.FindingMade(**base, name=fact.name, detail=readable(fact.detail))
        case e.Challenged():
            return f.Authentication(
                **base,
                leg=fact.leg,
                status=fact.status,
                realm=readable(fact.realm),
                algorithm=readable(fact.algorithm),
                result=fact.result,
                detail=readable(fact.detail),
            )
        case e.Answered():
            return f.CallAnswered(**base)
        case e.Ended(timings=t):
            return f.CallEnded(
                **base,
                status=fact.status,
                ended_by=fact.ended_by,
                reason=fact.reason,
                cause=readable(fact.cause),
                timings_ms=Timings(to_100=_ms(t.to_100), to_ringing=_ms(t.to_ringing), to_answer=_ms(t.to_answer), auth=_ms(t.auth)),
            )
        case e.Gone():
            return None


def readable(text: str) -> str:
    """Text that any JSON reader takes: octets that were not UTF-8 appear as `\\xNN`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _address(addr: Addr) -> str:
    host, port = addr
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
