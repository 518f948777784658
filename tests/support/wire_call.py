"""A call through a running sidecar whose packets are known one by one: placed and answered here, each datagram sent at its own time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from control.contract.call import Call as ShownCall
from control.contract.call import Turn
from control.contract.facts import FACT
from control.contract.fold import fold
from sidecar.lab.ua import Call, Incoming, UserAgent
from tests.support.product import until

Sent = tuple[float, bytes]
"""Seconds since the call's first packet, and a datagram."""


def description(address: tuple[str, int], *formats: str) -> bytes:
    """An offer or answer: `formats` are `0 PCMU/8000` and the like."""
    host, port = address
    numbers = " ".join(text.split()[0] for text in formats)
    lines = ["v=0", f"o=- 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0", f"m=audio {port} RTP/AVP {numbers}"]
    return "\r\n".join([*lines, *(f"a=rtpmap:{text}" for text in formats), ""]).encode()


def media_of(sdp: bytes) -> tuple[str, int]:
    """Where the other side wants its audio."""
    lines = sdp.decode().splitlines()
    host = next(line for line in lines if line.startswith("c=")).split()[-1]
    return host, int(next(line for line in lines if line.startswith("m=audio")).split()[1])


@dataclass(frozen=True)
class Measured:
    """What is known of a call in the end, and the turns as they were told while it ran."""

    call: ShownCall
    told: list[Turn]


@dataclass
class Party:
    """One party's socket."""

    sock: socket.socket
    received: int = 0

    @classmethod
    def open(cls, host: str, port: int = 0) -> Party:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((host, port))
        sock.setblocking(False)
        return cls(sock)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.sock.getsockname()
        return host, port

    def drain(self) -> list[bytes]:
        """What has come."""
        found: list[bytes] = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.sock.recv(2048))
        self.received += len(found)
        return found


@dataclass
class WireCall:
    """Both ends of a call."""

    caller: Call
    agent: Call
    parties: dict[str, Party] = field(default_factory=dict)

    async def play(self, caller: Sequence[Sent], agent: Sequence[Sent]) -> None:
        """Send every datagram at its time, or as soon after it as this machine can."""
        targets = {"A": media_of(self.caller.remote_sdp), "B": media_of(self.agent.remote_sdp)}
        script = sorted((at, leg, data) for leg, sent in (("A", caller), ("B", agent)) for at, data in sent)
        start = time.monotonic() + 0.05
        for at, leg, data in script:
            if (wait := start + at - time.monotonic()) > 0.0005:
                await asyncio.sleep(wait)
            self.parties[leg].sock.sendto(data, targets[leg])
            self.parties[leg].drain()

    async def end(self) -> None:
        """The caller hangs up."""
        await self.caller.bye()
        for party in self.parties.values():
            party.drain()
            party.sock.close()


class Exchange:
    """Caller and agent side by side, for any number of calls through one sidecar."""

    def __init__(self) -> None:
        self.sip = ""
        """Where the sidecar listens."""
        self._caller: UserAgent | None = None
        self._agent: UserAgent | None = None
        self._waiting: dict[str, tuple[bytes, asyncio.Future[Call]]] = {}

    async def open(self, host: str) -> None:
        self._caller = await UserAgent.open(host)
        self._agent = await UserAgent.open(host, on_invite=self._invited)

    @property
    def agent(self) -> UserAgent:
        """The one that is dialled."""
        assert self._agent is not None
        return self._agent

    def _invited(self, incoming: Incoming) -> None:
        body, future = self._waiting.pop(incoming.request.headers.get("Call-ID") or "")
        future.set_result(incoming.answer(body))

    async def place(self, call_id: str, user: str, *formats: str, ports: tuple[int, int] = (0, 0)) -> WireCall:
        """One answered call. The Call-ID crosses, so the agent's end is found by it."""
        assert self._caller is not None
        host = self._caller.address[0]
        parties = {"A": Party.open(host, ports[0]), "B": Party.open(host, ports[1])}
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = description(parties["B"].address, *formats), future
        offer = description(parties["A"].address, *formats)
        outgoing = self._caller.dial(f"sip:{user}@{self.sip}", offer, from_uri=f"sip:caller@{host}", call_id=call_id)
        caller = await asyncio.wait_for(outgoing.answered(), 20)
        return WireCall(caller, await future, parties)

    async def close(self) -> None:
        for ua in (self._caller, self._agent):
            if ua is not None:
                await ua.close()


def measured(spool: Path, call_id: str) -> Measured:
    """The call as control would show it, from its whole trace in the spool of a sidecar whose control is away."""

    def found() -> Measured | None:
        for file in spool.glob("*.jsonl"):
            *lines, _ = file.read_bytes().split(b"\n")
            facts = [FACT.validate_json(line) for line in lines]
            shown = fold(facts)
            if shown is not None and shown.sip_call_id == call_id and facts[-1].kind == "call_closed":
                return Measured(shown, [fact.turn for fact in facts if fact.kind == "turn_measured"])
        return None

    result: Measured = until(f"the trace of {call_id}", found)
    return result
