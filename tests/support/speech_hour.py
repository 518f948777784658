"""An hour of conversation as packets, for what must not grow with a call's length."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from sidecar.clocks import Mono
from sidecar.media.relay import Leg
from tests.support.speech_call import Clip, Conversation, Sender, conversation, merged

Packet = tuple[Leg, bytes, Mono]


def hour(clips: Sequence[Clip], start: float) -> tuple[Conversation, int, list[Packet], float]:
    """One conversation said over and over for an hour: itself, how often, the packets in order of arrival, and the seconds it takes."""
    talk = conversation(21, 8, list(clips))
    rounds = int(3600 / talk.seconds)
    sent = {"A": Sender(ssrc=1).packets(talk.caller.audio, 0.0), "B": Sender(ssrc=2).packets(talk.agent.audio, 0.0)}
    one, count = merged(**sent), len(sent["A"])
    length = count * 0.02
    packets: list[Packet] = []
    for i in range(rounds):
        for leg, at, data in one:
            _, _, sequence, timestamp, ssrc = struct.unpack("!BBHII", data[:12])
            sequence, timestamp = sequence + i * count & 0xFFFF, timestamp + i * count * 160 & 0xFFFFFFFF
            moved = struct.pack("!BBHII", 0x80, 0, sequence, timestamp, ssrc) + data[12:]
            packets.append(("A" if leg == "A" else "B", moved, Mono(start + at + i * length)))
    return talk, rounds, packets, rounds * length


def batches(packets: Sequence[Packet], seconds: float) -> Iterator[Sequence[Packet]]:
    """The packets as an analysis gets them that looks every so many seconds."""
    first, until = 0, packets[0][2] + seconds
    for index, packet in enumerate(packets):
        if packet[2] >= until:
            yield packets[first:index]
            first, until = index, until + seconds
    yield packets[first:]
