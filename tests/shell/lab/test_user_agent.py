"""The stand-ins' user agent: what a call can meet besides a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sidecar.clocks import Addr
from sidecar.lab import sdp
from sidecar.lab.ua import CallRefused, Incoming, Outgoing, UserAgent

OFFER = sdp.describe(("127.0.0.1", 40000), ("PCMU", "PCMA"))


@pytest.fixture
async def caller() -> AsyncIterator[UserAgent]:
    ua = await UserAgent.open()
    yield ua
    await ua.close()


@pytest.fixture
async def callee() -> AsyncIterator[UserAgent]:
    ua = await UserAgent.open()
    yield ua
    await ua.close()


def dial(caller: UserAgent, to: Addr) -> Outgoing:
    return caller.dial(
        f"sip:agent@{to[0]}:{to[1]}", OFFER, from_uri="sip:tester@127.0.0.1", call_id="abc", headers=[("X-Correlation-Id", "0" * 32)]
    )


def answering(callee: UserAgent) -> asyncio.Queue[Incoming]:
    """Let the test itself deal with what comes in."""
    queue: asyncio.Queue[Incoming] = asyncio.Queue()
    callee.on_invite = queue.put_nowait
    return queue


async def test_the_offer_and_the_answer_cross_and_bye_ends_both_sides(caller: UserAgent, callee: UserAgent) -> None:
    queue = answering(callee)
    outgoing = dial(caller, callee.address)
    incoming = await queue.get()
    assert incoming.request.call_id == "abc"
    assert incoming.request.headers.get("X-Correlation-Id") == "0" * 32
    assert sdp.read(incoming.request.body) == (("127.0.0.1", 40000), ["PCMU", "PCMA"])
    incoming.ring()
    theirs = incoming.answer(sdp.describe(("127.0.0.1", 40002), ("PCMA",)), [("X-Platform-Id", "p-1")])
    ours = await outgoing.answered()
    assert outgoing.provisional == [100, 180]
    assert sdp.read(ours.remote_sdp) == (("127.0.0.1", 40002), ["PCMA"])
    await asyncio.wait_for(theirs.acknowledged.wait(), 1)
    answer = await theirs.bye()
    assert answer is not None
    assert answer.status == 200
    assert ours.ended.is_set()
    assert not ours.ended_by_us
    assert await ours.bye() is None


async def test_a_refusal_names_its_status_and_its_words(caller: UserAgent, callee: UserAgent) -> None:
    queue = answering(callee)
    outgoing = dial(caller, callee.address)
    (await queue.get()).reject(486, [("Reason", 'SIP;cause=486;text="at lunch"')])
    with pytest.raises(CallRefused, match=r"486 Busy Here.*at lunch"):
        await outgoing.answered()


async def test_a_cancelled_call_ends_with_487_on_both_sides(caller: UserAgent, callee: UserAgent) -> None:
    queue = answering(callee)
    outgoing = dial(caller, callee.address)
    incoming = await queue.get()
    incoming.ring()
    outgoing.cancel()
    with pytest.raises(CallRefused, match="487"):
        await outgoing.answered()
    assert incoming.cancelled


async def test_a_party_that_takes_no_calls_says_so(caller: UserAgent, callee: UserAgent) -> None:
    with pytest.raises(CallRefused, match="405"):
        await dial(caller, callee.address).answered()


async def test_octets_that_are_no_sip_are_counted_and_harm_nothing(caller: UserAgent, callee: UserAgent) -> None:
    queue = answering(callee)
    callee.datagram_received(b"\xff\x00 nonsense\r\n\r\n", ("127.0.0.1", 9))
    assert callee.malformed == 1
    outgoing = dial(caller, callee.address)
    (await queue.get()).answer(OFFER)
    await (await outgoing.answered()).bye()


@pytest.mark.parametrize(
    "body", [b"", b"v=0\r\n", b"v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 RTP/AVP 9\r\n", b"c=IN IP4 127.0.0.1\r\nm=audio x RTP/AVP 0\r\n"]
)
def test_a_description_without_usable_audio_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"no G\.711 audio"):
        sdp.read(body)
