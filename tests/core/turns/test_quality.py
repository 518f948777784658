"""What the call object says of the line: RTCP, loss patterns, opinion scores, and findings in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from control.contract.call import RelayDelay
from sidecar.clocks import Mono
from sidecar.media.codec import STATIC, Codec
from sidecar.media.tap import Tapped
from sidecar.turns.measured import Measured
from sidecar.turns.measurement import Measurement
from tests.support.rtcp import block, middle, receiver_report, sender_report
from tests.support.speech_call import Network, Sender, conversation, merged, voice

ANSWER, NTP = 5000.0, 3_900_000_000.0
GOOD = Network()
TALK = conversation(7, 3, [voice(seed, 0.5 + seed % 3 * 0.6) for seed in range(6)])


def figures(
    packets: list[Tapped], seconds: float = TALK.seconds, *, dropped: int = 0, refused: int = 0, codec: Codec | None = None
) -> Measured:
    call = Measurement()
    call.negotiated("A", STATIC)
    call.negotiated("B", STATIC if codec is None else {111: codec})
    call.answered(Mono(ANSWER))
    call.packets(packets)
    return call.finish(Mono(ANSWER + seconds), tap_dropped=dropped, refused=refused, relay_delay=RelayDelay())


def audio(leg: str = "AB", network: Network = GOOD, payload_type: int = 0) -> list[Tapped]:
    sent = {}
    if "A" in leg:
        sent["A"] = Sender(ssrc=1).packets(TALK.caller.audio, ANSWER, network)
    if "B" in leg:
        sent["B"] = Sender(ssrc=2, payload_type=payload_type).packets(TALK.agent.audio, ANSWER, network)
    return [("A" if whose == "A" else "B", data, Mono(at)) for whose, at, data in merged(**sent)]


def reports(a_away: float, b_away: float) -> list[Tapped]:
    """Sender reports of both every five seconds, each answered by the other's next."""
    sent: list[Tapped] = []
    for i in range(int(TALK.seconds / 5)):
        at, ntp = ANSWER + 1 + 5 * i, NTP + 5 * i
        sent.append(("A", sender_report(1, ntp, 8000 * 5 * i), Mono(at)))
        sent.append(
            ("B", receiver_report(2, block(1, fraction=26, lost=9, jitter=40, lsr=middle(ntp), delay=0.5)), Mono(at + 0.5 + b_away))
        )
        sent.append(("B", sender_report(2, ntp + 9, 8000 * 5 * i), Mono(at + 2)))
        sent.append(("A", receiver_report(1, block(2, lsr=middle(ntp + 9), delay=0.25)), Mono(at + 2.25 + a_away)))
    return sent


def names(result: Measured) -> list[str]:
    return [finding.name for finding in result.media.findings]


def test_rtcp_changes_no_other_figure() -> None:
    plain = figures(audio())
    told = figures(sorted(audio() + reports(0.02, 0.06), key=lambda packet: packet[2]))
    assert told.turns == plain.turns
    assert (told.media.agent.packets, told.media.agent.jitter_ms) == (plain.media.agent.packets, plain.media.agent.jitter_ms)
    assert told.first_agent_rtp_ms == plain.first_agent_rtp_ms


def test_round_trips_scores_and_what_the_other_heard() -> None:
    media = figures(sorted(audio() + reports(0.02, 0.06), key=lambda packet: packet[2])).media
    assert media.caller.round_trip_ms.p50 == pytest.approx(20, abs=0.1)
    assert media.agent.round_trip_ms.p50 == pytest.approx(60, abs=0.1)
    assert media.caller.heard is not None
    assert (media.caller.heard.lost, media.caller.heard.loss_pct, media.caller.heard.jitter_ms) == (9, 10.16, 5.0)
    # 10 + 30 + 20 ms of a packet: R = 93.2 − 1.5
    assert media.caller.mos_lq == pytest.approx(4.41, abs=0.01)
    assert media.caller.mos_cq == pytest.approx(4.38, abs=0.02)


