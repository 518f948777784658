"""RFC 3263 section 4 (and RFC 2782): where a request goes, each clause a test."""

from __future__ import annotations

from collections import Counter
from itertools import cycle

import pytest

from sidecar.clocks import Mono
from sidecar.sip.fields import via
from sidecar.sip.flow import Flow
from sidecar.sip.locate import Naptr, Srv, ordered_by_weight
from sidecar.sip.targets import Target, living_first, way_back_anew
from tests.support.zone import EXAMPLE, Search

# -- 4.1: the transport ------------------------------------------------------------------------------------------------------------------


def test_rfc3263_4_1_a_transport_parameter_decides() -> None:
    search = Search("sip:bob@example.com;transport=tcp", EXAMPLE)
    assert not any(question.startswith("NAPTR") for question in search.questions)
    assert search.targets == ["tcp:192.0.2.1:5060", "tcp:[2001:db8::1]:5060", "tcp:192.0.2.2:5070"]


def test_rfc3263_4_1_a_sips_uri_with_transport_tcp_is_tls_over_tcp() -> None:
    search = Search("sips:bob@example.com;transport=tcp", EXAMPLE)
    assert search.asked[0] == ["SRV _sips._tcp.example.com"]
    assert search.targets[0] == "tls:192.0.2.1:5061"


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:bob@192.0.2.7", "udp:192.0.2.7:5060"),
        ("sips:bob@192.0.2.7", "tls:192.0.2.7:5061"),
        ("sip:bob@[2001:DB8:0::7]", "udp:[2001:db8::7]:5060"),
        ("sip:bob@192.0.2.7:5070", "udp:192.0.2.7:5070"),
        ("sips:bob@192.0.2.7:5070", "tls:192.0.2.7:5070"),
        ("sip:bob@192.0.2.7;transport=TCP", "tcp:192.0.2.7:5060"),
        ("sip:bob@192.0.2.7;transport=tls", "tls:192.0.2.7:5061"),
        ("sip:bob@other.example;maddr=192.0.2.8", "udp:192.0.2.8:5060"),
    ],
)
def test_rfc3263_4_1_a_numeric_address_asks_nothing(uri: str, target: str) -> None:
    search = Search(uri, EXAMPLE)
    assert search.targets == [target]
    assert search.asked == []


def test_rfc3263_4_1_a_port_leaves_the_default_transport_and_address_records() -> None:
    search = Search("sip:bob@one.example.com:5099", EXAMPLE)
    assert search.targets == ["udp:192.0.2.1:5099", "udp:[2001:db8::1]:5099"]
    assert search.asked == [["A one.example.com", "AAAA one.example.com"]]
    assert Search("sips:bob@one.example.com:5099", EXAMPLE).targets[0] == "tls:192.0.2.1:5099"


def test_rfc3263_4_1_naptr_in_the_order_that_the_domain_states() -> None:
    assert Search("sip:bob@example.com", EXAMPLE).targets == ["tls:192.0.2.1:5061", "tls:[2001:db8::1]:5061"]


def test_rfc3263_4_1_naptr_records_of_what_we_do_not_speak_are_left_out() -> None:
    search = Search("sip:bob@example.com", EXAMPLE, transports=("udp", "tcp"))
    assert search.targets[0] == "tcp:192.0.2.1:5060"
    assert "SRV _sips._tcp.example.com" not in search.questions


def test_rfc3263_4_1_a_sips_uri_takes_only_secure_services() -> None:
    zone = {**EXAMPLE, ("NAPTR", "example.com"): [Naptr(10, 10, "s", "SIP+D2U", "_sip._udp.example.com")]}
    assert Search("sips:bob@example.com", zone).targets[0] == "tls:192.0.2.1:5061"
    assert not any("_sip._" in question for question in Search("sips:bob@example.com", zone).questions)


def test_rfc3263_4_1_preference_orders_services_of_the_same_order() -> None:
    zone = {
        **EXAMPLE,
        ("NAPTR", "example.com"): [
            Naptr(10, 20, "S", "sip+d2u", "_sip._udp.example.com"),
            Naptr(10, 10, "s", "SIP+D2T", "_sip._tcp.example.com"),
            Naptr(5, 1, "u", "E2U+sip", "elsewhere.example"),
            Naptr(5, 1, "s", "SIP+D2W", "_sip._ws.example.com"),
        ],
    }
    assert Search("sip:bob@example.com", zone).targets == [
        "tcp:192.0.2.1:5060",
        "tcp:[2001:db8::1]:5060",
        "tcp:192.0.2.2:5070",
        "udp:192.0.2.1:5060",
        "udp:[2001:db8::1]:5060",
    ]


def test_rfc3263_4_1_the_replacement_may_lie_in_another_domain_and_the_certificate_is_still_for_the_one_asked() -> None:
    zone = {
        ("NAPTR", "example.com"): [Naptr(1, 1, "s", "SIPS+D2T", "_sips._tcp.provider.example")],
        ("SRV", "_sips._tcp.provider.example"): [Srv(0, 0, 5061, "edge.provider.example")],
        ("A", "edge.provider.example"): ["198.51.100.1"],
    }
    (target,) = Search("sip:bob@example.com", zone).result.targets
    assert target == Target("tls", "example.com", "198.51.100.1", 5061)


def test_rfc3263_4_1_without_naptr_every_transport_is_asked_for_by_srv() -> None:
    zone = {key: records for key, records in EXAMPLE.items() if key[0] != "NAPTR"}
    search = Search("sip:bob@example.com", zone)
    assert search.asked[1] == ["SRV _sip._udp.example.com", "SRV _sip._tcp.example.com", "SRV _sips._tcp.example.com"]
    assert [target.transport for target in search.result.targets] == ["udp", "udp", "tcp", "tcp", "tcp", "tls", "tls"]
    assert Search("sips:bob@example.com", zone).asked[1] == ["SRV _sips._tcp.example.com"]


