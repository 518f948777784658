"""What `trunkside config check` finds in a sidecar's file without asking anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Match, Route, SidecarConfig
from sidecar.doctor import Fault, covers, faults_of, render

TARGET = "sip:agent@127.0.0.1:5070"


def faults(tmp_path: Path, *routes: dict[str, Any], **sections: Any) -> list[tuple[str, str]]:
    """(severity, key) of each fault of a configuration that is otherwise in order."""
    return [(fault.severity, fault.key) for fault in told(tmp_path, *routes, **sections)]


def told(tmp_path: Path, *routes: dict[str, Any], **sections: Any) -> list[Fault]:
    given = [{"name": f"r{number}", "target": TARGET, **route} for number, route in enumerate(routes or ({},))]
    return faults_of(SidecarConfig(**{"spool": {"path": tmp_path / "spool"}, **sections, "routes": given}))


def test_a_configuration_in_order_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path) == []


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert faults(tmp_path, fleet={"key_file": tmp_path / "none"}) == [("error", "fleet.key_file")]
    (tmp_path / "key").write_bytes(b"x")
    assert faults(tmp_path, fleet={"key_file": tmp_path / "key"}) == []


# -- routes --------------------------------------------------------------------------------------------------------------------------------


def route(**match: Any) -> Route:
    return Route(name="r", target=TARGET, match=Match(**match))


@pytest.mark.parametrize(
    ("host", "fault"), [("sim.example", False), ("SIM.example", False), ("*.example", False), ("other.example", True), (None, False)]
)
def test_an_outbound_route_that_may_not_dial_what_it_takes(tmp_path: Path, host: str | None, fault: bool) -> None:
    found = faults(tmp_path, {"direction": "outbound", "allow": ["sim.example", "*.sim.test"], "match": {"host": host}})
    assert found == ([("error", "routes.r0.allow")] if fault else [])


@pytest.mark.parametrize(
    ("earlier", "later", "shadowed"),
    [
        ({}, {"user": "a"}, True),
        ({"user": "*"}, {}, True),
        ({"user": "a"}, {}, False),
        ({"user": "a"}, {"user": "a"}, True),
        ({"user": "a*"}, {"user": "agent"}, True),
        ({"user": "ag*t"}, {"user": "ag*nt"}, True),
        ({"user": "ag*nt"}, {"user": "ag*t"}, False),
        ({"user": "agent"}, {"user": "a*"}, False),
        ({"user": "*1*"}, {"user": "a1*"}, True),
        ({"user": "A"}, {"user": "a"}, False),
        ({"user": ""}, {"user": "a"}, False),
        ({"host": "Voice.Example"}, {"host": "voice.example", "user": "a"}, True),
        ({"host": "*.example"}, {"host": "a.example"}, True),
        ({"source": "10.0.0.0/8"}, {"source": "10.1.0.0/16"}, True),
        ({"source": "10.1.0.0/16"}, {"source": "10.0.0.0/8"}, False),
        ({"source": "10.0.0.0/8"}, {"source": "fd00::/8"}, False),
        ({"source": "10.0.0.0/8"}, {}, False),
        ({"header": {"X-Tenant": "a*"}}, {"header": {"x-tenant": "acme"}}, True),
        ({"header": {"X-Tenant": "a*"}}, {}, False),
        ({"header": {"X-Tenant": "*"}}, {}, True),
        ({"user": "a", "source": "10.0.0.0/8"}, {"user": "a"}, False),
    ],
)
def test_which_routes_take_all_that_another_would(earlier: dict[str, Any], later: dict[str, Any], shadowed: bool) -> None:
    assert covers(route(**earlier), route(**later)) is shadowed


def test_a_route_behind_one_that_takes_all_is_an_error_told_once(tmp_path: Path) -> None:
    found = told(tmp_path, {"match": {"user": "a*"}}, {"match": {}}, {"match": {"user": "agent"}}, {"match": {"user": "b"}})
    assert [(fault.severity, fault.key) for fault in found] == [("error", "routes.r2"), ("error", "routes.r3")]
    assert "route r0 stands before it" in found[0].what
    assert "route r1 stands before it" in found[1].what


def test_a_route_back_to_the_sidecar_itself(tmp_path: Path) -> None:
    assert faults(tmp_path, {"target": "sip:agent@127.0.0.1:5060"}) == [("error", "routes.r0.target")]


# -- the id --------------------------------------------------------------------------------------------------------------------------------


def test_a_platform_that_lets_nothing_through_is_a_warning(tmp_path: Path) -> None:
    (found,) = told(tmp_path, {"platform": "exotel"})
    assert (found.severity, found.key) == ("warning", "routes.r0.platform")
    assert "current-call" in found.mend


@pytest.mark.parametrize(
    "route",
    [
        {"platform": "exotel", "simulation": "never"},
        {"platform": "exotel", "direction": "outbound", "allow": ["sip.example"]},
    ],
)
def test_where_no_id_is_needed_none_is_missed(tmp_path: Path, route: dict[str, Any]) -> None:
    assert faults(tmp_path, route) == []


def test_a_preset_whose_lines_are_too_short_for_a_usual_call_id_is_an_error(tmp_path: Path) -> None:
    preset = {"prefix": "X-", "alias": "X-A-Header-With-A-Name-As-Long-As-It-Gets", "seen_as": ["{name}"], "barred": ["X-Sip", "X-CID"]}
    assert faults(tmp_path, {"platform": "mine"}, presets={"mine": {**preset, "max_bytes": 64}}) == [("error", "routes.r0.platform")]
    assert faults(tmp_path, {"platform": "mine"}, presets={"mine": {**preset, "max_bytes": 256}}) == []


# -- addresses and ports -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "found"),
    [
        ({"media": {"ports": (30000, 30003)}}, [("warning", "media.ports")]),
        ({"media": {"ports": (30000, 30079)}}, []),
        ({"media": {"ports": (5000, 6000)}}, [("error", "media.ports")]),
        ({"callers": {"trusted": ["0.0.0.0/0"]}}, [("warning", "callers.trusted")]),
        ({"sip": {"listen": ["udp://10.0.0.5:5060"], "advertise": "127.0.0.1"}}, [("error", "sip.advertise")]),
        ({"control": {"url": "http://1.2.3.4:8080", "token": "t"}}, [("warning", "control.url")]),
        ({"control": {"url": "https://1.2.3.4:8080", "token": "t"}}, []),
        ({"control": {"url": "http://10.0.0.1:8080", "token": "t"}}, []),
    ],
)
def test_addresses_and_ports(tmp_path: Path, sections: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert faults(tmp_path, **sections) == found


@pytest.mark.parametrize(
    ("listen", "advertise", "target", "warned"),
    [
        ("10.0.0.5", None, "1.2.3.4", True),
        ("10.0.0.5", "10.0.0.5", "1.2.3.4", True),
        ("10.0.0.5", "5.6.7.8", "1.2.3.4", False),
        ("10.0.0.5", "edge.example", "1.2.3.4", False),
        ("10.0.0.5", None, "10.0.0.9", False),
        ("127.0.0.1", None, "10.0.0.9", True),
    ],
)
def test_an_own_address_that_the_edge_could_not_answer_to(
    tmp_path: Path, listen: str, advertise: str | None, target: str, warned: bool
) -> None:
    sip = {"listen": [f"udp://{listen}:5060"], "advertise": advertise}
    found = faults(tmp_path, {"target": f"sip:agent@{target}:5070"}, sip=sip)
    assert found == ([("warning", "sip.advertise")] if warned else [])


# -- files ---------------------------------------------------------------------------------------------------------------------------------


def test_a_secret_that_everybody_may_read(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hidden\n")
    route = {"username": "u", "password_file": file}
    file.chmod(0o644)
    (found,) = told(tmp_path, route)
    assert (found.severity, found.key) == ("warning", "routes.r0.password_file")
    assert "hidden" not in str(found)
    file.chmod(0o640)
    assert faults(tmp_path, route) == []


def test_certificates_are_tried(tmp_path: Path) -> None:
    nothing = tmp_path / "none.pem"
    nothing.write_text("no certificate")
    assert faults(tmp_path, sip={"tls": {"certificate": nothing}}) == [("error", "sip.tls")]
    assert faults(tmp_path, sip={"tls": {"ca": tmp_path / "absent.pem"}}) == [("error", "sip.tls")]


def test_a_spool_below_something_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert faults(tmp_path, spool={"path": tmp_path / "file" / "spool"}) == [("error", "spool.path")]


def test_a_folder_that_nothing_can_be_recorded_into_matters_where_something_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = {"path": tmp_path / "file" / "recordings"}
    assert faults(tmp_path, recordings=nowhere) == []
    for media in ({"record": "ogg"}, {"capture": True}):
        assert faults(tmp_path, recordings=nowhere, media=media) == [("error", "recordings.path")]


# -- what is shown -------------------------------------------------------------------------------------------------------------------------


def test_one_line_a_fault() -> None:
    found = [Fault("error", "a.b", "is wrong", "mend it"), Fault("warning", "c", "is odd", "look at it")]
    assert render("f.yaml", "listens", found, json=False).splitlines() == [
        "error    a.b: is wrong; mend it",
        "warning  c: is odd; look at it",
        "f.yaml: 1 error, 1 warning; listens",
    ]
    assert render("f.yaml", "listens", [], json=False) == "f.yaml: without faults; listens"
