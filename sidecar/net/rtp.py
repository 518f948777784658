"""RTP on the wire: port pairs from the configured range, and the forwarding of every packet before anything else looks at it."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.clocks import Addr, Mono
from sidecar.media.relay import RTCP, RTP, Component, Leg, Path, Relay
from sidecar.media.rtp import is_rtcp
from sidecar.media.tap import Ring, Tapped
from sidecar.media.wire import Flow, Wire
from sidecar.native.forwarder import Figures, Forwarder, Owner, Packet
from sidecar.net.srtp import Shield
from sidecar.sip.dtls import Dtls
from sidecar.sip.sdes import Keys

if TYPE_CHECKING:
    from sidecar.net.doorway import Doorway

SO_TIMESTAMPNS = 35
"""Linux's option number; `socket` has no name for it. Arrival times then come from the kernel, not from when we got round to reading."""
_TIMESPEC = struct.Struct("@qq")
LARGEST = 2048
ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)
_DELAY_SAMPLES = 1024
_DELAY_EVERY = 8
"""One packet in so many has its delay noted: the samples reach back over a minute of a call."""
_READY_AT_ONCE = 1024
"""Sockets with a packet that are served before the event loop sees to anything else: media may not wait for signalling."""
_LAST_WORDS = 512
"""Packets of one socket that are still forwarded at the end of a call: what was sent before the BYE has to arrive."""
_LONGEST_WAIT = 30.0
"""Seconds; a packet that seems to have waited longer was stamped by a wall clock that has been set since."""


def is_media(data: bytes) -> bool:
    """RFC 7983: the first octet tells SRTP and SRTCP from STUN and DTLS."""
    return bool(data) and 128 <= data[0] <= 191


class NoPorts(Exception):
    """Every port pair of the range is taken. The text says which range."""


class BoundPair(NamedTuple):
    """The sockets of one leg of one m-line."""

    port: int
    rtp: socket.socket
    rtcp: socket.socket


class PortPool:
    """Even ports of a range, handed out longest-unused first: a late packet of the last call must not reach the next one.

    A port that is taken on one address of ours is not handed out on another.
    """

    def __init__(self, low: int, high: int, forwarder: Forwarder | None = None) -> None:
        """`forwarder` moves the packets of the lines that are opened on these ports; None: the event loop does."""
        self.range = (low, high)
        self.forwarder = forwarder
        self._free = deque(range(low + low % 2, high, 2))
        self.readers = Readers()

    @property
    def free(self) -> int:
        """How many pairs are left."""
        return len(self._free)

    def bind(self, host: str) -> BoundPair:
        """Two bound, non-blocking sockets of `host` on an even port and the next (RFC 3550 section 11). Raises NoPorts."""
        for _ in range(len(self._free)):
            port = self._free.popleft()
            try:
                return BoundPair(port, *_bind_pair(host, port))
            except OSError:
                self._free.append(port)  # another process has it; the next round may find it free
        raise NoPorts(f"no free RTP port pair on {host} in {self.range[0]}–{self.range[1]}; widen media.ports")

    def release(self, port: int) -> None:
        """Put a pair back, behind all others."""
        self._free.append(port)


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound: list[socket.socket] = []
    try:
        for number in (port, port + 1):
            sock = socket.socket(family, socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0))
            bound.append(sock)
            if not hasattr(socket, "SOCK_NONBLOCK"):
                sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            if family == socket.AF_INET6:
                # 0.0.0.0 is a host of its own, and a source of ::ffff:… would be none that was negotiated.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, number))
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound[0], bound[1]


