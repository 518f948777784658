"""The resolver against a name server on loopback: RFC 3263 end to end, the cache, failures, and the host table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import dns.rcode
import pytest

from sidecar.clocks import Mono
from sidecar.net import dns as net_dns
from sidecar.net.clock import mono
from sidecar.net.dns import DnsLimits, Resolver
from sidecar.sip.locate import Answer, Query
from sidecar.sip.uri import SipUri
from tests.support.dns_server import DnsServer

LIMITS = DnsLimits(query=1.0, whole=3.0)
URI = SipUri.parse("sip:agent@example.com")


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as running:
        running.add(
            "example.com", "NAPTR", '10 10 "s" "SIP+D2T" "" _sip._tcp.example.com.', '20 10 "s" "SIP+D2U" "" _sip._udp.example.com.'
        )
        running.add("_sip._tcp.example.com", "SRV", "10 5 5060 one.example.com.", "20 5 5070 two.example.com.")
        running.add("one.example.com", "A", "127.0.0.11")
        running.add("one.example.com", "AAAA", "::1")
        running.add("two.example.com", "CNAME", "real.example.com.")
        running.add("real.example.com", "A", "127.0.0.12")
        yield running


def resolver(server: DnsServer, limits: DnsLimits = LIMITS, hosts: Path | None = None) -> Resolver:
    return Resolver(nameservers=[server.addr], hosts=hosts, limits=limits)


class Hours:
    """The resolver's clock, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        monkeypatch.setattr(net_dns, "mono", lambda: Mono(mono() + self._ahead))

    def go(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    return Hours(monkeypatch)


async def test_naptr_srv_and_both_families_in_order(server: DnsServer) -> None:
    located = await resolver(server).locate(URI)
    assert [str(target) for target in located.targets] == ["tcp:127.0.0.11:5060", "tcp:[::1]:5060", "tcp:127.0.0.12:5070"]
    assert {target.host for target in located.targets} == {"example.com"}
    assert [step.what for step in located.steps][:2] == ["NAPTR example.com", "SRV _sip._tcp.example.com"]
    assert located.steps[0].records[0] == '10 10 "s" "SIP+D2T" _sip._tcp.example.com'


async def test_an_answer_that_does_not_fit_a_datagram_is_fetched_over_tcp(server: DnsServer) -> None:
    server.truncate = True
    assert (await resolver(server).ask(Query("A", "one.example.com"))).records == ("127.0.0.11",)


async def test_answers_are_kept_for_their_ttl(server: DnsServer, hours: Hours) -> None:
    server.add("one.example.com", "A", "127.0.0.11", ttl=60)
    asking = resolver(server)
    for _ in range(3):
        await asking.ask(Query("A", "ONE.example.com"))
    assert server.asked["A one.example.com"] == 1
    server.add("one.example.com", "A", "127.0.0.99", ttl=60)
    hours.go(59)
    assert (await asking.ask(Query("A", "one.example.com"))).records == ("127.0.0.11",)
    hours.go(2)
    assert (await asking.ask(Query("A", "one.example.com"))).records == ("127.0.0.99",)


async def test_the_ttl_of_an_alias_counts_too(server: DnsServer, hours: Hours) -> None:
    server.add("two.example.com", "CNAME", "real.example.com.", ttl=10)
    asking = resolver(server)
    await asking.ask(Query("A", "two.example.com"))
    hours.go(11)
    await asking.ask(Query("A", "two.example.com"))
    assert server.asked["A two.example.com"] == 2


async def test_a_ttl_of_zero_is_not_kept(server: DnsServer) -> None:
    server.add("one.example.com", "A", "127.0.0.11", ttl=0)
    asking = resolver(server)
    for _ in range(2):
        await asking.ask(Query("A", "one.example.com"))
    assert server.asked["A one.example.com"] == 2


@pytest.mark.parametrize("query", [Query("A", "missing.example.com"), Query("NAPTR", "one.example.com")])
async def test_that_nothing_is_there_is_kept_as_long_as_the_zone_says(server: DnsServer, hours: Hours, query: Query) -> None:
    server.negative_ttl = 20
    asking = resolver(server)
    for _ in range(2):
        assert await asking.ask(query) == Answer()
    assert server.asked[str(query)] == 1
    hours.go(21)
    await asking.ask(query)
    assert server.asked[str(query)] == 2


async def test_that_nothing_is_there_is_not_kept_where_the_zone_does_not_say(server: DnsServer) -> None:
    asking = resolver(server)
    for _ in range(2):
        await asking.ask(Query("A", "missing.example.com"))
    assert server.asked["A missing.example.com"] == 2


async def test_the_same_question_is_asked_once_at_a_time(server: DnsServer) -> None:
    server.delay = 0.05
    asking = resolver(server)
    answers = await asyncio.gather(*(asking.ask(Query("A", "one.example.com")) for _ in range(20)))
    assert {answer.records for answer in answers} == {("127.0.0.11",)}
    assert server.asked["A one.example.com"] == 1


async def test_one_who_waits_asks_himself_when_the_asker_is_cancelled(server: DnsServer) -> None:
    server.delay = 0.05
    asking = resolver(server)
    first = asyncio.ensure_future(asking.ask(Query("A", "one.example.com")))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(asking.ask(Query("A", "one.example.com")))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).records == ("127.0.0.11",)
    assert asking.describe()["asking"] == 0


