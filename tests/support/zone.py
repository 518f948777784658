"""A zone in a dictionary, and the run of a search against it without any network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sidecar.sip.endpoint import TRANSPORTS
from sidecar.sip.locate import Answer, Draw, Located, Naptr, Query, Record, Srv, locate
from sidecar.sip.uri import SipUri

Zone = Mapping[tuple[str, str], Sequence[Record] | str]
"""(type, name) → records, or why the question fails."""

EXAMPLE: Zone = {
    ("NAPTR", "example.com"): [
        Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        Naptr(90, 50, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com"),
    ],
    ("SRV", "_sips._tcp.example.com"): [Srv(0, 1, 5061, "one.example.com")],
    ("SRV", "_sip._tcp.example.com"): [Srv(0, 1, 5060, "one.example.com"), Srv(1, 1, 5070, "two.example.com")],
    ("SRV", "_sip._udp.example.com"): [Srv(0, 1, 5060, "one.example.com")],
    ("A", "example.com"): ["192.0.2.9"],
    ("A", "one.example.com"): ["192.0.2.1"],
    ("AAAA", "one.example.com"): ["2001:db8::1"],
    ("A", "two.example.com"): ["192.0.2.2"],
}
"""All three services, as in the example of RFC 3263 4.1; the orders differ, so that only the first that we speak counts."""


def first(_: int) -> int:
    """A draw that always gives the smallest number."""
    return 0


class Search:
    """What came of a search: the result, and the questions in the batches in which they were asked."""

    def __init__(
        self,
        uri: str,
        zone: Zone,
        *,
        draw: Draw = first,
        transports: Sequence[str] = TRANSPORTS,
        families: Sequence[str] = ("A", "AAAA"),
    ) -> None:
        self.asked: list[list[str]] = []
        run = locate(SipUri.parse(uri), draw, transports=transports, families=families)
        try:
            queries = next(run)
            while True:
                self.asked.append([str(query) for query in queries])
                queries = run.send([_answer(zone, query) for query in queries])
        except StopIteration as end:
            self.result: Located = end.value

    @property
    def targets(self) -> list[str]:
        """The targets in order."""
        return [str(target) for target in self.result.targets]

    @property
    def questions(self) -> set[str]:
        """Every question."""
        return {question for batch in self.asked for question in batch}


def _answer(zone: Zone, query: Query) -> Answer:
    found = zone.get((query.type, query.name), ())
    return Answer(failure=found) if isinstance(found, str) else Answer(tuple(found))
