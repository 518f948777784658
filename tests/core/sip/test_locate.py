"""The search for targets beyond the letter of RFC 3263: failures, limits, and what a person is told."""

from __future__ import annotations

import re

import pytest

from sidecar.sip.endpoint import Endpoint, endpoint_for
from sidecar.sip.locate import Naptr, Srv, Step
from tests.support.zone import EXAMPLE, Search


@pytest.mark.parametrize(
    ("uri", "failure"),
    [
        ("sip:a@example.com;transport=sctp", "sip over sctp is not spoken here"),
        ("sips:a@example.com;transport=udp", "sips over udp is not spoken here"),
        ("sip:a@nowhere.example", "nowhere.example has no address"),
    ],
)
def test_what_cannot_be_reached_says_why(uri: str, failure: str) -> None:
    search = Search(uri, EXAMPLE)
    assert (search.targets, search.result.failure) == ([], failure)


def test_a_transport_that_is_not_enabled_is_named() -> None:
    assert Search("sip:a@192.0.2.1;transport=tls", {}, transports=("udp",)).result.failure == "tls is not enabled here"
    assert Search("sips:a@example.com", {}, transports=("udp", "tcp")).result.failure == "sips needs TLS, which is not enabled here"


def test_an_address_of_a_family_that_we_lack_is_named() -> None:
    search = Search("sip:a@[2001:db8::1]", {}, families=("A",))
    assert search.result.failure == "2001:db8::1 is of an address family that nothing here listens on"


def test_a_failure_on_the_way_is_told_once() -> None:
    zone = {
        ("A", "example.com"): "example.com: the name servers cannot answer",
        ("AAAA", "example.com"): "example.com: the name servers cannot answer",
    }
    assert Search("sip:a@example.com:5060", zone).result.failure == "example.com: the name servers cannot answer"


def test_a_failing_naptr_or_one_failing_family_does_not_stop_the_search() -> None:
    zone = {("NAPTR", "example.com"): "no answer", ("AAAA", "example.com"): "no answer", ("A", "example.com"): ["192.0.2.9"]}
    search = Search("sip:a@example.com", zone)
    assert (search.targets, search.result.failure) == (["udp:192.0.2.9:5060"], "")


def test_questions_that_do_not_depend_on_each_other_are_asked_at_once() -> None:
    zone = {key: records for key, records in EXAMPLE.items() if key[0] != "NAPTR"}
    assert [len(batch) for batch in Search("sip:a@example.com;transport=tcp", zone).asked] == [1, 4]


def test_targets_stand_once() -> None:
    zone = dict(EXAMPLE)
    zone[("SRV", "_sip._tcp.example.com")] = [Srv(0, 1, 5060, "one.example.com"), Srv(1, 1, 5060, "one.example.com")]
    assert Search("sip:a@example.com;transport=tcp", zone).targets == ["tcp:192.0.2.1:5060", "tcp:[2001:db8::1]:5060"]


def test_a_zone_without_measure_is_cut() -> None:
    hosts = [Srv(0, 1, 5060, f"h{n}.example.com") for n in range(100)]
    zone = {("SRV", "_sip._tcp.example.com"): hosts} | {("A", record.host): [f"192.0.2.{n}" for n in range(1, 50)] for record in hosts}
    search = Search("sip:a@example.com;transport=tcp", zone)
    assert len(search.targets) == 32
    assert len(search.questions) <= 1 + 2 * 16


def test_an_srv_host_that_is_an_address_is_used_as_it_is() -> None:
    zone = {("SRV", "_sip._udp.example.com"): [Srv(0, 0, 5080, "192.0.2.4")]}
    assert Search("sip:a@example.com;transport=udp", zone).targets == ["udp:192.0.2.4:5080"]


def test_each_step_tells_what_was_asked_what_came_and_what_was_made_of_it() -> None:
    zone = {
        ("NAPTR", "example.com"): [Naptr(10, 10, "s", "SIP+D2T", "_sip._tcp.example.com")],
        ("SRV", "_sip._tcp.example.com"): [Srv(0, 5, 5070, "one.example.com")],
        ("A", "one.example.com"): ["192.0.2.1"],
    }
    assert list(Search("sip:a@example.com", zone).result.steps) == [
        Step("NAPTR example.com", ('10 10 "s" "SIP+D2T" _sip._tcp.example.com',), "tcp by _sip._tcp.example.com"),
        Step("SRV _sip._tcp.example.com", ("0 5 5070 one.example.com",), "one.example.com:5070"),
        Step("A one.example.com (SRV)", ("192.0.2.1",), "tcp:192.0.2.1:5070"),
        Step("AAAA one.example.com (SRV)", (), "none"),
    ]


@pytest.mark.parametrize("text", ["udp://127.0.0.1:5060", "tcp://[::1]:5060", "tls://0.0.0.0:0", "tcp://[fe80::1%eth0]:5060"])
def test_an_endpoint_reads_as_it_was_written(text: str) -> None:
    assert str(Endpoint.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("sctp://127.0.0.1:5060", "must begin with udp://, tcp://, tls://, ws:// or wss://"),
        ("127.0.0.1:5060", "must begin with"),
        ("tls://127.0.0.1", "needs a port, as in tls://127.0.0.1:5061"),
        ("udp://localhost:5060", "needs an IP address"),
        ("udp://::1:5060", "needs an IP address"),
        ("udp://127.0.0.1:70000", "needs an IP address and a port"),
    ],
)
def test_an_endpoint_that_is_none_says_what_is_wrong(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        Endpoint.parse(text)


def test_the_endpoint_that_a_peer_is_reached_from() -> None:
    udp4, tcp4, udp6 = map(Endpoint.parse, ("udp://127.0.0.1:5060", "tcp://127.0.0.1:5062", "udp://[::1]:5060"))
    ours = (udp4, tcp4, udp6)
    assert endpoint_for(ours, "udp", "192.0.2.1") == udp4
    assert endpoint_for(ours, "tcp", "192.0.2.1") == tcp4
    assert endpoint_for(ours, "tls", "192.0.2.1") == udp4
    assert endpoint_for(ours, "tcp", "2001:db8::1") == udp6
    assert endpoint_for((tcp4,), "udp", "192.0.2.1") is None
    assert endpoint_for((udp4,), "tcp", "2001:db8::1") is None