async def test_questions_on_the_wire_are_bounded(server: DnsServer) -> None:
    server.delay = 0.02
    asking = resolver(server, replace(LIMITS, at_once=3))
    await asyncio.gather(*(asking.ask(Query("A", f"h{n}.example.com")) for n in range(12)))
    assert server.at_once == 3


async def test_the_cache_is_bounded(server: DnsServer) -> None:
    asking = resolver(server, replace(LIMITS, cached=5))
    server.negative_ttl = 60
    for n in range(20):
        await asking.ask(Query("A", f"h{n}.example.com"))
    assert asking.describe()["cached"] == 5


async def test_a_name_server_that_fails_is_a_clear_failure_and_not_asked_again_at_once(server: DnsServer, hours: Hours) -> None:
    server.rcode = dns.rcode.SERVFAIL
    asking = resolver(server)
    uri = SipUri.parse("sip:agent@one.example.com:5060")
    located = await asking.locate(uri)
    assert (located.targets, located.failure) == ((), "one.example.com: the name servers cannot answer")
    asked = server.asked.total()
    await asking.locate(uri)
    assert server.asked.total() == asked
    server.rcode = dns.rcode.NOERROR
    hours.go(3)
    assert (await asking.locate(uri)).targets


async def test_a_name_server_that_is_silent_costs_bounded_time(server: DnsServer) -> None:
    server.silent = True
    asking = resolver(server, DnsLimits(query=0.2, whole=0.5))
    one = await asking.ask(Query("A", "one.example.com"))
    assert one.failure == "one.example.com: no answer from the name servers"
    located = await asking.locate(URI)
    assert located.failure == "example.com: no answer from the name servers within 0.5 s"
    assert asking.describe()["asking"] == 0


async def test_while_name_servers_fail_the_last_answer_serves(server: DnsServer, hours: Hours) -> None:
    asking = resolver(server)
    before = await asking.locate(URI)
    server.rcode = dns.rcode.SERVFAIL
    hours.go(3600)
    assert (await asking.locate(URI)).targets == before.targets
    hours.go(2 * 86400)
    assert (await asking.locate(URI)).targets == ()


async def test_the_host_table_answers_first_and_is_read_anew_when_it_changes(server: DnsServer, tmp_path: Path) -> None:
    table = tmp_path / "hosts"
    table.write_text("127.0.0.21 Agent agent.internal # the pod's own\n::1 agent\nnonsense here\n")
    asking = resolver(server, hosts=table)
    uri = SipUri.parse("sip:a@agent;transport=tcp")
    assert [str(target) for target in (await asking.locate(uri)).targets] == ["tcp:127.0.0.21:5060", "tcp:[::1]:5060"]
    table.write_text("127.0.0.22 agent\n")
    assert [str(target) for target in (await asking.locate(uri)).targets] == ["tcp:127.0.0.22:5060"]
    assert server.asked.total() == 0


async def test_localhost_is_never_asked_for(server: DnsServer) -> None:
    located = await resolver(server).locate(SipUri.parse("sip:a@localhost:5070"))
    assert [str(target) for target in located.targets] == ["udp:127.0.0.1:5070", "udp:[::1]:5070"]
    assert server.asked.total() == 0


@pytest.mark.parametrize("name", ["a" * 64 + ".example.com", "a..example.com", ".".join(["label"] * 60)])
async def test_a_name_that_dns_cannot_hold_is_a_failure_like_another(server: DnsServer, name: str) -> None:
    located = await resolver(server).locate(SipUri.parse(f"sip:a@{name}:5060"))
    assert located.failure == f"{name}: not a name that DNS can hold"


async def test_without_any_name_server_that_is_said() -> None:
    located = await Resolver(nameservers=[], hosts=None).locate(SipUri.parse("sip:a@example.com:5060"))
    assert located.failure == "example.com: no name server is configured"


async def test_a_name_that_leads_to_a_metadata_service_leads_nowhere(server: DnsServer) -> None:
    for address in ("169.254.169.254", "100.100.100.200"):
        server.add("rebound.example.com", "A", address)
    server.add("rebound.example.com", "AAAA", "fe80::1")
    located = await resolver(server).locate(SipUri.parse("sip:agent@rebound.example.com:5060"))
    assert located.targets == ()
    server.add("rebound.example.com", "A", "127.0.0.13")
    located = await resolver(server).locate(SipUri.parse("sip:agent@rebound.example.com:5060"))
    assert [target.addr for target in located.targets] == ["127.0.0.13"]
