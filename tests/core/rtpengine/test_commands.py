"""What rtpengine is told of a session, and what is read out of its answers."""

from __future__ import annotations

import pytest

from sidecar.net.rtpengine import commands
from sidecar.net.rtpengine.commands import Interfaces, Refused
from sidecar.sip import sdp

PLAIN = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
OPUS = PLAIN + b"m=audio 4000 RTP/AVP 111 0\r\na=rtpmap:111 opus/48000/2\r\na=ptime:20\r\na=sendonly\r\na=ice-ufrag:x\r\n"


def described(body: bytes) -> str:
    return commands.describe(sdp.parse(body).media, "203.0.113.5").decode()


def test_it_is_told_addresses_and_payload_types_and_nothing_that_makes_it_take_part() -> None:
    line, *rest = described(OPUS).splitlines()[4:]
    assert line == "m=audio 4000 RTP/AVP 111 0"
    assert sorted(rest) == ["a=rtpmap:0 PCMU/8000", "a=rtpmap:111 opus/48000/2", "c=IN IP4 192.0.2.10"]


def test_encrypted_media_is_not_its_to_open() -> None:
    sealed = PLAIN + b"m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\na=fingerprint:sha-256 AA\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:secret\r\n"
    text = described(sealed)
    assert "m=audio 4000 RTP/AVPF 0\r\n" in text
    assert "secret" not in text
    assert "fingerprint" not in text


def test_a_line_that_is_off_keeps_its_place_and_a_hold_by_address_stays_one() -> None:
    text = described(PLAIN + b"m=video 0 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=rtcp:4007\r\n")
    assert text.index("m=video 0 ") < text.index("m=audio 4000 ")
    assert "c=IN IP4 0.0.0.0\r\na=rtcp:4007\r\n" in text


def test_a_name_stands_for_where_the_messages_come_from() -> None:
    assert "c=IN IP4 203.0.113.5" in described(
        PLAIN.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 phone.example") + b"m=audio 4000 RTP/AVP 0\r\n"
    )


@pytest.mark.parametrize(
    ("leg", "offerer", "anew", "expected"),
    [
        ("A", "A", True, ("offer", "A", None, ["out", "in"])),
        ("B", "A", True, ("answer", "A", "B", None)),
        ("B", "B", True, ("offer", "B", None, ["in", "out"])),
        ("B", "B", False, ("offer", "B", "A", ["in", "out"])),
        ("A", "B", False, ("answer", "B", "A", None)),
    ],
)
def test_who_offers_is_from_and_who_answers_is_to(leg: str, offerer: str, anew: bool, expected: tuple[object, ...]) -> None:
    interfaces = Interfaces("out", "in")
    command = commands.exchange("c1", leg, offerer, b"v=0", anew=anew, interfaces=interfaces, ipv6=True)  # type: ignore[arg-type]
    assert (command["command"], command["from-tag"], command.get("to-tag"), command.get("direction")) == expected
    assert command.get("address-family") == ("IP6" if leg == offerer else None)


def answer(body: bytes) -> dict[str, object]:
    return {"result": b"ok", "sdp": body}


def test_ports_are_read_by_m_line_and_a_held_line_does_not_hide_the_host() -> None:
    placed = commands.placed(
        answer(
            PLAIN + b"m=audio 30000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\nm=video 0 RTP/AVP 96\r\nm=video 30010 RTP/AVP 96\r\na=rtcp:30017\r\n"
        ),
        "198.51.100.1",
    )
    assert (placed.host, dict(placed.ports)) == ("192.0.2.10", {0: (30000, 30001), 2: (30010, 30017)})
    assert commands.placed(answer(PLAIN + b"m=audio 9 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n"), "198.51.100.1").host == "198.51.100.1"


def test_two_hosts_for_one_leg_are_refused_in_words() -> None:
    with pytest.raises(Refused, match=r"192\.0\.2\.10 and 192\.0\.2\.11"):
        commands.placed(answer(PLAIN + b"m=audio 9 RTP/AVP 0\r\nm=audio 11 RTP/AVP 0\r\nc=IN IP4 192.0.2.11\r\n"), "h")


def test_a_name_is_no_place_for_media() -> None:
    with pytest.raises(Refused, match=r"media\.example, which is no address"):
        commands.placed(answer(PLAIN.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 media.example") + b"m=audio 9 RTP/AVP 0\r\n"), "h")


@pytest.mark.parametrize(
    ("said", "busy", "unknown"),
    [
        ({"result": b"load limit", "message": b"Parallel session limit reached"}, True, False),
        ({"result": b"error", "error-reason": b"Unknown call-id"}, False, True),
        ({}, False, False),
    ],
)
def test_an_answer_that_is_no_success_is_told_apart(said: dict[str, object], busy: bool, unknown: bool) -> None:
    with pytest.raises(Refused) as refused:
        commands.checked(said)
    assert (refused.value.busy, refused.value.unknown) == (busy, unknown)


def test_counts_are_those_of_the_line_that_is_listened_to() -> None:
    def party(*packets: int) -> dict[str, object]:
        medias = [
            {
                "index": n + 1,
                "streams": [{"flags": [b"RTP"], "stats": {"packets": p, "errors": 1}}, {"flags": [b"RTCP"], "stats": {"packets": 9}}],
            }
            for n, p in enumerate(packets)
        ]
        return {"medias": medias}

    counted = commands.counted({"result": b"ok", "tags": {"A": party(50, 7), "B": party(60, 8), "copy-A": party(1000)}}, 0)
    assert (counted.packets, counted.errors) == (110, 2)
    assert commands.counted({"tags": {"A": b"?"}}, 0) == commands.Counted()
