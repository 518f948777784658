"""An authoritative name server on loopback, over UDP and TCP, whose zone a test can change and whose questions it can count."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from sidecar.clocks import Addr


class DnsServer(asyncio.DatagramProtocol):
    """Use as `async with DnsServer() as server`. Names in `add` are written without the dot at the end."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        """Questions as `TYPE name`."""
        self.rcode = dns.rcode.NOERROR
        """What every question fails with; NOERROR: none does."""
        self.silent = False
        """Whether questions are left unanswered."""
        self.truncate = False
        """Whether answers over UDP say that TCP has the rest."""
        self.negative_ttl: int | None = None
        """The SOA's minimum in answers without records; None: no SOA."""
        self.delay = 0.0
        self.at_once = 0
        """The most questions that were open at one time (with a delay)."""
        self._open = 0
        self._records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, name: str, kind: str, *texts: str, ttl: int = 300) -> None:
        """Give `name` these records, in place of those it had."""
        self._records[(name.lower(), kind)] = (ttl, list(texts))

    def remove(self, name: str, kind: str) -> None:
        """Take them away."""
        del self._records[(name.lower(), kind)]

    @property
    def addr(self) -> Addr:
        """Where it listens."""
        return self._addr

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        tcp = socket.create_server(("127.0.0.1", 0))
        self._addr: Addr = tcp.getsockname()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self._addr)
        self._server = await asyncio.start_server(self._serve_stream, sock=tcp)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._transport.close()
        self._server.close()
        await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def datagram_received(self, data: bytes, addr: Addr) -> None:
        """A question."""
        task = asyncio.get_running_loop().create_task(self._answer_datagram(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_datagram(self, data: bytes, addr: Addr) -> None:
        answer = await self._answer(data, truncate=self.truncate)
        if answer is not None:
            self._transport.sendto(answer, addr)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        answer = await self._answer(await reader.readexactly(length), truncate=False)
        if answer is not None:
            writer.write(struct.pack("!H", len(answer)) + answer)
            await writer.drain()
        writer.close()

    async def _answer(self, data: bytes, *, truncate: bool) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[f"{kind} {name}"] += 1
        self._open += 1
        self.at_once = max(self.at_once, self._open)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self._open -= 1
        if self.silent:
            return None
        response = dns.message.make_response(query)
        response.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR:
            self._fill(response, question.name, name, kind)
        if truncate:
            response.flags |= dns.flags.TC
            response.answer.clear()
        return response.to_wire()

    def _fill(self, response: dns.message.Message, qname: dns.name.Name, name: str, kind: str) -> None:
        if (name, "CNAME") in self._records and kind != "CNAME":
            ttl, texts = self._records[(name, "CNAME")]
            response.answer.append(_rrset(qname, ttl, "CNAME", texts))
            name = texts[0].rstrip(".")
            qname = dns.name.from_text(texts[0])
        found = self._records.get((name, kind))
        if found is not None:
            response.answer.append(_rrset(qname, found[0], kind, found[1]))
            return
        if not any(known == name for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if self.negative_ttl is not None:
            soa = f"ns.example. hostmaster.example. 1 3600 600 86400 {self.negative_ttl}"
            response.authority.append(_rrset(dns.name.from_text("example."), 3600, "SOA", [soa]))


def _rrset(name: dns.name.Name, ttl: int, kind: str, texts: Iterable[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(name, ttl, "IN", kind, list(texts))
