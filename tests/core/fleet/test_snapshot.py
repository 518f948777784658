"""What a snapshot of control makes of a sidecar's own configuration, and what in it is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from control.contract.routing import Policies, RouteBase, RouteGiven, RouteMatch, RouteSent, RoutesGiven, Snapshot
from control.contract.settings import SettingsError
from control.fleet.snapshots import fits, host_of
from sidecar.config import Match, Route, SidecarConfig, with_routes
from sidecar.engine_settings import engine_settings

PRESET = {"alias": "X-Link", "seen_as": ["header.{lower}"]}


def own(**more: Any) -> SidecarConfig:
    return SidecarConfig(routes=[{"name": "own", "target": "sip:own@127.0.0.1:5070"}], **more)


def snapshot(*routes: dict[str, Any], **more: Any) -> Snapshot:
    sent = [RouteSent(**{"name": "agent", "target": "sip:agent@voice.example", **route}) for route in routes]
    return Snapshot(**{"id": "a1", "version": 7, "routes": sent, "presets": {}, "policies": Policies(), **more})


def test_a_route_of_control_takes_every_key_of_a_route_of_the_file() -> None:
    """Whoever adds a key to one has to add it to the other."""
    assert set(RouteBase.model_fields) | {"password", "password_file"} == set(Route.model_fields) | {"sidecars"}
    assert set(RouteMatch.model_fields) == set(Match.model_fields)
    defaults = RouteGiven(name="agent", target="sip:agent@voice.example")
    plain = Route(name="agent", target="sip:agent@voice.example")
    for name in set(RouteBase.model_fields) - {"sidecars", "identity", "match"}:
        assert getattr(defaults, name) == getattr(plain, name), name


def test_controls_routes_take_the_place_of_the_files_and_the_rest_stays() -> None:
    config = own(name="edge-7", presets={"mine": PRESET})
    given = snapshot({"username": "alice", "password": "secret", "platform": "theirs"}, presets={"theirs": PRESET})
    changed = with_routes(config, given)
    assert [route.name for route in changed.routes] == ["agent"]
    assert (changed.name, set(changed.presets)) == ("edge-7", {"mine", "theirs"})
    route = engine_settings(changed, ()).routes[0]
    assert route.credentials is not None
    assert (route.credentials.username, route.credentials.password) == ("alice", "secret")
    assert "secret" not in repr(changed) + repr(given)


def test_a_snapshot_without_routes_leaves_the_files_in_force() -> None:
    policies = Policies.model_validate({"evaluators": {"networks": ["127.0.0.0/24"]}})
    changed = with_routes(own(), snapshot(policies=policies))
    assert [route.name for route in changed.routes] == ["own"]
    assert changed.evaluators.networks == ["127.0.0.0/24"]


def test_the_identity_policy_holds_for_routes_that_have_none_of_their_own() -> None:
    policies = Policies.model_validate({"identity": {"claim": "reject"}})
    changed = with_routes(own(), snapshot({}, {"name": "lenient", "identity": {"claim": "keep"}}, policies=policies))
    assert [route.identity.claim for route in changed.routes] == ["reject", "keep"]


def test_the_environment_has_no_say_in_what_control_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    config = own()
    monkeypatch.setenv("TRUNKSIDE_ROUTES", '[{"name": "environment", "target": "sip:x@127.0.0.1"}]')
    assert [route.name for route in with_routes(config, snapshot({})).routes] == ["agent"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (snapshot({"platform": "nowhere"}), r"snapshot 7: routes: route agent: no carriage preset 'nowhere'"),
        (snapshot({}, {}), r"snapshot 7: routes: two routes are called 'agent'"),
        (snapshot({"target": "sip:@x"}), r"snapshot 7: routes\.0\.target: 'sip:@x' is not a SIP URI"),
        (snapshot({"identity": {"reject": ["moonlight"]}}), r"snapshot 7: routes\.0\.identity\.reject\.0: no finding 'moonlight'"),
        (snapshot({}, presets={"generic": {}}), r"snapshot 7: presets: a preset called 'generic' is shipped"),
        (
            snapshot({}, policies=Policies.model_validate({"evaluators": {"networks": ["198.51.100.0/24"]}})),
            r"snapshot 7: evaluators\.networks: calls from 198\.51\.100\.0/24 would be refused",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(given: Snapshot, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        with_routes(own(), given)
    assert re.match(says, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ({"target": "agent@voice.example"}, "target"),
        ({"direction": "outbound"}, "needs allow"),
        ({"allow": ["x.example"]}, "allow is for outbound routes"),
        ({"password": "x"}, "a password needs a username"),
        ({"match": {"source": "300.1.1.1"}}, "IPv4"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_control_refuses_what_has_not_the_form(route: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RoutesGiven(routes=[{"name": "agent", "target": "sip:agent@voice.example", **route}])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("sip:agent@Voice.Example:5080;transport=tcp", "voice.example"),
        ("sip:voice.example", "voice.example"),
        ("sips:a:pw@[2001:db8::1]:5061", "[2001:db8::1]"),
        ("sip:a@voice.example;maddr=192.0.2.1?Subject=x", "192.0.2.1"),
        ("sip:a%40b@voice.example", "voice.example"),
    ],
)
def test_the_host_that_a_password_is_bound_to(uri: str, host: str) -> None:
    assert host_of(uri) == host


def test_patterns_of_sidecars_are_literal_but_for_the_star() -> None:
    assert fits("edge-1", "edge-*")
    assert not fits("edgeX1", "edge.1")
    assert not fits("edge-1\n", "edge-1")
