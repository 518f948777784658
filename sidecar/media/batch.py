"""Many packets at a glance: the regular stretches in a row of packets, found on whole columns at once.

Most of a call is packets of one size, one source and one payload type, each one step after the other. Such a stretch costs about as
much to count and to order as a few single packets do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.media.rtp import HEADER_LENGTH
from sidecar.media.tap import Tapped

SHORTEST: Final = 4
"""Stretches of fewer packets are not worth it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Packets without padding, extension or marker: sequence numbers rise by one, time stamps by `step` (not wrapped within it)."""

    packets: Sequence[Tapped]
    ssrc: int
    payload_type: int
    sequence: int
    timestamp: int
    step: int
    arrivals: npt.NDArray[np.float64]
    payloads: npt.NDArray[np.uint8]
    """One row a packet."""

    def __len__(self) -> int:
        return len(self.arrivals)


def parts(packets: Sequence[Tapped]) -> Iterator[Stretch | Tapped]:
    """The packets in their order, regular stretches taken together."""
    if len(packets) < SHORTEST:
        yield from packets
        return
    _, datagrams, times = zip(*packets, strict=True)
    size = len(datagrams[0])
    if size <= HEADER_LENGTH or len(set(map(len, datagrams))) > 1:
        yield from packets
        return
    rows = np.frombuffer(b"".join(datagrams), np.uint8).reshape(-1, size)
    first, timestamps, ssrcs = np.ascontiguousarray(rows[:, :HEADER_LENGTH]).view(">u4").T.astype(np.int64)
    flags, sequences = first >> 16, first & 0xFFFF
    steps = timestamps[1:] - timestamps[:-1]
    links = (sequences[1:] - sequences[:-1] == 1) & (ssrcs[1:] == ssrcs[:-1]) & (flags[1:] == flags[:-1]) & (flags[1:] >> 7 == 0x100)
    links &= steps > 0
    links[1:] &= ~links[:-1] | (steps[1:] == steps[:-1])
    breaks = (np.flatnonzero(~links) + 1).tolist()
    arrivals = np.array(times)
    for start, end in zip([0, *breaks], [*breaks, len(packets)], strict=True):
        if end - start < SHORTEST:
            yield from packets[start:end]
            continue
        yield Stretch(
            packets=packets[start:end],
            ssrc=int(ssrcs[start]),
            payload_type=int(flags[start]) & 0x7F,
            sequence=int(sequences[start]),
            timestamp=int(timestamps[start]),
            step=int(steps[start]),
            arrivals=arrivals[start:end],
            payloads=rows[start:end, HEADER_LENGTH:],
        )
