"""The three clocks, kept apart by type: mixing them up is how a stalled loop becomes a pause in speech."""

from __future__ import annotations

from typing import NewType

Mono = NewType("Mono", float)
"""Seconds on the monotonic clock: timers and packet arrivals."""

Wall = NewType("Wall", float)
"""Seconds since the epoch: what a trace shows a person."""

Samples = NewType("Samples", int)
"""Media time in samples of the codec's RTP clock."""

Addr = tuple[str, int]
"""A host (IP literal) and a port."""
