"""The thread that forwards media, as the event loop sees it."""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from sidecar.clocks import Addr, Mono
from sidecar.media.relay import Leg
from sidecar.media.tap import Tapped

ABI: Final = 3
LIBRARY: Final = Path(__file__).with_name("librelay.so")
TAP_OCTETS: Final = 16 << 20
"""Room for what was forwarded since the last look: 300 calls for more than two seconds."""
UNKNOWN_OCTETS: Final = 1 << 20
_HEAD: Final = struct.Struct("=IIIHHI16s4xd")
_TAPPED_HEAD: Final = struct.Struct("=4xIIH26xd")
"""The same, of which only slot, leg, length and arrival are looked at: this is done for every packet."""
_LENGTH: Final = struct.Struct("=12xH")
_SAMPLES: Final = 256
_LEGS: Final[tuple[Leg, Leg]] = ("A", "B")


class NoForwarder(Exception):
    """Media cannot be forwarded by the native thread. The text says why."""


class Packet(NamedTuple):
    """A datagram as it came in on a path."""

    path: int
    slot: int
    leg: int
    data: bytes
    arrival: Mono
    source: Addr


class Owner(NamedTuple):
    """Who is asked about the packets of a slot, and told of those that were forwarded."""

    decide: Callable[[Packet], None]
    decided: Callable[[], None]
    """After some packets of the slot were decided upon."""
    tapped: Callable[[list[Tapped]], None]
    """In the order in which they came."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a path counted. `dropped`: forwarded, but the ring had no room for the copy."""

    accepted: int
    refused: int
    send_errors: int
    dropped: int


class Forwarder:
    """Paths are opened and closed here; packets cross them without coming here. All methods belong to one thread."""

    def __init__(self, library: Path = LIBRARY) -> None:
        """Raises NoForwarder."""
        try:
            self._lib: Final = _loaded(library)
        except OSError as error:
            raise NoForwarder(f"{library.name} was not built for this system (no C compiler at installation?): {error}") from error
        if self._lib.relay_abi() != ABI:
            raise NoForwarder(f"{library.name} was built from another version: install again")
        self._relay: int | None = self._lib.relay_new(TAP_OCTETS, UNKNOWN_OCTETS)
        if self._relay is None:
            raise NoForwarder("the system gives no thread or no memory for it")
        self.notice: Final[int] = self._lib.relay_notice(self._relay)
        """A descriptor that is readable while packets wait for `settle`."""
        self._length: Final = ctypes.c_size_t()
        self._owners: Final[dict[int, Owner]] = {}
        self._watchers: Final[dict[int, Callable[[Packet], None]]] = {}
        self._slots = 0

    def own(self, owner: Owner) -> int:
        """A slot for the paths of one owner, never 0."""
        self._slots += 1
        self._owners[self._slots] = owner
        return self._slots

    def disown(self, slot: int) -> None:
        """Nobody is asked or told any more."""
        del self._owners[slot]
        self._watchers.pop(slot, None)

    def watch(self, slot: int, watcher: Callable[[Packet], None]) -> None:
        """Tell of the forwarded packets of a slot also where each came from."""
        self._watchers[slot] = watcher

    def add(self, sock: socket.socket, out: socket.socket, slot: int, leg: int, *, tapped: bool) -> int:
        """A path from one socket to another, closed at first. Raises OSError."""
        index: int = self._lib.relay_add(self._relay, sock.fileno(), out.fileno(), slot, leg, tapped)
        if index < 0:
            raise OSError("the system watches no more sockets")
        return index

    def open(self, path: int, source: Addr, destination: Addr, *, final: bool) -> None:
        """Let packets from `source` pass to `destination` from now on, those first that wait for `settle`; `final`: all others are refused
        without asking. Not from an owner's `decide`: what it has not been asked about yet would be overtaken.
        """
        self._lib.relay_open(self._relay, path, *_address(source), *_address(destination), final)

    def close(self, path: int) -> None:
        """Ask about every packet again."""
        self._lib.relay_close(self._relay, path)

    def remove(self, path: int) -> Figures:
        """Forward what has arrived, and end the path. Its socket may be closed afterwards."""
        self._lib.relay_remove(self._relay, path)
        return self.figures(path)

    def figures(self, path: int) -> Figures:
        """What the path counted so far."""
        counts = (ctypes.c_uint64 * 4)()
        self._lib.relay_figures(self._relay, path, counts)
        return Figures(*counts)

    def delays(self, path: int) -> list[float]:
        """Seconds that some of the newest packets waited before they left."""
        samples = (ctypes.c_double * _SAMPLES)()
        return list(samples[: self._lib.relay_delays(self._relay, path, samples)])

    def gather(self) -> None:
        """Tell the owners what was forwarded since the last time."""
        octets, at = self._take(self._lib.relay_tap), 0
        if not octets:
            return
        # This is done for every packet, so all it needs is at hand and each owner is called once; and for every call of many at each look,
        # so nothing is done for owners of which nothing came.
        unpack, skip, end, owners, watchers = _TAPPED_HEAD.unpack_from, _HEAD.size, len(octets), self._owners, self._watchers
        taken: dict[int, list[Tapped]] = {}
        while at < end:
            slot, leg, size, arrival = unpack(octets, at)
            begin, start = at, at + skip
            at = start + size
            packets = taken.get(slot)
            if packets is None:
                if slot not in owners:
                    continue
                packets = taken[slot] = []
            data = octets[start:at]
            packets.append((_LEGS[leg], data, arrival))
            if watchers and (watcher := watchers.get(slot)) is not None:
                watcher(_packet(octets, begin, data))
        for slot, packets in taken.items():
            owners[slot].tapped(packets)

    def settle(self) -> None:
        """Ask the owners about the packets that wait for it."""
        self.gather()  # what was forwarded before them comes first
        asked: dict[int, Owner] = {}
        for packet in _packets(self._take(self._lib.relay_unknown)):
            if (owner := self._owners.get(packet.slot)) is not None:
                asked[packet.slot] = owner
                try:
                    owner.decide(packet)
                finally:  # or the path would never open again
                    self._lib.relay_decided(self._relay, packet.path)
        for owner in asked.values():
            owner.decided()

    def stop(self) -> None:
        """End the thread; nothing else may be called afterwards."""
        if self._relay is not None:
            self._lib.relay_delete(self._relay)
            self._relay = None

    def _take(self, verb: Callable[..., int]) -> bytes:
        octets = verb(self._relay, ctypes.byref(self._length))
        return ctypes.string_at(octets, self._length.value)


