"""DTLS-SRTP on a leg: with aiortc, a WebRTC endpoint, at its far end; and what must not pass."""

from __future__ import annotations

import asyncio
import socket
import struct
from fractions import Fraction

import aioice.ice
import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription

from sidecar.b2bua.legs import PortPairs
from sidecar.b2bua.securing import Securing
from sidecar.media.rtp import is_rtcp
from sidecar.media.tap import Ring
from sidecar.net.dtls import Association, certificate, checked
from sidecar.net.rtp import MediaLine
from sidecar.net.srtp import Shield
from sidecar.sip import sdp
from sidecar.sip.dtls import Dtls, Ice, fingerprints
from sidecar.sip.sdes import Keys
from tests.shell.net.test_rtp import HOST, connect, packet, party, received
from tests.shell.net.test_srtp import REPORT, opened

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\n"
    "a=rtpmap:0 PCMU/8000\r\na=sendrecv\r\na=rtcp:{2}\r\na=ptime:20\r\n"
)
OURS = fingerprints([certificate().fingerprint])


class Tone(MediaStreamTrack):
    """440 Hz for as long as it is asked."""

    kind = "audio"
    at = 0

    async def recv(self) -> av.AudioFrame:
        await asyncio.sleep(0.02)
        time = (self.at + np.arange(160)) / 8000
        frame = av.AudioFrame.from_ndarray((8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16).reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, self.at, Fraction(1, 8000)
        self.at += 160
        return frame


async def negotiated(line: MediaLine, agent: RTCPeerConnection, caller: socket.socket, rtcp: socket.socket) -> bytes:
    """An RTP caller's offer goes to a WebRTC agent as the sidecar would tell it; the answer as the caller gets it."""
    securing, ports = (
        Securing("dtls"),
        {0: PortPairs(line.ports("A"), line.ports("B"), (bytes(156), bytes(range(156))), certificate().fingerprint)},
    )
    offer = sdp.parse(OFFER.format(HOST, caller.getsockname()[1], rtcp.getsockname()[1]).encode())
    securing.heard("A", offer.media, offers=True)
    line.negotiated("A", caller.getsockname(), rtcp.getsockname(), HOST)
    told = securing.told(offer.rewrite(HOST, {0: line.ports("B")}), "B", offer.media, ports)
    await agent.setRemoteDescription(RTCSessionDescription(told.decode(), "offer"))
    await agent.setLocalDescription(await agent.createAnswer())
    answer = sdp.parse(agent.localDescription.sdp.encode())
    securing.heard("B", answer.media, offers=False)
    medium = answer.media[0]
    line.negotiated("B", (medium.address, medium.port), medium.rtcp, HOST)
    line.secure("B", securing.keys("B", 0, ports[0]))
    return securing.told(answer.rewrite(HOST, {0: line.ports("A")}), "A", answer.media, ports)


async def test_a_webrtc_agent_and_a_caller_with_rtp_hear_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: [HOST])
    ring = Ring(1000)
    line, agent = opened(ring), RTCPeerConnection()
    heard: asyncio.Future[MediaStreamTrack] = asyncio.get_running_loop().create_future()
    agent.on("track", heard.set_result)
    agent.addTrack(Tone())
    with party() as caller, party() as rtcp:
        back = await negotiated(line, agent, caller, rtcp)
        assert b"RTP/AVP" in back
        assert not [word for word in (b"fingerprint", b"ice-", b"candidate", b"setup", b"rtcp-mux") if word in back]
        first = (await received(caller))[0]
        assert first[1] & 0x7F == 0, "PCMU in the clear"
        track = await heard
        for number in range(50):
            caller.sendto(struct.pack("!BBHII", 0x80, 0, number, number * 160, 7) + bytes(160), (HOST, line.ports("A")[0]))
            rtcp.sendto(REPORT, (HOST, line.ports("A")[1]))
            await asyncio.sleep(0.005)
        frame = await asyncio.wait_for(track.recv(), 5)
        assert isinstance(frame, av.AudioFrame)
        report = (await received(rtcp))[0]
        assert is_rtcp(report), "its RTCP came on the port that it shares, and went to the caller's own"
        assert "DTLS-SRTP" in str(line.describe()["dtls"])
        await agent.close()
        line.close()
    tapped = ring.drain()
    assert {leg for leg, data, _ in tapped if not is_rtcp(data)} == {"A", "B"}
    assert line.unauthentic == 0


