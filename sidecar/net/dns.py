"""Names to targets: runs `sidecar.sip.locate` against real name servers, with a cache by TTL and a memory of dead targets."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from sidecar.clocks import Addr, Mono
from sidecar.net.clock import mono
from sidecar.sip.endpoint import TRANSPORTS
from sidecar.sip.locate import Answer, Located, Naptr, Query, Record, Srv, Step, locate
from sidecar.sip.targets import literal_of
from sidecar.sip.uri import SipUri

_ADDRESSES: Final = ("A", "AAAA")
_METADATA: Final = frozenset({"fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})
"""Metadata services of clouds that are not link-local."""


@dataclass(frozen=True, slots=True)
class DnsLimits:
    """Seconds and counts."""

    query: float = 3.0
    """For one question, retries at other name servers included."""
    whole: float = 8.0
    """For all questions of one URI; below timer B, so that a silent name server ends as a clear failure."""
    at_once: int = 32
    """Questions on the wire."""
    cached: int = 2048
    """Answers kept."""
    longest: float = 3600.0
    """An answer is not kept longer than this, whatever its TTL says."""
    nothing: float = 60.0
    """That there is no record is not kept longer than this; where the zone says nothing (RFC 2308 5), not at all."""
    failure: float = 2.0
    """How long no further question is asked when none was answered."""
    stale: float = 86400.0
    """How long after its TTL an answer may serve while no name server answers (RFC 8767)."""
    """Targets avoided at one time."""


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer
    until: Mono


class Resolver:
    """Give it to one event loop. `locate` never raises for what the network does: a failure is in its result."""

    def __init__(
        self,
        *,
        nameservers: Sequence[Addr] | None = None,
        hosts: Path | None = Path("/etc/hosts"),
        limits: DnsLimits = DnsLimits(),
    ) -> None:
        """`nameservers` None: those of the system. `hosts`: a table of names that need no question, read anew when it changes."""
        self.counts: Counter[str] = Counter()
        self._limits = limits
        self._hosts = HostTable(hosts)
        self._resolver = _resolver(nameservers)
        self._cache: OrderedDict[Query, _Kept] = OrderedDict()
        self._running: dict[Query, asyncio.Event] = {}
        self._slots = asyncio.Semaphore(limits.at_once)

    async def locate(self, uri: SipUri, *, transports: Sequence[str] = TRANSPORTS, families: Sequence[str] = _ADDRESSES) -> Located:
        """The targets of `uri` in the order to try; or none and why."""
        search = locate(uri, lambda most: secrets.randbelow(most + 1), transports=transports, families=families)
        try:
            async with asyncio.timeout(self._limits.whole):
                queries = next(search)
                while True:
                    queries = search.send(await asyncio.gather(*map(self.ask, queries)))
        except StopIteration as end:
            found: Located = end.value
        except TimeoutError:
            why = f"{uri.host}: no answer from the name servers within {self._limits.whole:g} s"
            return Located((), (Step("DNS", (), why),), why)
        return found

    def describe(self) -> dict[str, object]:
        """Sizes and counts, for the admin API."""
        return {
            "cached": len(self._cache),
            "asking": len(self._running),
            "counts": dict(self.counts),
        }

    async def ask(self, query: Query) -> Answer:
        """One question: from the host table, the cache, or the wire. The same question is on the wire once at a time."""
        query = Query(query.type, query.name.lower())
        # The services of a listed name are nobody's business either.
        listed = self._hosts.find(".".join(label for label in query.name.split(".") if not label.startswith("_")))
        if listed is not None:
            return Answer(tuple(address for address in listed if query.type == ("AAAA" if ":" in address else "A")))
        while (kept := self._fresh(query)) is None and (running := self._running.get(query)) is not None:
            await running.wait()
        if kept is not None:
            self.counts["cached"] += 1
            return kept
        done = self._running[query] = asyncio.Event()
        try:
            async with self._slots:
                return self._keep(query, *await self._query(query))
        finally:
            del self._running[query]
            done.set()

    def _fresh(self, query: Query) -> Answer | None:
        kept = self._cache.get(query)
        return kept.answer if kept is not None and kept.until > mono() else None

    def _keep(self, query: Query, answer: Answer, ttl: float) -> Answer:
        """Remember an answer; where there is none, fall back on what it was not long ago."""
        now = mono()
        old = self._cache.get(query)
        if answer.failure and old is not None and not old.answer.failure and now < old.until + self._limits.stale:
            self.counts["stale"] += 1
            return old.answer
        self._cache[query] = _Kept(answer, Mono(now + ttl))
        self._cache.move_to_end(query)
        while len(self._cache) > self._limits.cached:
            self._cache.popitem(last=False)
        return answer

    async def _query(self, query: Query) -> tuple[Answer, float]:
        """Ask the name servers: the answer and for how many seconds it holds."""
        self.counts["asked"] += 1
        # As the C library does: a name without dots is completed by the search list, and so is an address where ndots asks for it.
        search = query.type in _ADDRESSES or "." not in query.name
        try:
            found = await self._resolver.resolve(
                query.name, query.type, raise_on_no_answer=False, lifetime=self._limits.query, search=search
            )
        except dns.resolver.NXDOMAIN as error:
            return Answer(), self._nothing(error.kwargs["responses"].values())
        except (dns.exception.DNSException, OSError) as error:
            self.counts["failed"] += 1
            return Answer(failure=f"{query.name}: {_why(error)}"), self._limits.failure
        records = tuple(record for rdata in found.rrset or () if not _forbidden(record := _record(rdata)))
        if not records:
            return Answer(), self._nothing([found.response])
        return Answer(records), min(found.chaining_result.minimum_ttl, self._limits.longest)

    def _nothing(self, responses: Iterable[dns.message.Message]) -> float:
        """RFC 2308 5: that a record does not exist holds as long as the zone's SOA says."""
        ttls = []
        for response in responses:
            for rrset in response.authority:
                if rrset.rdtype == dns.rdatatype.SOA:
                    ttls += [min(rrset.ttl, rdata.minimum) for rdata in rrset]
        return min([*ttls, self._limits.nothing]) if ttls else 0.0


