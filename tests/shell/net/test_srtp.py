"""SRTP on one leg or both, against libsrtp at the far ends, on real sockets."""

from __future__ import annotations

import asyncio
import struct

import pytest
from pylibsrtp import Policy, Session

from sidecar.media.tap import Ring
from sidecar.net.rtp import MediaLine, PortPool
from sidecar.sip import sdes
from sidecar.sip.sdes import Keys
from tests.shell.net.test_rtp import HOST, connect, packet, party, received

PROFILES = {
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}
REPORT = struct.pack("!BBHI", 0x80, 201, 1, 0xCAFE)


class Far:
    """A party with the keys of its leg."""

    def __init__(self, suite: str, seed: int) -> None:
        length = sdes.SUITES[suite]
        self.keys = Keys(suite, bytes((seed + i) % 256 for i in range(length)), bytes((seed + 100 + i) % 256 for i in range(length)))
        self.sends = Session(Policy(key=self.keys.theirs, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[suite]))
        self.hears = Session(Policy(key=self.keys.ours, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[suite]))


def opened(ring: Ring | None = None) -> MediaLine:
    with party() as probe:
        low = min(probe.getsockname()[1], 64000) & ~1
    return MediaLine(PortPool(low, low + 80), (HOST, HOST), asyncio.get_running_loop(), ring, secured=True)


@pytest.mark.parametrize("suite", list(sdes.SUITES))
async def test_srtp_of_the_caller_is_rtp_for_the_agent_and_back(suite: str) -> None:
    ring, far = Ring(100), Far(suite, 1)
    line = opened(ring)
    line.secure("A", far.keys)
    with party() as caller, party() as agent:
        connect(line, caller, agent)
        for number in (65534, 65535, 0, 1):  # the sequence wraps: the roll-over counter has to follow
            caller.sendto(far.sends.protect(packet(number)), (HOST, line.ports("A")[0]))
            assert (await received(agent))[0] == packet(number)
            agent.sendto(packet(number), (HOST, line.ports("B")[0]))
            sealed = (await received(caller))[0]
            assert sealed[12:] != packet(number)[12:]
            assert far.hears.unprotect(sealed) == packet(number)
        assert {data for _, data, _ in ring.drain()} == {packet(number) for number in (65534, 65535, 0, 1)}
        line.close()
    assert line.unauthentic == 0


async def test_each_leg_has_its_own_srtp() -> None:
    left, right = Far("AES_CM_128_HMAC_SHA1_80", 1), Far("AEAD_AES_128_GCM", 9)
    line = opened()
    line.secure("A", left.keys)
    line.secure("B", right.keys)
    with party() as caller, party() as agent:
        connect(line, caller, agent)
        caller.sendto(left.sends.protect(packet(7)), (HOST, line.ports("A")[0]))
        assert right.hears.unprotect((await received(agent))[0]) == packet(7)
        agent.sendto(right.sends.protect(packet(8)), (HOST, line.ports("B")[0]))
        assert left.hears.unprotect((await received(caller))[0]) == packet(8)
        line.close()


async def test_rtcp_is_opened_and_sealed_too() -> None:
    far = Far("AES_CM_128_HMAC_SHA1_80", 1)
    line = opened()
    line.secure("B", far.keys)
    with party() as caller, party() as agent:
        line.negotiated("A", caller.getsockname(), caller.getsockname(), HOST)
        line.negotiated("B", agent.getsockname(), agent.getsockname(), HOST)
        caller.sendto(REPORT, (HOST, line.ports("A")[1]))
        assert far.hears.unprotect_rtcp((await received(agent))[0]) == REPORT
        agent.sendto(far.sends.protect_rtcp(REPORT), (HOST, line.ports("B")[1]))
        assert (await received(caller))[0] == REPORT
        line.close()


async def test_what_is_forged_plain_or_repeated_reaches_nobody_and_locks_nothing() -> None:
    far, stranger = Far("AES_CM_128_HMAC_SHA1_80", 1), Far("AES_CM_128_HMAC_SHA1_80", 77)
    line = opened()
    line.secure("A", far.keys)
    with party() as caller, party() as agent, party() as other:
        connect(line, caller, agent)
        to = (HOST, line.ports("A")[0])
        other.sendto(stranger.sends.protect(packet(1)), to)
        caller.sendto(packet(2), to)
        caller.sendto(b"\x80", to)
        good = far.sends.protect(packet(3))
        caller.sendto(good, to)
        assert (await received(agent))[0] == packet(3)
        caller.sendto(good, to)
        caller.sendto(far.sends.protect(packet(4)), to)
        assert (await received(agent))[0] == packet(4)
        line.close()
    assert line.unauthentic == 4


async def test_the_same_keys_said_again_keep_the_counters() -> None:
    far = Far("AES_CM_128_HMAC_SHA1_80", 1)
    line = opened()
    line.secure("A", far.keys)
    with party() as caller, party() as agent:
        connect(line, caller, agent)
        for number in (65535, 0, 1):
            caller.sendto(far.sends.protect(packet(number)), (HOST, line.ports("A")[0]))
            assert (await received(agent))[0] == packet(number)
            line.secure("A", Keys(far.keys.suite, far.keys.theirs, far.keys.ours))
        line.secure("A", None)
        caller.sendto(packet(9), (HOST, line.ports("A")[0]))
        assert (await received(agent))[0] == packet(9)
        line.close()