def test_rfc3263_4_1_without_naptr_and_srv_it_is_udp_or_for_sips_tls() -> None:
    zone = {("A", "example.com"): ["192.0.2.9"]}
    assert Search("sip:bob@example.com", zone).targets == ["udp:192.0.2.9:5060"]
    assert Search("sips:bob@example.com", zone).targets == ["tls:192.0.2.9:5061"]


# -- 4.2: port and address ---------------------------------------------------------------------------------------------------------------


def test_rfc3263_4_2_a_stated_transport_without_srv_uses_its_default_port() -> None:
    zone = {("A", "example.com"): ["192.0.2.9"]}
    assert Search("sip:bob@example.com;transport=tls", zone).targets == ["tls:192.0.2.9:5061"]
    assert Search("sip:bob@example.com;transport=tcp", zone).targets == ["tcp:192.0.2.9:5060"]


def test_rfc3263_4_2_the_transport_that_naptr_chose_holds_without_srv() -> None:
    zone = {("A", "example.com"): ["192.0.2.9"], ("NAPTR", "example.com"): [Naptr(1, 1, "s", "SIP+D2T", "_sip._tcp.example.com")]}
    assert Search("sip:bob@example.com", zone).targets == ["tcp:192.0.2.9:5060"]


def test_rfc3263_4_2_all_addresses_of_a_host_are_tried_in_both_families() -> None:
    zone = {("A", "example.com"): ["192.0.2.1", "192.0.2.2"], ("AAAA", "example.com"): ["2001:db8::1"]}
    assert Search("sip:a@example.com:5060", zone).targets == ["udp:192.0.2.1:5060", "udp:192.0.2.2:5060", "udp:[2001:db8::1]:5060"]
    assert Search("sip:a@example.com:5060", zone, families=("AAAA",)).targets == ["udp:[2001:db8::1]:5060"]
    assert Search("sip:a@example.com:5060", zone, families=("AAAA", "A")).targets[0] == "udp:[2001:db8::1]:5060"


def test_rfc2782_a_target_of_a_dot_means_that_the_service_is_not_there() -> None:
    zone = {("SRV", "_sip._tcp.example.com"): [Srv(0, 0, 0, ".")], ("A", "example.com"): ["192.0.2.9"]}
    search = Search("sip:bob@example.com;transport=tcp", zone)
    assert search.targets == []
    assert search.result.failure == "example.com says that it offers no SIP over tcp"


def test_rfc2782_lower_priorities_come_first_whatever_the_weights() -> None:
    records = [Srv(2, 100, 1, "c"), Srv(1, 0, 1, "a"), Srv(1, 0, 1, "b")]
    assert [record.host for record in ordered_by_weight(records, lambda most: most)] == ["a", "b", "c"]


@pytest.mark.parametrize(("drawn", "order"), [((0, 0), "abc"), ((1, 0), "bac"), ((10, 0), "bac"), ((11, 0), "cab"), ((40, 10), "cba")])
def test_rfc2782_a_draw_falls_on_a_record_by_its_running_sum(drawn: tuple[int, ...], order: str) -> None:
    numbers = iter((*drawn, 0))
    records = [Srv(1, 30, 1, "c"), Srv(1, 0, 1, "a"), Srv(1, 10, 1, "b")]
    assert "".join(record.host for record in ordered_by_weight(records, lambda _: next(numbers))) == order


def test_rfc2782_the_share_of_first_places_follows_the_weights() -> None:
    records = [Srv(1, 1, 1, "a"), Srv(1, 3, 1, "b")]
    numbers = cycle(range(5))
    firsts = Counter(ordered_by_weight(records, lambda most: next(numbers) if most == 4 else 0)[0].host for _ in range(500))
    assert firsts == {"b": 300, "a": 200}


def test_rfc3263_4_3_a_target_that_failed_comes_after_those_that_did_not_until_its_time_is_over() -> None:
    one, two = (Target("udp", "example.com", f"192.0.2.{n}", 5060) for n in (1, 2))
    assert living_first((one, two), {one: Mono(60)}, Mono(59)) == (two, one)
    assert living_first((one, two), {one: Mono(60)}, Mono(60)) == (one, two)
    assert living_first((one, two), {one: Mono(60), two: Mono(60)}, Mono(0)) == (one, two)


@pytest.mark.parametrize(
    ("stamped", "transport", "remote"),
    [
        ("SIP/2.0/TCP 192.0.2.5:5070;branch=z9hG4bK1", "tcp", ("192.0.2.5", 5070)),
        ("SIP/2.0/TCP phone.example:5070;branch=z9hG4bK1;received=198.51.100.5", "tcp", ("198.51.100.5", 5070)),
        ("SIP/2.0/TLS 10.0.0.5;branch=z9hG4bK1;received=198.51.100.5;rport=40000", "tls", ("198.51.100.5", 5061)),
        ("SIP/2.0/TCP [2001:db8::5];branch=z9hG4bK1", "tcp", ("2001:db8::5", 5060)),
    ],
)
def test_rfc3261_18_2_2_a_response_without_its_connection_goes_to_the_source_at_the_port_of_sent_by(
    stamped: str, transport: str, remote: tuple[str, int]
) -> None:
    gone = Flow(transport, ("192.0.2.1", 5060), ("198.51.100.5", 40000))
    assert way_back_anew(via(stamped), gone) == Flow(transport, gone.local, remote)
