"""What the B2BUA wants done (effects) and what it wants remembered (facts). The shell performs and traces them in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sidecar.clocks import Addr
from sidecar.identity.classify import Kind
from sidecar.sip.dtls import Dtls
from sidecar.sip.flow import Flow
from sidecar.sip.sdes import Keys
from sidecar.sip.sdp import MediaLine

Leg = Literal["A", "B"]


def other(leg: Leg) -> Leg:
    """The opposite leg."""
    return "B" if leg == "A" else "A"


# -- effects ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendSip:
    """Put these octets on the wire."""

    data: bytes
    flow: Flow


@dataclass(frozen=True, slots=True)
class OpenMedia:
    """Bind an RTP/RTCP port pair on each leg for one m-line; answer with `Engine.media_opened` or `Engine.media_failed` at once.

    `hosts` are the addresses to bind on leg A and on leg B, which may be of two families. A line that is open already is opened anew.
    """

    call: str
    m_line: int
    hosts: tuple[str, str]


@dataclass(frozen=True, slots=True)
class AskRelay:
    """Tell a media relay outside of this process what `leg`'s party says of its media, and learn what the other party is to be told.

    Answer, perhaps later, with `Engine.relay_answered` or `Engine.relay_failed` and this `number`. A call asks one thing at a time.
    """

    call: str
    number: int
    leg: Leg
    lines: tuple[MediaLine, ...]
    """All m-lines of the description, those with port 0 too: their places count."""
    is_offer: bool
    hosts: tuple[str, str]
    """Our addresses towards leg A and leg B, which tell the families."""
    signalling_host: str
    """Where the messages of `leg`'s party come from."""


@dataclass(frozen=True, slots=True)
class Renegotiated:
    """An offer was refused, or a fork decided: of all that was asked of the relay, what `MediaDescribed` told last is what counts."""

    call: str


@dataclass(frozen=True, slots=True)
class MediaDescribed:
    """One leg's party said where and how it wants an m-line's media."""

    call: str
    leg: Leg
    line: MediaLine
    signalling_host: str
    keys: Keys | Dtls | None = None
    """Where SRTP ends here: how this leg's media is encrypted."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask the name servers where a URI leads (RFC 3263); answer with `Engine.resolved(token, …)`. `token` is that URI."""

    token: str
    transports: tuple[str, ...]
    families: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replaces:
    """A new call takes the place of another (RFC 3891): its INVITE names a dialog of that one."""

    call: str
    call_id: str
    """The Call-ID of the call that is replaced, as its caller knows it."""
    header: str
    """Replaces or Join."""


# -- facts -----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A caller's INVITE was taken as a new call."""

    call: str
    sip_call_id: str
    correlation_id: str | None
    kind: Kind
    direction: Literal["inbound", "outbound"]
    route: str
    platform: str
    from_: str
    to: str
    recipient: str | None
    source: Addr
    wire_only: bool | None = None
    """What the route says about reports of the wire alone; None: control decides."""


@dataclass(frozen=True, slots=True)
class Message:
    """A SIP message that crossed the wire on one leg."""

    call: str
    leg: Leg
    direction: Literal["in", "out"]
    flow: Flow
    data: bytes
    retransmission: bool


@dataclass(frozen=True, slots=True)
class Dialled:
    """An INVITE left on the B leg."""

    call: str
    call_id: str
    target: str


@dataclass(frozen=True, slots=True)
class HopProven:
    """The identity was seen at a hop."""

    call: str
    hop: Literal["received", "carried"]
    evidence: str


@dataclass(frozen=True, slots=True)
class Learned:
    """An id under which the platform knows the call."""

    call: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Found:
    """Something at the door was not as it should be."""

    call: str
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Challenged:
    """A digest challenge and what became of it."""

    call: str
    leg: Leg
    status: int
    realm: str
    algorithm: str
    result: Literal["answered", "refused", "no_credentials"]
    detail: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The 200 OK left towards the caller."""

    call: str


@dataclass(frozen=True, slots=True)
class SetupTimings:
    """Seconds from the caller's INVITE; `auth` is the time spent on challenges."""

    to_100: float | None = None
    to_ringing: float | None = None
    to_answer: float | None = None
    auth: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over, and so is its media. `status` is what the caller got for its INVITE. Messages may still follow."""

    call: str
    status: int
    ended_by: Literal["caller", "agent", "sidecar"]
    reason: str
    cause: str
    timings: SetupTimings


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is outstanding on either leg: no further fact of this call will come."""

    call: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that never became a call. `reason` is a metric label."""

    reason: str
    source: Addr
    method: str


Fact = Started | Message | Dialled | HopProven | Learned | Found | Challenged | Answered | Ended | Gone
Effect = SendSip | OpenMedia | AskRelay | Renegotiated | MediaDescribed | Resolve | Refused | Replaces | Fact