def test_conversational_quality_needs_a_round_trip_on_both_legs() -> None:
    asked_and_answered = reports(0.02, 0.06)[:2]
    media = figures(sorted(audio() + asked_and_answered, key=lambda packet: packet[2])).media
    assert media.agent.round_trip_ms.n == 1
    assert (media.caller.mos_cq, media.agent.mos_cq) == (None, None)


def test_a_far_line_scores_lower_to_converse_than_to_listen() -> None:
    media = figures(sorted(audio() + reports(0.4, 0.4), key=lambda packet: packet[2])).media
    assert media.agent.mos_lq is not None
    assert media.agent.mos_cq is not None
    assert media.agent.mos_cq < media.agent.mos_lq - 0.8


def test_bursts_and_the_worst_interval() -> None:
    sent = audio()
    agent = [i for i, packet in enumerate(sent) if packet[0] == "B"]
    gone = {agent[i] for i in (*range(400, 408), 414, 700)}
    media = figures([packet for i, packet in enumerate(sent) if i not in gone]).media
    assert (media.agent.lost, media.agent.lossy_intervals) == (10, 2)
    assert (media.agent.bursts.n, media.agent.bursts.mean_ms, media.agent.bursts.density_pct) == (1, 300.0, 60.0)
    assert media.agent.worst_interval is not None
    assert (media.agent.worst_interval.start_ms, media.agent.worst_interval.lost) == (pytest.approx(5000, abs=1), 9)
    assert media.caller.worst_interval is None


def test_silence_suppression_is_told_and_is_no_loss() -> None:
    media = figures(audio(network=Network(dtx=True))).media
    assert media.agent.lost == 0
    assert media.agent.unsent_ms > 4000
    assert figures(audio()).media.agent.unsent_ms == 0


def test_a_good_call_has_no_findings() -> None:
    assert names(figures(audio())) == []
    assert names(figures(audio(network=Network(dtx=True, jitter_ms=30)))) == []


def test_no_audio_and_audio_one_way() -> None:
    assert names(figures([])) == ["no_audio"]
    one_way = figures(audio("A"))
    assert names(one_way) == ["one_way_audio"]
    assert one_way.media.findings[0].detail.startswith("the agent sent no audio in ")
    assert names(figures([], 1.5)) == []


def test_audio_that_stops_and_audio_of_nothing() -> None:
    stopped = [packet for packet in audio() if packet[0] == "A" or packet[2] < ANSWER + 6]
    assert names(figures(stopped)) == ["audio_stopped"]
    mute = Sender(ssrc=2).packets(TALK.agent.audio * 0, ANSWER)
    silent = sorted([*audio("A"), *(("B", data, Mono(at)) for at, data in mute)], key=lambda packet: packet[2])
    assert names(figures(silent)) == ["only_silence"]


def test_what_the_sidecar_missed_or_refused_is_said() -> None:
    assert names(figures(audio(), dropped=3, refused=70)) == ["foreign_source", "tap_dropped"]


def test_loss_and_an_unknown_codec_are_said() -> None:
    assert names(figures(audio(network=Network(loss=0.08)))) == ["loss", "loss"]
    assert names(figures(audio(payload_type=111), codec=Codec("AMR", 8000))) == ["not_analysed"]


def test_what_is_encrypted_for_the_other_party_is_counted_and_not_looked_into() -> None:
    sealed = {number: replace(codec, sealed=True) for number, codec in STATIC.items()}
    noise = np.random.default_rng(1)
    call = Measurement()
    call.negotiated("A", sealed)
    call.negotiated("B", sealed)
    call.answered(Mono(ANSWER))
    call.packets([(leg, data[:12] + noise.bytes(len(data) - 12), at) for leg, data, at in audio()] + reports(0.02, 0.06))
    result = call.finish(Mono(ANSWER + TALK.seconds), tap_dropped=0, refused=0, relay_delay=RelayDelay())
    assert names(result) == ["not_analysed", "not_analysed"]
    assert (result.turns, result.speech.caller_ms, result.speech.agent_ms) == ([], 0, 0)
    assert (result.media.caller.codec, result.media.caller.analysed, result.media.caller.lost) == ("PCMU", False, 0)
    assert (result.media.caller.heard, result.media.caller.round_trip_ms.n) == (None, 0)
