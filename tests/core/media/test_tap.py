"""The ring between relay and analysis."""

from __future__ import annotations

from sidecar.clocks import Mono
from sidecar.media.tap import Ring


def test_packets_come_out_in_order_and_once() -> None:
    ring = Ring(8)
    ring.offer("A", b"1", Mono(1.0))
    ring.offer("B", b"2", Mono(2.0))
    assert [tuple(p) for p in ring.drain()] == [("A", b"1", 1.0), ("B", b"2", 2.0)]
    assert ring.drain() == []
    assert ring.dropped == 0


def test_a_full_ring_drops_the_oldest_and_says_so() -> None:
    ring = Ring(3)
    for i in range(10):
        ring.offer("A", bytes([i]), Mono(i))
    assert ring.dropped == 7
    assert [data[0] for _, data, _ in ring.drain()] == [7, 8, 9]
    ring.offer("A", b"x", Mono(11.0))
    assert ring.dropped == 7


def test_packets_that_come_together_keep_their_order_and_push_out_the_oldest() -> None:
    ring = Ring(4)
    ring.offer("A", b"0", Mono(0.0))
    ring.extend([("B", bytes([i]), Mono(i)) for i in range(1, 6)])
    assert ring.dropped == 2
    assert [data[0] for _, data, _ in ring.drain()] == [2, 3, 4, 5]
    ring.extend([])
    assert ring.dropped == 2
