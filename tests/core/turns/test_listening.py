"""What who listens in hears: the same as the recording of that stretch, a moment late."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.analysis.calls import Calls
from sidecar.analysis.work import Answered, Listen, Look, Negotiated, News
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC
from sidecar.turns.listening import LAG_S, Listening
from tests.core.turns.test_stereo import ANSWER, RATE, lag_ms, packets, speech
from tests.support.speech_call import Network
from tests.support.speech_hour import Packet, batches

SECONDS, FROM = 40, 10
LEFT, RIGHT = speech(SECONDS, 1), speech(SECONDS, 50)
ROUGH = Network(jitter_ms=30, loss=0.01)


def heard(sent: list[Packet], begin: float) -> np.ndarray:
    """Both channels from `begin` seconds on, in the steps of the analysis."""
    codecs = {"A": STATIC, "B": STATIC}
    listening, pieces = Listening(codecs, Mono(ANSWER + begin)), []  # type: ignore[arg-type]
    for batch in batches([packet for packet in sent if packet[2] >= ANSWER + begin], 0.2):
        listening.packets(batch)
        pieces.append(listening.take(batch[-1][2]))
    return np.frombuffer(b"".join(pieces), "<i2").reshape(-1, 2) / 32768


@pytest.mark.parametrize("network", [Network(), ROUGH], ids=["smooth", "rough"])
def test_both_parties_are_heard_together_from_the_middle_of_a_call_on(network: Network) -> None:
    both = heard(packets(LEFT, RIGHT, network, network), FROM)
    assert (SECONDS - FROM - 1) * RATE < len(both) <= (SECONDS - FROM) * RATE
    for channel, source in ((both[:, 0], LEFT), (both[:, 1], RIGHT)):
        assert abs(lag_ms(channel, source[FROM * RATE :])) < 40  # jitter stands in the mapping until it is known better
        assert np.abs(channel).max() > 0.2


def test_a_stretch_in_which_nothing_is_sent_is_silence_of_its_length() -> None:
    sent = [packet for packet in packets(LEFT, RIGHT, Network(), Network()) if not 15 < packet[2] - ANSWER < 20 or packet[0] == "B"]
    left = heard(sent, FROM)[:, 0]
    assert np.abs(left[int(5.5 * RATE) : int(9.5 * RATE)]).max() == 0
    assert abs(lag_ms(left[11 * RATE :], LEFT[(FROM + 11) * RATE :])) < 5


def test_a_call_is_heard_only_while_somebody_listens() -> None:
    calls, sent = Calls(), packets(LEFT, RIGHT, Network(), Network())
    opening = [Negotiated("A", STATIC), Negotiated("B", STATIC), Answered(Mono(ANSWER))]

    def look(*work: object, now: float) -> News:
        told = calls.answer(Look([("c1", list(work))], Mono(now)))[0]  # type: ignore[arg-type]
        assert isinstance(told, News)
        return told

    assert look(*opening, *_between(sent, 0, 5), now=ANSWER + 5).audio == b""
    assert look(Listen(True, Mono(ANSWER + 5)), *_between(sent, 5, 6), now=ANSWER + 6).audio != b""
    second = look(Listen(True, Mono(ANSWER + 6)), *_between(sent, 6, 7), now=ANSWER + 7)
    assert len(second.audio) == RATE * 4  # a second listener does not begin anew
    assert look(Listen(False, Mono(ANSWER + 7)), *_between(sent, 7, 8), now=ANSWER + 8).audio == b""


def test_it_is_late_by_what_it_says() -> None:
    listening = Listening({"A": STATIC, "B": STATIC}, Mono(ANSWER))
    assert listening.take(Mono(ANSWER + LAG_S)) == b""
    assert len(listening.take(Mono(ANSWER + LAG_S + 0.1))) == RATE // 10 * 4


def _between(sent: list[Packet], start: float, end: float) -> list[Packet]:
    return [packet for packet in sent if start <= packet[2] - ANSWER < end]