def _packets(octets: bytes) -> Iterator[Packet]:
    at = 0
    while at < len(octets):
        (size,) = _LENGTH.unpack_from(octets, at)
        start, at = at, at + _HEAD.size + size
        yield _packet(octets, start, octets[at - size : at])


def _packet(octets: bytes, start: int, data: bytes) -> Packet:
    path, slot, leg, _, port, family, address, arrival = _HEAD.unpack_from(octets, start)
    return Packet(path, slot, leg, data, Mono(arrival), _source(family, address, port))


def _source(family: int, address: bytes, port: int) -> Addr:
    if family == socket.AF_INET:
        return f"{address[0]}.{address[1]}.{address[2]}.{address[3]}", port
    return str(ipaddress.IPv6Address(address)), port


def _address(addr: Addr) -> tuple[int, bytes, int]:
    """Family, octets and port of an address. An IPv6 one may have a zone, which its socket knows anyway."""
    return *_packed(addr[0]), addr[1]


@lru_cache(maxsize=4096)
def _packed(host: str) -> tuple[int, bytes]:
    literal = ipaddress.ip_address(host.partition("%")[0])
    return (socket.AF_INET if literal.version == 4 else socket.AF_INET6), literal.packed


def _loaded(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer, number, word, octets = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_char_p
    signatures: dict[str, tuple[type | None, list[object]]] = {
        "relay_abi": (number, []),
        "relay_new": (pointer, [ctypes.c_size_t, ctypes.c_size_t]),
        "relay_delete": (None, [pointer]),
        "relay_notice": (number, [pointer]),
        "relay_add": (number, [pointer, number, number, word, word, number]),
        "relay_open": (None, [pointer, word, number, octets, ctypes.c_uint16, number, octets, ctypes.c_uint16, number]),
        "relay_close": (None, [pointer, word]),
        "relay_remove": (None, [pointer, word]),
        "relay_figures": (None, [pointer, word, ctypes.POINTER(ctypes.c_uint64)]),
        "relay_delays": (number, [pointer, word, ctypes.POINTER(ctypes.c_double)]),
        "relay_tap": (pointer, [pointer, ctypes.POINTER(ctypes.c_size_t)]),
        "relay_unknown": (pointer, [pointer, ctypes.POINTER(ctypes.c_size_t)]),
        "relay_decided": (None, [pointer, word]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
