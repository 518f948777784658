"""Where a request goes: NAPTR, SRV and address records to an ordered list of targets (RFC 3263 4, RFC 2782).

`locate` is a generator: it yields the queries that it needs and is sent their answers. It knows no network, and its driver decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sidecar.clocks import Addr
from sidecar.sip.endpoint import TRANSPORTS, family_of
from sidecar.sip.routing import default_port
from sidecar.sip.targets import Target, literal_of
from sidecar.sip.uri import SipUri, bracketed

RecordType = Literal["NAPTR", "SRV", "A", "AAAA"]
Draw = Callable[[int], int]
"""A random integer from 0 to the argument, both included."""

_SERVICES: Final = {"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}
_SRV_NAMES: Final = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}
_MOST_HOSTS: Final = 16
_MOST_TARGETS: Final = 32
"""What a hostile or careless zone may make us try."""


@dataclass(frozen=True, slots=True)
class Naptr:
    """A NAPTR record (RFC 3403)."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str

    def __str__(self) -> str:
        return f'{self.order} {self.preference} "{self.flags}" "{self.service}" {self.replacement}'


@dataclass(frozen=True, slots=True)
class Srv:
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    host: str

    def __str__(self) -> str:
        return f"{self.priority} {self.weight} {self.port} {self.host}"


Record = Naptr | Srv | str
"""A or AAAA is its IP literal."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question. The name has no dot at its end."""

    type: RecordType
    name: str

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Its answer: no records is a name without any, or no such name. `failure` says why there is no answer at all."""

    records: tuple[Record, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One decision, for a person: what was asked or read, what was found, what was made of it."""

    what: str
    records: tuple[str, ...]
    chosen: str


@dataclass(frozen=True, slots=True)
class Located:
    """The targets in the order to try. None at all: `failure` says why."""

    targets: tuple[Target, ...]
    steps: tuple[Step, ...]
    failure: str = ""


Queries = tuple[Query, ...]
Answers = Sequence[Answer]
Asking = Generator[Queries, Answers, None]


def locate(
    uri: SipUri, draw: Draw, *, transports: Sequence[str] = TRANSPORTS, families: Sequence[str] = ("A", "AAAA")
) -> Generator[Queries, Answers, Located]:
    """Yields queries that may be asked at once, is sent the answers in their order, returns the result.

    `transports` are ours in the order of preference, which counts where the domain states none; `families` are ours in the order to try.
    """
    search = _Search(uri, draw, transports, families)
    yield from search.run()
    return search.located()


