"""Reliable provisional responses (RFC 3262) where only one leg knows them.

Where both ends do, Require, RSeq, RAck and PRACK cross. Where the caller does not, we acknowledge the edge's ourselves; where the caller
insists and the edge does not, we repeat what the edge said until the caller acknowledges it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from sidecar.b2bua.session_timer import lists
from sidecar.clocks import Mono
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, Response
from sidecar.sip.multipart import find_sdp
from sidecar.sip.timing import Timing

REL: Final = "100rel"
Standing = Literal["next", "again", "early"]
START: Final = Mono(0.0)
_RSEQ = re.compile(r"[0-9]{1,10}")


def rseq_of(response: Response) -> int | None:
    """The number of a reliable provisional response; None for an ordinary one (3)."""
    value = (response.headers.get("RSeq") or "").strip()
    if not _RSEQ.fullmatch(value) or not lists(response.headers, REL, "Require"):
        return None
    number = int(value)
    return number if 0 < number < 2**32 else None


@dataclass(slots=True, eq=False)
class Receipts:
    """Which reliable responses to an INVITE have come in order: the number of the last one, by To-tag."""

    last: dict[str, int] = field(default_factory=dict)

    def take(self, response: Response) -> Standing:
        """Where a provisional response stands in its dialog. A repeated one is not processed again, one behind a gap not at all (4)."""
        rseq, tag = rseq_of(response), response.to_tag
        if rseq is None or not tag:
            return "next"
        following = self.last.get(tag, rseq - 1) + 1
        if rseq != following:
            return "again" if rseq < following else "early"
        self.last[tag] = rseq
        return "next"


@dataclass(slots=True, eq=False)
class Sender:
    """Provisional responses of ours that a caller must acknowledge in one early dialog, one after the other (3)."""

    number: int
    """Of the next response; the first is random, between 1 and 2**31 - 1."""
    timing: Timing
    waiting: list[Response] = field(default_factory=list)
    current: Response | None = None
    interval: float = 0.0
    due: Mono = START
    give_up: Mono = START

    def offer(self, response: Response, now: Mono) -> Response | None:
        """Number a response. Returned when it is to be sent now, kept when an earlier one is not acknowledged yet."""
        response.headers.add("Require", REL)
        response.headers.add("RSeq", str(self.number))
        self.number += 1
        self.waiting.append(response)
        return self._next(now) if self.current is None else None

    def acknowledged(self, rack: str, cseq: str, now: Mono) -> tuple[bool, Response | None]:
        """Whether a PRACK with this RAck fits what waits for one (`cseq`: that of the INVITE), and the next response to send."""
        expected = None if self.current is None else f"{self.current.headers.get('RSeq')} {cseq}"
        if expected is None or rack.split() != expected.split():
            return False, None
        self.current = None
        return True, self._next(now)

    def on_time(self, now: Mono) -> Response | None:
        """The response to repeat: at T1, then doubling without a limit of T2."""
        if self.current is None or now < self.due:
            return None
        self.interval *= 2
        self.due = Mono(min(now + self.interval, self.give_up))
        return self.current

    @property
    def is_settled(self) -> bool:
        """Nothing waits for a PRACK."""
        return self.current is None

    @property
    def has_description(self) -> bool:
        """3: a 2xx must wait while a description in a provisional response is not acknowledged."""
        return any(response.body for response in (self.current, *self.waiting) if response is not None)

    def _next(self, now: Mono) -> Response | None:
        if not self.waiting:
            return None
        self.current = self.waiting.pop(0)
        self.interval = self.timing.t1
        self.due, self.give_up = Mono(now + self.timing.t1), Mono(now + 64 * self.timing.t1)
        return self.current


def has_offer(request: Request) -> bool:
    """Whether a request that may offer does. 5: where an INVITE does not, its first reliable response must."""
    return find_sdp(request.headers.get("Content-Type"), request.body) is not None


def requires(headers: Headers) -> bool:
    """Whether a caller insists on reliable provisional responses."""
    return lists(headers, REL, "Require")
