"""What one call has in a pool of rtpengines: an instance, descriptions, and copies of what both parties send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from sidecar.b2bua.effects import AskRelay, Leg, other
from sidecar.b2bua.legs import Placed
from sidecar.clocks import Addr, Mono
from sidecar.media.tap import Ring
from sidecar.media.wire import Flow, Wire
from sidecar.net.rtp import NoPorts, PortPool
from sidecar.net.rtpengine import commands
from sidecar.net.rtpengine.client import NoAnswer, Server
from sidecar.net.rtpengine.commands import Command, Counted, Refused
from sidecar.net.rtpengine.copies import Copy
from sidecar.net.rtpengine.pool import Pool
from sidecar.sip.sdp import MediaLine

Found = Callable[[str, str], None]
"""Takes the name and the words of what is to be said in the call."""
_LEGS: tuple[Leg, Leg] = ("A", "B")
_BEFORE = 5
"""Packets: an agent may send so many while the copy of them is still being asked for."""


class RelayFailed(Exception):
    """No instance takes the call's media. The text says why."""


class RelayedCall:
    """One call. Everything that is said about it to its instance is said in turn."""

    def __init__(self, call: str, pool: Pool, ports: PortPool, ring: Ring, found: Found) -> None:
        """`ports` are for the copies, which go to `ring`."""
        self.server: Server | None = None
        self.measured: int | None = None
        """Index of the m-line that is listened to."""
        self.wire: Wire | None = None
        """Keeps the packets with their ways, as far as descriptions tell those."""
        self.counted = Counted()
        """Known when the call has been closed."""
        self._call = call
        self._pool = pool
        self._ports = ports
        self._ring = ring
        self._found = found
        self._turn = asyncio.Lock()
        self._said: dict[Leg, tuple[tuple[MediaLine, ...], str]] = {}
        """What the instance was told last of each party: its m-lines, and where its messages come from."""
        self._agreed: dict[tuple[Leg, int], MediaLine] = {}
        self._placed: dict[Leg, Placed] = {}
        """Where each leg's party sends to."""
        self._copies: dict[Leg, Copy] = {}
        self._copied = 0
        self._closed = False

    # -- descriptions ------------------------------------------------------------------------------------------------------------------

    async def ask(self, asked: AskRelay) -> Placed:
        """Tell what one party says, and learn what the other is to be told. Raises RelayFailed."""
        async with self._turn:
            if self._closed:
                raise RelayFailed("the call is over")
            if self.measured is None:
                self.measured = min((line.index for line in asked.lines if line.port), default=None)
            answer, server = await self._exchanged(asked)
            far = other(asked.leg)
            before = self._placed.get(far)
            try:
                placed = self._placed[far] = commands.placed(answer, before.host if before else asked.hosts[_LEGS.index(far)])
            except Refused as error:
                raise RelayFailed(f"media relay {server.name}: {error}") from error
            self._said[asked.leg] = (asked.lines, asked.signalling_host)
            if not asked.is_offer:
                await self._listen(server)
            return placed

    async def _exchanged(self, asked: AskRelay) -> tuple[Mapping[str, Any], Server]:
        """Ask the call's instance; for a new offer, others after it."""
        why = "there is none"
        for server in self._candidates(asked):
            anew = server is not self.server
            try:
                answer = await server.ask(self._command(asked, anew=anew))
            except NoAnswer as error:
                self._pool.down(server, str(error))
                why = str(error)
            except Refused as error:
                why = f"{server.name}: {error}"
                if not error.busy:
                    break
            else:
                self._pool.up(server)
                if anew:
                    self._move(server)
                return answer, server
        raise RelayFailed(f"no media relay takes the call: {why}")

    def _candidates(self, asked: AskRelay) -> list[Server]:
        if self.server is not None and (self.server.is_up or not asked.is_offer):
            return [self.server]
        # The offer begins the session anew, so another instance can take it: each party learns of it by the other's description.
        return [server for server in self._pool.candidates() if server is not self.server]

    def _command(self, asked: AskRelay, *, anew: bool) -> Command:
        far = other(asked.leg)
        return commands.exchange(
            self._call,
            asked.leg,
            asked.leg if asked.is_offer else far,
            commands.describe(asked.lines, asked.signalling_host),
            anew=anew or far not in self._said,
            interfaces=self._pool.interfaces,
            ipv6=":" in asked.hosts[_LEGS.index(far)],
        )

    def _move(self, server: Server) -> None:
        if self.server is not None:
            self._found("media_relay_moved", f"the call's media goes on by {server.name}, since {self.server.name} does not answer")
            self._said.clear()
            self._stop_listening()
        self.server = server

    def told(self, leg: Leg, line: MediaLine) -> None:
        """What the party of `leg` said counts from now on."""
        self._agreed[leg, line.index] = line

    @property
    def is_stale(self) -> bool:
        """The instance was told something since that does not count: an offer that was refused, or another branch of a fork."""
        return any(
            line != agreed
            for leg, (lines, _) in self._said.items()
            for line in lines
            if (agreed := self._agreed.get((leg, line.index))) is not None
        )

    async def restore(self) -> None:
        """Tell the instance again what counts."""
        async with self._turn:
            server = self.server
            if self._closed or server is None or not self.is_stale or len(self._said) < len(_LEGS):
                return
            for leg in _LEGS:
                lines, host = self._said[leg]
                agreed = tuple(self._agreed.get((leg, line.index), line) for line in lines)
                self._said[leg] = (agreed, host)
                described = commands.describe(agreed, host)
                command = commands.exchange(self._call, leg, "A", described, anew=False, interfaces=self._pool.interfaces)
                try:
                    await server.ask(command)
                except (NoAnswer, Refused) as error:
                    self._found("media_relay_stale", f"{server.name} could not be told of the session that counts: {error}")
                    return

    def local(self, leg: Leg) -> Addr | None:
        """Where the party of `leg` was told to send the media that is listened to; None before that."""
        return self._at(leg, 0)

    # -- copies ------------------------------------------------------------------------------------------------------------------------

    async def _listen(self, server: Server) -> None:
        """Have both parties' media copied here. A call without its copies goes on: it is not measured, and says so."""
        if self._copies or self.measured is None:
            return
        try:
            for leg in _LEGS:
                self._copies[leg] = Copy(self._ports, server.local_host, leg, self._ring, asyncio.get_running_loop(), self._wired)
            await self._both(self._subscribe(server, leg, self._copies[leg], self.measured) for leg in _LEGS)
        except (NoAnswer, NoPorts, Refused) as error:
            self._stop_listening()
            self._found("media_not_copied", f"{server.name} gives no copy of the media, so nothing of it is measured: {error}")

    @staticmethod
    async def _both(asked: Iterable[Coroutine[Any, Any, None]]) -> None:
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _subscribe(self, server: Server, leg: Leg, copy: Copy, measured: int) -> None:
        answer = await server.ask(commands.ask_copy(self._call, leg, self._pool.interfaces))
        offered = commands.lines(answer)
        line = next((line for line in offered if line.index == measured and line.port), None)
        if line is None:
            raise Refused("it offers no copy of that m-line")
        copy.source = (line.address, line.port)
        await server.ask(commands.take_copy(self._call, leg, offered, measured, copy.at))

    def _wired(self, leg: Leg, component: int, data: bytes, arrival: Mono) -> None:
        if self.wire is None:
            return
        far = other(leg)
        ways = self._remote(leg, component), self._at(leg, component), self._at(far, component), self._remote(far, component)
        source, local, out, destination = ways
        if source is not None and local is not None and out is not None and destination is not None:
            self.wire.offer(Flow(leg, source, local, out, destination), data, arrival)

    def _remote(self, leg: Leg, component: int) -> Addr | None:
        """Where a party said that it takes media, which is where it sends from."""
        line = self._agreed.get((leg, self.measured if self.measured is not None else -1))
        if line is None:
            return None
        return line.rtcp if component else line.remote

    def _at(self, leg: Leg, component: int) -> Addr | None:
        """The relay's port towards a party."""
        placed = self._placed.get(leg)
        ports = placed.ports.get(self.measured) if placed is not None and self.measured is not None else None
        return None if placed is None or ports is None else (placed.host, ports[component])

    def _stop_listening(self) -> None:
        for copy in self._copies.values():
            copy.close()
            self._copied += copy.packets
        self._copies = {}

    # -- the end -----------------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Ask for the counts, have the call forgotten, and take the last of the copies."""
        self._closed = True
        async with self._turn:
            if (server := self.server) is not None and server.is_up:
                try:
                    await self._take_leave(server)
                except NoAnswer as error:
                    self._pool.down(server, str(error))
            self._stop_listening()

    async def _take_leave(self, server: Server) -> None:
        """What the relay refuses to tell is no reason to leave the call with it. Raises NoAnswer."""
        try:
            self.counted = commands.counted(await server.ask(commands.query(self._call)), self.measured)
        except Refused as error:
            lost = "it did not know the call any more: it was started anew, or saw no packet for its timeout"
            self._found("media_relay_lost", f"{server.name}: {lost if error.unknown else error}")
            if error.unknown:
                return
        try:
            await server.ask(commands.delete(self._call))
        except Refused as error:
            self._found("media_relay_lost", f"{server.name}: {error}")

    @property
    def missed(self) -> int:
        """Packets that were relayed and of which no copy came."""
        missed = self._uncopied - self.refused
        return missed if missed > _BEFORE else 0

    @property
    def refused(self) -> int:
        """Packets that went nowhere, since they came from a strange source."""
        return min(self.counted.errors, self._uncopied)

    @property
    def _uncopied(self) -> int:
        return max(0, self.counted.packets - self._copied)

    def describe(self) -> dict[str, object]:
        """State and counts, for the admin API."""
        return {
            "server": self.server.name if self.server is not None else None,
            "copied": {leg: copy.packets for leg, copy in self._copies.items()},
            "placed": {leg: [placed.host, *sorted(placed.ports.values())] for leg, placed in self._placed.items()},
        }