class _Search:
    """One run: what was decided so far."""

    def __init__(self, uri: SipUri, draw: Draw, transports: Sequence[str], families: Sequence[str]) -> None:
        self._uri = uri
        self._draw = draw
        self._transports = [transport for transport in transports if transport == "tls" or not uri.secure]
        self._families = families
        self._host = (uri.param("maddr") or uri.host).strip("[]").rstrip(".")
        self._steps: list[Step] = []
        self._targets: dict[Target, None] = {}
        self._failures: list[str] = []

    def located(self) -> Located:
        targets = tuple(self._targets)[:_MOST_TARGETS]
        failure = "" if targets else "; ".join(dict.fromkeys(self._failures)) or f"{self._host} has no address"
        return Located(targets, tuple(self._steps), failure)

    def run(self) -> Asking:
        literal = literal_of(self._host)
        stated = self._stated_transport()
        if stated == "":
            return
        if not self._transports:
            self._fail(f"{self._uri.scheme}:", f"{self._uri.scheme} needs TLS, which is not enabled here")
            return
        if literal is not None:
            transport = stated or ("tls" if self._uri.secure else "udp")
            if self._ours(transport):
                self._add(transport, [(literal, self._uri.port or default_port(transport))])
                self._step(f"{self._host} is an address", (), self._chosen())
            return
        if self._uri.port is not None:
            # 4.1 and 4.2: a port in the URI leaves nothing for NAPTR and SRV to say.
            transport = stated or ("tls" if self._uri.secure else "udp")
            if self._ours(transport):
                yield from self._addresses(transport, [(self._host, self._uri.port)], f"the URI names port {self._uri.port}")
            return
        if stated is not None:
            if self._ours(stated):
                yield from self._services([(stated, _SRV_NAMES[stated] + self._host)], [stated])
            return
        yield from self._by_naptr()

    def _stated_transport(self) -> str | None:
        """The transport that the URI demands: None when it leaves the choice, "" when it demands what nobody can."""
        param = self._uri.param("transport")
        if not param:
            return None
        transport = param.lower()
        if self._uri.secure and transport == "tcp":
            transport = "tls"  # 26.2.2: sips is TLS, and its transport=tcp says over what
        if transport not in TRANSPORTS or (self._uri.secure and transport != "tls"):
            self._fail(f"transport={param}", f"{self._uri.scheme} over {param} is not spoken here")
            return ""
        self._step(f"transport={param}", (), transport)
        return transport

    def _ours(self, transport: str) -> bool:
        if transport in self._transports:
            return True
        self._fail(f"{transport} is needed", f"{transport} is not enabled here")
        return False

    # -- transport: NAPTR, then SRV for each -------------------------------------------------------------------------------------------

    def _by_naptr(self) -> Asking:
        query = Query("NAPTR", self._host)
        (answer,) = yield (query,)
        found = sorted(
            (record for record in answer.records if isinstance(record, Naptr)), key=lambda record: (record.order, record.preference)
        )
        usable = [record for record in found if record.flags.lower() == "s" and _SERVICES.get(record.service.lower()) in self._transports]
        # 4.1 and RFC 3403 4.1: of what we speak, the lowest order alone counts.
        usable = [record for record in usable if record.order == usable[0].order][:_MOST_HOSTS]
        services = [(_SERVICES[record.service.lower()], record.replacement.rstrip(".")) for record in usable]
        if services:
            self._step(str(query), found, ", then ".join(f"{transport} by {name}" for transport, name in services))
            yield from self._services(services, list(dict.fromkeys(transport for transport, _ in services)))
            return
        self._step(str(query), found, answer.failure or "nothing that we speak: SRV of each transport")
        # 4.1: with neither NAPTR nor SRV it is UDP for sip and TLS for sips.
        default = "udp" if "udp" in self._transports else self._transports[0]
        services = [(transport, _SRV_NAMES[transport] + self._host) for transport in self._transports]
        yield from self._services(services, [default])

    def _services(self, services: Sequence[tuple[str, str]], without: Sequence[str]) -> Asking:
        """4.2: SRV of each service in order; where none has any, the addresses of the host itself over the transports `without`."""
        queries = tuple(Query("SRV", name) for _, name in services)
        answers = yield queries
        known = False
        for (transport, _), query, answer in zip(services, queries, answers, strict=True):
            found = [record for record in answer.records if isinstance(record, Srv)]
            ordered = ordered_by_weight(found, self._draw)
            usable = [record for record in ordered if record.host.rstrip(".") and record.port][:_MOST_HOSTS]
            known |= bool(found)
            if found and not usable:
                self._fail(str(query), f"{self._host} says that it offers no SIP over {transport}", found)
            elif found:
                self._step(str(query), found, ", then ".join(f"{record.host}:{record.port}" for record in usable))
                yield from self._addresses(transport, [(record.host.rstrip("."), record.port) for record in usable], "SRV")
            else:
                self._step(str(query), (), answer.failure or "none")
        for transport in () if known else without:
            yield from self._addresses(transport, [(self._host, default_port(transport))], "no SRV: the default port")

    # -- addresses ---------------------------------------------------------------------------------------------------------------------

    def _addresses(self, transport: str, hosts: Sequence[tuple[str, int]], because: str) -> Asking:
        """A and AAAA of all hosts at once, kept in the order of the hosts."""
        asked = [(host, port, Query("AAAA" if family == "AAAA" else "A", host)) for host, port in hosts for family in self._families]
        names = [query for host, _, query in asked if literal_of(host) is None]
        answers = dict(zip(names, (yield tuple(names)) if names else (), strict=True))
        for host, port, query in asked:
            literal = literal_of(host)
            if literal is not None:
                if family_of(literal) == query.type:
                    self._add(transport, [(literal, port)])
                continue
            answer = answers[query]
            found = [record for record in answer.records if isinstance(record, str)]
            self._add(transport, [(address, port) for address in found])
            if answer.failure:
                self._failures.append(answer.failure)
            chosen = ", ".join(f"{transport}:{bracketed(address)}:{port}" for address in found)
            self._step(f"{query} ({because})", found, chosen or answer.failure or "none")

    def _add(self, transport: str, addresses: Iterable[Addr]) -> None:
        for addr, port in addresses:
            if family_of(addr) in self._families:
                self._targets[Target(transport, self._uri.host, addr, port)] = None
            else:
                self._failures.append(f"{addr} is of an address family that nothing here listens on")

    def _chosen(self) -> str:
        return ", ".join(map(str, self._targets)) or "; ".join(self._failures)

    def _step(self, what: str, records: Iterable[Record], chosen: str) -> None:
        self._steps.append(Step(what, tuple(map(str, records)), chosen))

    def _fail(self, what: str, why: str, records: Iterable[Record] = ()) -> None:
        self._failures.append(why)
        self._step(what, records, why)


def ordered_by_weight(records: Iterable[Srv], draw: Draw) -> list[Srv]:
    """RFC 2782: the lowest priority first; within one, drawn one after the other, each as likely as its share of the weights left."""
    left = sorted(records, key=lambda record: (record.priority, record.weight))  # weight 0 first, so that it has its small chance
    ordered: list[Srv] = []
    while left:
        group = [record for record in left if record.priority == left[0].priority]
        mark, total = draw(sum(record.weight for record in group)), 0
        for record in group:
            total += record.weight
            if total >= mark:
                break
        ordered.append(record)
        left.remove(record)
    return ordered
