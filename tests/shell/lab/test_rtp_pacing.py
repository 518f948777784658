"""The stand-ins' RTP on a real socket: an absolute schedule, and audio that arrives as it was placed."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from sidecar.clocks import Mono
from sidecar.lab import g711
from sidecar.lab.rtp import FADE, FRAME, PTIME_S, Heard, RtpParty
from sidecar.lab.speech import clip


async def test_a_loop_that_was_held_up_catches_up_and_does_not_drift() -> None:
    heard: list[Heard] = []
    sender, receiver = await RtpParty.open(), await RtpParty.open(on_heard=heard.append)
    sender.start(receiver.address, "PCMU")
    await asyncio.sleep(0.1)
    time.sleep(0.15)
    await asyncio.sleep(0.1)
    elapsed = time.monotonic() - sender.time_of(0)
    sender.close()
    await asyncio.sleep(0.02)
    receiver.close()
    await asyncio.sleep(0)
    assert sender.sent == pytest.approx(elapsed / PTIME_S, abs=2)
    assert [packet.sample for packet in heard] == [k * FRAME for k in range(sender.sent)]
    assert receiver.heard.packets == len(receiver.heard.sequences) == sender.sent


async def test_a_clip_begins_at_the_sample_it_was_placed_at_and_a_cut_ends_it() -> None:
    heard: list[Heard] = []
    sender, receiver = await RtpParty.open(noise=False), await RtpParty.open(on_heard=heard.append)
    sender.start(receiver.address, "PCMA")
    said = clip("caller_yes")
    spoken = sender.say(said, Mono(sender.time_of(0) + 0.1003))
    sender.cut(spoken, Mono(sender.time_of(0) + 0.25))
    await asyncio.sleep(0.35)
    sender.close()
    await asyncio.sleep(0.02)
    receiver.close()
    await asyncio.sleep(0)
    audio = np.concatenate([packet.samples for packet in heard])
    assert spoken.at + said.onset == round(0.1003 * 8000)
    kept = g711.decode(g711.encode(said.samples, "PCMA"), "PCMA")[: 2000 - spoken.at - FADE]
    assert (audio[spoken.at : 2000 - FADE] == kept).all()
    assert np.abs(audio[2000:]).max() <= 8
    ((start, end),) = sender.speech()
    assert start - sender.time_of(0) == pytest.approx(0.1003, abs=0.001)
    assert end - sender.time_of(0) == pytest.approx(0.25, abs=0.01)


async def test_a_party_that_has_not_started_has_no_times() -> None:
    party = await RtpParty.open()
    with pytest.raises(RuntimeError, match="not started"):
        party.say(clip("caller_yes"), Mono(1.0))
    party.close()
    await asyncio.sleep(0)