class Readers:
    """The media sockets of all calls, behind one descriptor that the event loop watches.

    A loop takes as long to call one reader back as a packet takes to be forwarded; so it is called once for all packets that are there,
    and registering a socket is one system call. Where there is no epoll, the loop watches each socket itself.
    """

    def __init__(self) -> None:
        self._forward: dict[int, Callable[[], object]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poll: select.epoll | None = None

    def add(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, forward: Callable[[], object]) -> None:
        """Call `forward` whenever `sock` has something to read."""
        if not hasattr(select, "epoll"):
            loop.add_reader(sock, forward)
            return
        if self._poll is None:
            self._poll, self._loop = select.epoll(), loop
            loop.add_reader(self._poll.fileno(), self.forward, _READY_AT_ONCE)
        self._forward[sock.fileno()] = forward
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def remove(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """Stop, before the socket is closed."""
        if self._poll is None:
            loop.remove_reader(sock)
            return
        self._poll.unregister(sock.fileno())
        del self._forward[sock.fileno()]
        if not self._forward and self._loop is not None:
            self._loop.remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = self._loop = None

    def forward(self, most: int) -> None:
        """Forward one packet of each of up to `most` sockets that have any."""
        if self._poll is not None:
            for number, _ in self._poll.poll(0, most):
                forward = self._forward.get(number)
                if forward is not None:
                    forward()


_FAR: Final[dict[Leg, Leg]] = {"A": "B", "B": "A"}
_LEGS: Final[tuple[Leg, Leg]] = ("A", "B")
_COMPONENTS: Final[tuple[Component, Component]] = (RTP, RTCP)


class MediaLine:
    """The four sockets of one m-line, and the relay between them.

    With a native forwarder, packets whose source is locked never come here: its thread moves them and hands over copies. What it does not
    know is asked of the relay, here, and after each answer the thread is told which paths are open.
    """

    def __init__(
        self, pool: PortPool, hosts: tuple[str, str], loop: asyncio.AbstractEventLoop, ring: Ring | None, *, secured: bool = False
    ) -> None:
        """Bind both port pairs, leg A's and leg B's each on its host, which may be of two families.

        `secured`: SRTP of either leg ends here, so the event loop moves the packets itself.

        `ring` gets each forwarded RTP and RTCP packet (None: nobody listens). Raises NoPorts.
        """
        self.relay = Relay()
        self.delays: list[float] = []
        """Seconds from a packet's arrival in the kernel to its leaving, for some of the newest packets; known when the line is closed."""
        self.send_errors = 0
        self._pool = pool
        self._loop = loop
        self._ring = ring
        self._samples: deque[float] = deque(maxlen=_DELAY_SAMPLES)
        self._native = None if secured else pool.forwarder
        self._shields: dict[Leg, Shield] = {}
        self._doors: dict[Leg, Doorway] = {}
        self._wire: Wire | None = None
        self._hosts: dict[Leg, str] = {"A": hosts[0], "B": hosts[1]}
        self.unauthentic = 0
        """Packets that were not encrypted with their party's key, or came twice: refused like those from a strange source."""
        self._refused = 0
        a = pool.bind(hosts[0])
        try:
            b = pool.bind(hosts[1])
        except NoPorts:
            _close(a, pool)
            raise
        self._bound: dict[Leg, BoundPair] = {"A": a, "B": b}
        self._forwarders: list[Callable[[], bool]] = []
        self._paths: dict[int, tuple[Leg, Component]] = {}
        self._open: dict[int, Path] = {}
        if self._native is not None:
            self._add_paths(self._native)
            return
        for leg in _LEGS:
            for component in _COMPONENTS:
                forward = self._forwarder(leg, component, self._socket(leg, component), self._socket(_FAR[leg], component))
                self._forwarders.append(forward)
                pool.readers.add(loop, self._socket(leg, component), forward)

    def ports(self, leg: Leg) -> tuple[int, int]:
        """(RTP, RTCP) ports that the sidecar bound on a leg."""
        port = self._bound[leg].port
        return port, port + 1

    def negotiated(self, leg: Leg, rtp: Addr | None, rtcp: Addr | None, signalling_host: str) -> None:
        """As `Relay.negotiated`; a party that checks connectivity stays where its checks came from."""
        door = self._doors.get(leg)
        if rtp is not None and door is not None and door.nominated is not None:
            rtp = rtcp = door.nominated
        self.relay.negotiated(leg, rtp, rtcp, signalling_host)
        self._follow()

    def secure(self, leg: Leg, keys: Keys | Dtls | None) -> None:
        """How the media of `leg` is encrypted from now on; None: not at all."""
        if isinstance(keys, Dtls):
            self._handshake(leg, keys)
            return
        if (door := self._doors.pop(leg, None)) is not None:
            door.close()
        shield = self._shields.get(leg)
        if keys is None:
            self._shields.pop(leg, None)
        elif shield is None or shield.keys != keys:
            self._shields[leg] = Shield(keys)

    def _handshake(self, leg: Leg, dtls: Dtls) -> None:
        """Keys come of a handshake: RTP and RTCP share a port then (RFC 5764 section 3), and nothing passes before."""
        door = self._doors.get(leg)
        if door is None or not door.renewed(dtls):
            if door is not None:
                door.close()
            self._shields.pop(leg, None)
            door = self._doors[leg] = self._door(leg, dtls)
        door.start(self.relay.destination(leg, RTP))

    def _door(self, leg: Leg, dtls: Dtls) -> Doorway:
        from sidecar.net.doorway import Doorway  # OpenSSL and STUN take 25 MB, and most calls need neither

        sock, relay = self._socket(leg, RTP), self.relay

        def send(data: bytes, addr: Addr) -> None:
            try:
                sock.sendto(data, addr)
            except OSError:
                self.send_errors += 1

        def keyed(keys: Keys) -> None:
            self._shields[leg] = Shield(keys)

        def moved(addr: Addr) -> None:
            relay.negotiated(leg, addr, addr, addr[0])

        return Doorway(dtls, self._loop, send, lambda addr: relay.admits(leg, RTP, addr), keyed, moved)

    def capture(self, wire: Wire) -> None:
        """Give `wire` each packet that is tapped from now on, with its way."""
        self._wire = wire
        if self._native is not None:
            self._native.watch(self._slot, self._wired)

    def shown(self, leg: Leg, host: str) -> None:
        """Under which address of ours a leg's packets are captured, where its sockets are bound to all of them."""
        if ip_address(self._hosts[leg]).is_unspecified:
            self._hosts[leg] = host

    @property
    def shielded(self) -> list[Leg]:
        """The legs whose SRTP ends here."""
        return [leg for leg in _LEGS if leg in self._shields]

    def _flow(self, leg: Leg, component: Component, source: Addr, destination: Addr, goes: Component | None = None) -> Flow:
        far, leaves = _FAR[leg], component if goes is None else goes
        local = (self._hosts[leg], self._bound[leg].port + component)
        return Flow(leg, source, local, (self._hosts[far], self._bound[far].port + leaves), destination)

    @property
    def refused(self) -> int:
        """Packets from a source that was neither negotiated nor latched, or that were not authentic."""
        native = self._native
        return (
            self.relay.refused
            + self.unauthentic
            + sum(door.refused for door in self._doors.values())
            + self._refused
            + sum(native.figures(path).refused for path in self._paths if native is not None)
        )

    def describe(self) -> dict[str, object]:
        """Addresses and counts, by leg and component."""
        if self._native is not None:
            for path in self._paths:
                self._count(path, self._native.figures(path))
        told = {**self.relay.describe(), "send_errors": self.send_errors, "unauthentic": self.unauthentic}
        return told if not self._doors else {**told, "dtls": {leg: door.state for leg, door in self._doors.items()}}

    def close(self) -> None:
        """Forward what has arrived, then stop and give the ports back."""
        if self._native is not None:
            self._remove_paths(self._native)
        for forward in self._forwarders:
            for _ in range(_LAST_WORDS):
                if not forward():
                    break
        for door in self._doors.values():
            door.close()
        for pair in self._bound.values():
            if self._native is None:
                self._pool.readers.remove(self._loop, pair.rtp)
                self._pool.readers.remove(self._loop, pair.rtcp)
            _close(pair, self._pool)
        self.delays += self._samples
        self._bound, self._forwarders = {}, []

    def _socket(self, leg: Leg, component: Component) -> socket.socket:
        return self._bound[leg].rtp if component == RTP else self._bound[leg].rtcp

    # -- in the event loop -------------------------------------------------------------------------------------------------------------

    def _forwarder(self, leg: Leg, component: Component, sock: socket.socket, out: socket.socket) -> Callable[[], bool]:
        """What to do when `sock` has something to read; False when it had nothing. Runs for every packet, so all it needs is at hand."""
        receive, recvmsg, sendto = self.relay.receive, sock.recvmsg, out.sendto
        offer = self._ring.offer if self._ring is not None else None
        note, plain = self._samples.append, sock.family == socket.AF_INET
        shields, doors, far = self._shields, self._doors, _FAR[leg]
        count = 0

        def forward() -> bool:
            nonlocal count
            try:
                data, ancillary, _, source = recvmsg(LARGEST, ANCILLARY)
            except (BlockingIOError, InterruptedError, ConnectionRefusedError):
                return False
            if doors and leg in doors and (not is_media(data) or component != RTP or leg not in shields):
                if component == RTP and not is_media(data):
                    doors[leg].receive(data, source if plain else source[:2])
                else:
                    self.unauthentic += 1  # media before its keys, or beside the port that it shares
                return True
            if (shield := shields.get(leg)) is not None:  # before the latch: what is not authentic locks nothing
                opened = shield.open(data)
                if opened is None:
                    self.unauthentic += 1
                    return True
                data = opened
            destination = receive(leg, component, data, source if plain else source[:2])
            goes, send = component, sendto
            if doors:  # where RTCP shares a port with RTP on one leg, it may have its own on the other
                goes = RTCP if far not in doors and is_rtcp(data) else RTP
                if goes != component:
                    destination, send = self.relay.destination(far, goes), self._socket(far, goes).sendto
            if destination is None or (far in doors and far not in shields):
                return True
            sealed = data if (shield := shields.get(far)) is None else shield.seal(data)
            if sealed is None:
                self.send_errors += 1
                return True
            try:
                send(sealed, destination)
            except OSError:
                self.send_errors += 1
            waited = kernel_delay(ancillary)
            count += 1
            if not count % _DELAY_EVERY:
                note(waited)
            arrival = Mono(time.monotonic() - waited)
            if offer is not None:
                offer(leg, data, arrival)
            if (wire := self._wire) is not None:
                wire.offer(self._flow(leg, component, source if plain else source[:2], destination, goes), data, arrival)
            return True

        return forward

    # -- in the native thread ----------------------------------------------------------------------------------------------------------

    def _add_paths(self, native: Forwarder) -> None:
        """Raises NoPorts, with everything given back, where the system watches no more sockets."""
        self._slot = native.own(Owner(self._decide, self._follow, self._tapped))
        try:
            for leg in _LEGS:
                for component in _COMPONENTS:
                    sock, out = self._socket(leg, component), self._socket(_FAR[leg], component)
                    path = native.add(sock, out, self._slot, _LEGS.index(leg), tapped=self._ring is not None)
                    self._paths[path] = (leg, component)
        except OSError as error:
            self.close()
            raise NoPorts(f"no media for this call: {error}") from error

    def _remove_paths(self, native: Forwarder) -> None:
        figures = {path: native.remove(path) for path in self._paths}
        native.settle()  # the last words, also those that were not decided upon
        native.disown(self._slot)
        for path, counted in figures.items():
            if counted.accepted:
                self._samples.extend(native.delays(path))
            self.send_errors += counted.send_errors
            self._refused += counted.refused
            if self._ring is not None:
                self._ring.dropped += counted.dropped
            self._count(path, counted)
        self._paths, self._open = {}, {}

    def _count(self, path: int, figures: Figures) -> None:
        leg, component = self._paths[path]
        self.relay.forwarded(leg, component, figures.accepted)

    def _decide(self, packet: Packet) -> None:
        """A packet that the thread does not know."""
        leg, component = self._paths[packet.path]
        destination = self.relay.receive(leg, component, packet.data, packet.source)
        if destination is None:
            return
        try:
            self._socket(_FAR[leg], component).sendto(packet.data, destination)
        except OSError:
            self.send_errors += 1
        self._samples.append(max(0.0, time.monotonic() - packet.arrival))
        if self._ring is not None:
            self._ring.offer(leg, packet.data, packet.arrival)
        if self._wire is not None:
            self._wire.offer(self._flow(leg, component, packet.source, destination), packet.data, packet.arrival)

    def _tapped(self, packets: list[Tapped]) -> None:
        if self._ring is not None:
            self._ring.extend(packets)

    def _wired(self, packet: Packet) -> None:
        """A packet that the thread forwarded: on the path that is open, since its copies are gathered before a path changes."""
        path = self._open.get(packet.path)
        if path is not None and self._wire is not None:
            self._wire.offer(self._flow(*self._paths[packet.path], packet.source, path.destination), packet.data, packet.arrival)

    def _follow(self) -> None:
        """Open and close the thread's paths as the relay would now answer."""
        native = self._native
        if native is None:
            return
        for index, (leg, component) in self._paths.items():
            path = self.relay.path(leg, component)
            if path == self._open.get(index):
                continue
            native.close(index)
            if self._wire is not None and index in self._open:
                native.gather()  # while it is known which way these went
            self._open.pop(index, None)
            if path is not None:
                native.open(index, path.source, path.destination, final=path.final)
                self._open[index] = path


def _close(pair: BoundPair, pool: PortPool) -> None:
    pair.rtp.close()
    pair.rtcp.close()
    pool.release(pair.port)


def kernel_delay(ancillary: list[tuple[int, int, bytes]]) -> float:
    """Seconds since the kernel took the packet; 0 when it did not say, or when the wall clock was set in between."""
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            waited = time.time() - (seconds + nanoseconds * 1e-9)
            return waited if 0.0 <= waited < _LONGEST_WAIT else 0.0
    return 0.0