def _forbidden(record: object) -> bool:
    """Whether a name leads to where a cloud hands out a machine's credentials: whoever owns a domain decides what its names mean."""
    return isinstance(record, str) and (ip_address(record).is_link_local or record in _METADATA)


class HostTable:
    """/etc/hosts: containers and pods are given names there that no name server knows."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._changed: tuple[int, int] | None = None
        self._names: Mapping[str, tuple[str, ...]] = {}

    def find(self, name: str) -> tuple[str, ...] | None:
        """The addresses of a name in lower case; None when it is not in the table. `localhost` is never asked for abroad (RFC 6761 6.3)."""
        self._refresh()
        found = self._names.get(name)
        if found is None and (name == "localhost" or name.endswith(".localhost")):
            return ("127.0.0.1", "::1")
        return found

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            status = self._path.stat()
            changed = (status.st_mtime_ns, status.st_size)
            if changed != self._changed:
                self._names = _hosts(self._path.read_text(encoding="utf-8", errors="replace"))
                self._changed = changed
        except OSError:
            self._names, self._changed = {}, None  # no such table


def _hosts(text: str) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        address = literal_of(words[0]) if words else None
        if address is not None:
            for name in words[1:]:
                names[name.lower()] = (*names.get(name.lower(), ()), address)
    return names


def _resolver(nameservers: Sequence[Addr] | None) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    if nameservers is None:
        with contextlib.suppress(dns.resolver.NoResolverConfiguration):
            resolver.read_resolv_conf("/etc/resolv.conf")
    else:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers]
    return resolver


def _record(rdata: object) -> Record:
    if isinstance(rdata, NAPTR):
        flags, service = (text.decode("ascii", "replace") for text in (rdata.flags, rdata.service))
        return Naptr(rdata.order, rdata.preference, flags, service, rdata.replacement.to_text(omit_final_dot=True))
    if isinstance(rdata, SRV):
        return Srv(rdata.priority, rdata.weight, rdata.port, rdata.target.to_text(omit_final_dot=True))
    return str(rdata)


def _why(error: Exception) -> str:
    match error:
        case dns.resolver.NoNameservers():
            return "the name servers cannot answer" if error.kwargs.get("errors") else "no name server is configured"
        case dns.exception.Timeout():
            return "no answer from the name servers"
        case OSError():
            return (error.strerror or str(error)).lower()
        case _:
            return "not a name that DNS can hold"