def shaken(first: Association, second: Association) -> None:
    """Let both ends talk until neither has anything to say."""
    going = first.start()
    while going:
        coming = [answer for datagram in going for answer in second.receive(datagram)]
        going = [answer for datagram in coming for answer in first.receive(datagram)]


def test_both_ends_have_the_same_keys_the_other_way_round() -> None:
    client, server = Association(certificate(), Dtls(OURS, True)), Association(certificate(), Dtls(OURS, False))
    shaken(client, server)
    assert client.keys is not None
    assert client.keys.suite == "AEAD_AES_256_GCM"
    assert server.keys == Keys(client.keys.suite, client.keys.ours, client.keys.theirs)


def test_another_certificate_than_the_description_names_gives_no_keys() -> None:
    client, server = Association(certificate(), Dtls(OURS, True)), Association(certificate(), Dtls((("sha-256", bytes(32)),), False))
    shaken(client, server)
    assert (server.keys, server.failed) == (None, "the certificate is not the one that the description names")


async def test_a_party_without_ice_shakes_hands_where_its_description_says() -> None:
    """Nothing passes before the keys are there, and a stranger gets no answer."""
    line = opened()
    far = Association(certificate(), Dtls(OURS, True))
    with party() as caller, party() as agent, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.setblocking(False)
        connect(line, caller, agent)
        line.secure("A", Dtls(OURS, client=False))
        to = (HOST, line.ports("A")[0])
        caller.sendto(packet(1), to)
        agent.sendto(packet(1), (HOST, line.ports("B")[0]))
        going = far.start()
        for datagram in going:
            stranger.sendto(datagram, to)
        while far.keys is None:
            for datagram in going:
                caller.sendto(datagram, to)
            going = far.receive((await received(caller))[0])
        for datagram in going:
            caller.sendto(datagram, to)
        shield = Shield(far.keys)
        for number in (2, 3):
            sealed = shield.seal(packet(number))
            assert sealed is not None
            caller.sendto(sealed, to)
            assert (await received(agent))[0] == packet(number)
            agent.sendto(packet(number), (HOST, line.ports("B")[0]))
            assert shield.open((await received(caller))[0]) == packet(number)
        with pytest.raises(BlockingIOError):
            stranger.recv(2048)
        line.close()
    assert line.unauthentic == 1
    assert line.refused == 2


@pytest.mark.parametrize("change", ["nothing", "password", "user", "no integrity", "an answer", "noise"])
def test_only_a_check_that_proves_to_be_the_partys_is_answered(change: str) -> None:
    ours = Ice("ours", "password-of-ours-22-cha", "them")
    message = aioice.stun.Message(
        aioice.stun.Method.BINDING,
        aioice.stun.Class.RESPONSE if change == "an answer" else aioice.stun.Class.REQUEST,
        transaction_id=bytes(12),
    )
    message.attributes["USERNAME"] = "ours:others" if change == "user" else "ours:them"
    message.attributes["USE-CANDIDATE"] = None
    if change != "no integrity":
        message.add_message_integrity(b"guessed" if change == "password" else ours.pwd.encode())
    message.add_fingerprint()
    datagram = bytes(message)[:-3] if change == "noise" else bytes(message)
    found = checked(datagram, ("192.0.2.7", 4000), ours)
    if change != "nothing":
        assert found is None
        return
    assert found is not None
    assert found.nominates
    answer = aioice.stun.parse_message(found.answer)
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == ("192.0.2.7", 4000)
    assert answer.check_message_integrity(ours.pwd.encode())
