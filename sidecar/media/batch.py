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
    headers = np.ascontiguousarray(rows[:, :HEADER_LENGTH]).view(">u4").astype(np.int64)
    arrivals = np.array(times)
    for start, end in _regular(headers):
        if end - start < SHORTEST:
            yield from packets[start:end]
            continue
        first, timestamp, ssrc = headers[start].tolist()
        yield Stretch(
            packets=packets[start:end],
            ssrc=ssrc,
            payload_type=first >> 16 & 0x7F,
            sequence=first & 0xFFFF,
            timestamp=timestamp,
            step=int(headers[start + 1, 1]) - timestamp,
            arrivals=arrivals[start:end],
            payloads=rows[start:end, HEADER_LENGTH:],
        )


def _regular(headers: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Starts and ends of what is regular; `headers` has the first three words of each packet."""
    rises = headers[1:] - headers[:-1]
    first, last, rise = headers[0].tolist(), headers[-1].tolist(), rises[0].tolist()
    # A sequence number that wraps carries into the flags before it.
    plain = first[0] >> 23 == 0x100 and first[0] >> 16 == last[0] >> 16
    if plain and rise[0] == 1 and rise[1] > 0 and rise[2] == 0 and (rises == rises[0]).all():
        yield 0, len(headers)
        return
    words, sequences = headers[:, 0], headers[:, 0] & 0xFFFF
    links = (rises[:, 0] == 1) & (sequences[1:] > 0) & (words[1:] >> 23 == 0x100) & (rises[:, 1] > 0) & (rises[:, 2] == 0)
    links[1:] &= ~links[:-1] | (rises[1:, 1] == rises[:-1, 1])
    breaks = ((~links).nonzero()[0] + 1).tolist()
    yield from zip([0, *breaks], [*breaks, len(headers)], strict=True)
