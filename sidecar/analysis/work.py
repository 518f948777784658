"""What crosses between the sidecar and its analysis process: plain values, pickled, each frame after its length."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from control.contract.call import RecordingFormat, RelayDelay, Turn
from sidecar.clocks import Mono
from sidecar.media.codec import Codec
from sidecar.media.relay import Leg
from sidecar.media.tap import Tapped
from sidecar.media.wire import Wired
from sidecar.turns.measured import Measured

LENGTH: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The party of `leg` may send these payload types from now on."""

    leg: Leg
    codecs: Mapping[int, Codec]


@dataclass(frozen=True, slots=True)
class Answered:
    """The 200 OK left towards the caller: call time 0."""

    at: Mono


@dataclass(frozen=True, slots=True)
class Hold:
    """The party of `leg` put the call on hold, or took it back."""

    leg: Leg
    held: bool
    at: Mono


@dataclass(frozen=True, slots=True)
class Record:
    """Write the call's audio to a file of the folder that the process was given. Told before anything else of the call."""

    form: RecordingFormat = "wav"


@dataclass(frozen=True, slots=True)
class Accurate:
    """Measure the call with the neural detector. Told before anything else of the call."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Somebody listens in from now on, or nobody any more."""

    on: bool
    at: Mono


@dataclass(frozen=True, slots=True)
class Captured:
    """Packets for the call's capture file, in order of arrival."""

    packets: Sequence[Wired]
    wall_offset: float
    """Seconds from the monotonic clock of the arrivals to the wall clock."""
    decrypted: frozenset[Leg] = frozenset()
    """Legs whose SRTP ends at the sidecar."""
    dropped: int = 0
    """Packets so far that the sidecar was too busy to keep."""


Work = Tapped | Negotiated | Answered | Hold | Record | Accurate | Listen | Captured
"""What one call's measurement is told, in the order in which it happened."""


@dataclass(frozen=True, slots=True)
class Look:
    """Feed the calls their work and say what is new. Answered with `list[News]`, in the order of `calls`."""

    calls: Sequence[tuple[str, Sequence[Work]]]
    now: Mono


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that is over, with the last of its work and what its relay counted. `answered` false: nothing is to be measured."""

    call: str
    work: Sequence[Work]
    answered: bool
    at: Mono
    tap_dropped: int
    refused: int
    relay_delay: RelayDelay


@dataclass(frozen=True, slots=True)
class Finish:
    """Give the final figures of the calls and forget them. Answered with `list[Measured | None]`, in the order of `calls`."""

    calls: Sequence[Ended]


class News(NamedTuple):
    """Turns of a call that are new or better known, and its audio where somebody listens in (`Listening.take`)."""

    turns: list[Turn]
    audio: bytes = b""


Request = Look | Finish
Figures = list[Measured | None]


def packed(value: object) -> bytes:
    """A value as a frame."""
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def unpacked(body: bytes) -> Any:
    """The value of a frame's body. Only for what this program wrote itself."""
    return pickle.loads(body)  # noqa: S301 - both ends of the socket pair are this program
