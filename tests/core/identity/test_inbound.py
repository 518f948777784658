"""What is read at the door, and what is said about it."""

from __future__ import annotations

import pytest

from sidecar.identity.findings import FINDINGS
from sidecar.identity.inbound import Identity, Policy, is_call_id, read
from tests.core.identity.messages import request

TOKEN = "0123456789abcdef0123456789abcdef"


def names(identity: Identity) -> list[str]:
    assert {finding.name for finding in identity.findings} <= FINDINGS
    return [finding.name for finding in identity.findings]


def test_a_clean_simulation_has_no_findings() -> None:
    identity = read(request(("x-correlation-id", TOKEN)), trusted=True)
    assert (identity.call_id, identity.carried_id, identity.correlation_id, identity.kind) == (
        "c1@example.net",
        "c1@example.net",
        TOKEN,
        "simulation",
    )
    assert (identity.claim, names(identity), identity.rejected) == (None, [], None)


def test_without_any_mark_it_is_production() -> None:
    assert read(request(), trusted=True).kind == "production"
    assert read(request(), trusted=True, simulation="always").kind == "simulation"


@pytest.mark.parametrize("call_id", ["c1@example.net", "2xTb9aQ0kLm3Zp8RwV4sY1cN7dE", "a.b-c%d*e_f+g`h'i~(j)<k>:l\\m\"n/[o]?{p}@host"])
def test_call_ids_by_the_grammar_pass(call_id: str) -> None:
    assert names(read(request(call_id=call_id), trusted=True)) == []


@pytest.mark.parametrize("call_id", ["a b", "a@b@c", "@x", "a@", "a,b", "a;b", "ä", "a\udcff"])
def test_others_are_found_and_go_on(call_id: str) -> None:
    identity = read(request(call_id=call_id), trusted=True)
    assert names(identity) == ["call_id_malformed"]
    assert (identity.call_id, identity.rejected) == (call_id, None)


def test_length_and_reuse_are_found() -> None:
    assert names(read(request(call_id="x" * 255), trusted=True)) == []
    assert names(read(request(call_id="x" * 256), trusted=True, call_id_in_use=True)) == ["call_id_too_long", "call_id_in_use"]


def test_our_headers_from_a_stranger_are_stripped_and_not_believed() -> None:
    identity = read(request(("X-Sip-Call-Id", "other"), ("x-cid", "other")), trusted=False)
    assert names(identity) == ["claim_stripped"]
    assert (identity.claim, identity.carried_id) == (None, "c1@example.net")
    assert identity.stripped == {"x-sip-call-id", "x-cid"}


def test_a_claim_that_agrees_is_no_finding() -> None:
    identity = read(request(("X-Sip-Call-Id", "c1@example.net")), trusted=True)
    assert (names(identity), identity.claim) == ([], "c1@example.net")


@pytest.mark.parametrize(
    ("policy", "carried"), [(Policy(), "c1@example.net"), (Policy("overwrite"), "c1@example.net"), (Policy("keep"), "other")]
)
def test_a_claim_that_disagrees_is_handled_by_policy(policy: Policy, carried: str) -> None:
    identity = read(request(("X-Sip-Call-Id", "other")), trusted=True, policy=policy)
    assert (names(identity), identity.carried_id, identity.rejected) == (["claim_disagrees"], carried, None)


def test_the_policy_may_reject_a_claim_or_any_named_finding() -> None:
    rejected = read(request(("X-CID", "other")), trusted=True, policy=Policy("reject")).rejected
    assert rejected is not None
    assert "X-CID" in rejected
    strict = Policy(reject=frozenset({"call_id_in_use"}))
    assert read(request(), trusted=True, call_id_in_use=True, policy=strict).rejected is not None
    assert read(request(("X-CID", "other")), trusted=True, policy=strict).rejected is None


def test_a_claim_that_is_no_call_id_is_never_carried_on() -> None:
    assert read(request(("X-CID", "not one")), trusted=True, policy=Policy("keep")).carried_id == "c1@example.net"


@pytest.mark.parametrize(
    ("values", "expected", "token"),
    [
        ([TOKEN, TOKEN], ["correlation_duplicate"], TOKEN),
        ([TOKEN, "other"], ["correlation_contradictory"], TOKEN),
        (["", TOKEN], ["correlation_contradictory", "correlation_malformed"], TOKEN),
        (["two words"], ["correlation_malformed"], "two words"),
        (["x" * 129], ["correlation_malformed"], "x" * 129),
        ([""], ["correlation_malformed"], None),
        (["ABCDEFGHIJKLMNOPQRSTUVWXYZ"], [], "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ],
)
def test_correlation_tokens_are_carried_verbatim_whatever_is_found(values: list[str], expected: list[str], token: str | None) -> None:
    identity = read(request(*(("X-Correlation-Id", value) for value in values)), trusted=False)
    assert (names(identity), identity.correlation_id) == (expected, token)
    assert identity.kind == ("production" if token is None else "simulation")


def test_no_finding_shows_a_correlation_token() -> None:
    identity = read(request(("X-Correlation-Id", "secret token"), ("X-Correlation-Id", TOKEN)), trusted=True)
    told = " ".join(finding.detail for finding in identity.findings)
    assert "secret token" not in told
    assert TOKEN not in told
    assert "sha256:" in told


def test_the_grammar_needs_no_host_part() -> None:
    assert is_call_id("abc")
    assert not is_call_id("abc\n")
