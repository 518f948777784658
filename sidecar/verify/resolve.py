"""The first step: which addresses a SIP URI leads to, with every record that was seen on the way."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.net.dns import Resolver
from sidecar.sip.endpoint import TRANSPORTS
from sidecar.sip.locate import Answer, Located, Query, Srv, Step, locate
from sidecar.sip.targets import Target
from sidecar.sip.uri import SipUri
from sidecar.verify.findings import Finding, finding
from sidecar.verify.steps import Facts


@dataclass(frozen=True, slots=True)
class Resolved:
    """The targets in the order to try; none at all with `finding`."""

    targets: tuple[Target, ...]
    facts: Facts
    origin: str = ""
    """What led to the default port, as the beginning of a sentence; empty where SRV or the URI named it."""
    finding: Finding | None = None


async def resolve(uri: SipUri, resolver: Resolver, within: float) -> Resolved:
    """Look `uri` up, all questions together within so many seconds."""
    asked: list[tuple[Query, Answer]] = []
    try:
        async with asyncio.timeout(within):
            located = await _search(uri, resolver, asked)
    except TimeoutError:
        why = f"no answer from the name servers within {within:g} s"
        located = Located((), (Step("DNS", (), why),), why)
        asked.append((Query("A", uri.host), Answer(failure=why)))
    facts = tuple((step.what, _seen(step)) for step in located.steps)
    if not located.targets:
        return Resolved((), facts, finding=_why(uri, located, asked))
    services = [answer for query, answer in asked if query.type == "SRV"]
    without = bool(services) and not any(answer.records for answer in services)
    return Resolved(located.targets, facts, f"host {uri.host} has no SRV record and " if without else "")


async def _search(uri: SipUri, resolver: Resolver, asked: list[tuple[Query, Answer]]) -> Located:
    search = locate(uri, lambda most: secrets.randbelow(most + 1))
    answers: Sequence[Answer] | None = None
    while True:
        try:
            queries = next(search) if answers is None else search.send(answers)
        except StopIteration as end:
            located: Located = end.value
            return located
        answers = await asyncio.gather(*map(resolver.ask, queries))
        asked += zip(queries, answers, strict=True)


def _seen(step: Step) -> str:
    """`records → what was made of them`; the records alone say it where that is nothing new."""
    records = ", ".join(step.records)
    return f"{records} → {step.chosen}" if records else step.chosen


def _why(uri: SipUri, located: Located, asked: Sequence[tuple[Query, Answer]]) -> Finding:
    if (failure := next((answer.failure for _, answer in asked if answer.failure), "")) and not any(answer.records for _, answer in asked):
        return finding("dns_failed", host=uri.host, why=failure.removeprefix(f"{uri.host}: "))
    refused = next((query for query, answer in asked if query.type == "SRV" and answer.records and not _usable(answer)), None)
    if refused is not None:
        transport = {"_sip._udp": "udp", "_sip._tcp": "tcp"}.get(".".join(refused.name.split(".")[:2]), "tls")
        other = next(name for name in TRANSPORTS if name != transport)
        return finding("srv_refuses", host=uri.host, transport=transport, other=other)
    if not asked:
        return finding("transport_unknown", why=located.failure)
    return finding("host_unknown", host=uri.host)


def _usable(answer: Answer) -> bool:
    return any(isinstance(record, Srv) and record.host.rstrip(".") and record.port for record in answer.records)
