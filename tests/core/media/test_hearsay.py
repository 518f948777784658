"""Round trips, clocks and remote figures from RTCP that passes between the two parties."""

from __future__ import annotations

import struct

import pytest

from sidecar.clocks import Mono
from sidecar.media.hearsay import Hearsay
from tests.support.rtcp import block, middle, packet, receiver_report, sender_report

NTP = 3_900_000_000.0


def test_round_trip_of_each_leg_is_measured_between_them() -> None:
    """The caller is 15 ms away and the agent 40 ms; each takes its own time to answer."""
    hearsay = Hearsay()
    for i in range(5):
        at, ntp = 100.0 + 5 * i, NTP + 5 * i
        hearsay.packet("A", sender_report(1, ntp, 8000 * 5 * i), Mono(at))
        hearsay.packet("B", sender_report(2, ntp + 77, 0, block(1, lsr=middle(ntp), delay=1.25)), Mono(at + 1.25 + 0.080))
        hearsay.packet("A", receiver_report(1, block(2, lsr=middle(ntp + 77), delay=0.5)), Mono(at + 1.33 + 0.5 + 0.030))
    assert list(hearsay.parties["B"].round_trips) == pytest.approx([0.080] * 5, abs=1e-4)
    assert list(hearsay.parties["A"].round_trips) == pytest.approx([0.030] * 5, abs=1e-4)


def test_receiver_reference_times_are_answered_too() -> None:  # RFC 3611 4.4, 4.5
    hearsay = Hearsay()
    reference = struct.pack("!BBHQ", 4, 0, 2, round(NTP * 2**32))
    hearsay.packet("A", packet(207, 0, struct.pack("!I", 1) + reference), Mono(10.0))
    answer = struct.pack("!BBHIII", 5, 0, 3, 1, middle(NTP), 65536 * 2)
    hearsay.packet("B", packet(207, 0, struct.pack("!I", 2) + answer), Mono(12.05))
    assert list(hearsay.parties["B"].round_trips) == pytest.approx([0.05], abs=1e-4)


@pytest.mark.parametrize(("lsr", "delay"), [(0, 0.0), (0xDEAD, 0.0), (middle(NTP), 3.0)])
def test_an_answer_that_fits_no_report_gives_no_round_trip(lsr: int, delay: float) -> None:
    hearsay = Hearsay()
    hearsay.packet("A", sender_report(1, NTP, 0), Mono(10.0))
    hearsay.packet("B", receiver_report(2, block(1, lsr=lsr, delay=delay)), Mono(10.1))
    assert not hearsay.parties["B"].round_trips
    assert hearsay.parties["B"].reports == 1


def test_clocks_of_a_sender_against_each_other() -> None:
    hearsay = Hearsay()
    for i in range(13):
        rtp = 2**32 - 100_000 + round(8000 * 5 * i * (1 + 80e-6))  # wraps on the way
        hearsay.packet("A", sender_report(1, NTP + 5 * i, rtp), Mono(10.0 + 5 * i))
    assert hearsay.parties["A"].skew_ppm(8000) == pytest.approx(80, abs=1)
    assert hearsay.parties["B"].skew_ppm(8000) is None


def test_remote_loss_and_jitter() -> None:
    hearsay = Hearsay()
    hearsay.packet("B", receiver_report(2, block(1, fraction=128, lost=40, jitter=160)), Mono(1.0))
    hearsay.packet("B", receiver_report(2, block(1, fraction=0, lost=41, jitter=80)), Mono(6.0))
    party = hearsay.parties["B"]
    assert party.heard is not None
    assert (party.heard.lost, party.heard.jitter, party.worst_fraction, party.reports) == (41, 80, 0.5, 2)


def test_a_flood_of_reports_is_bounded() -> None:
    hearsay = Hearsay()
    for i in range(3000):
        hearsay.packet("A", sender_report(1, NTP + i, 0), Mono(float(i)))
        hearsay.packet("B", receiver_report(2, block(1, lsr=middle(NTP + i))), Mono(i + 0.01))
    assert len(hearsay.parties["A"].asked) <= 32
    assert len(hearsay.parties["B"].round_trips) <= 1024
