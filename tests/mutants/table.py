"""The protections, what breaking each of them is, and the test that must then fail."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`old`, which stands exactly once in `file`, becomes `new`; `test` is a pytest node."""

    protection: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    Mutant(
        "source lock of media",
        "sidecar/media/relay.py",
        "(end.latched is not None or addr[0] not in (end.negotiated[0], self._hosts[leg]))",
        "False",
        "tests/core/media/test_relay.py::test_a_third_address_never_reaches_the_peer",
    ),
    Mutant(
        "allow-list of a route",
        "sidecar/b2bua/routes.py",
        "return all(any(fits(",
        "return True or all(any(fits(",
        "tests/core/b2bua/test_toll_fraud.py::test_an_outbound_route_dials_its_list_alone",
    ),
    Mutant(
        "nonce check of digest",
        "sidecar/identity/digest_server.py",
        "if nc <= self._counts.get(nonce, (0, expires))[0]:",
        "if False:",
        "tests/core/b2bua/test_door.py::test_a_stranger_with_credentials_is_let_in_and_they_go_no_further",
    ),
    Mutant(
        "scopes of tokens",
        "control/api/access.py",
        "if identity.scopes.isdisjoint(any_of):",
        "if False:",
        "tests/shell/control/test_access.py::test_a_token_made_while_control_runs_opens_what_its_scopes_say_until_it_is_revoked",
    ),
    Mutant(
        "fsync of the spool",
        "sidecar/reporter/spool.py",
        "        os.fsync(fd)\n",
        "        pass\n",
        "tests/shell/reporter/test_reporter.py::test_a_closed_trace_is_synced_with_its_directory_off_the_event_loop",
    ),
    Mutant(
        "no answer longer than its question",
        "sidecar/b2bua/strangers.py",
        "if flow.reliable or len(answer.data) <= len(data):",
        "if True:",
        "tests/core/b2bua/test_strangers.py::test_nobody_gets_more_octets_than_it_sent",
    ),
    Mutant(
        "allowance of a source",
        "sidecar/b2bua/allowance.py",
        "return host in self._peers or self._left(_source(host), allowance, now) >= 1",
        "return True",
        "tests/core/b2bua/test_strangers.py::test_noise_and_stray_answers_cost_tokens_as_well",
    ),
    Mutant(
        "public addresses of webhooks",
        "control/addresses.py",
        'if inside(each["host"]) is None',
        "if True",
        "tests/shell/control/test_webhook_settings.py::test_a_public_name_that_leads_inside_is_not_followed",
    ),
    Mutant(
        "line breaks in headers",
        "sidecar/sip/headers.py",
        'if "\\r" in value or "\\n" in value:',
        "if False:",
        "tests/core/sip/test_headers.py::test_a_value_that_could_break_out_is_refused_by_every_way_in",
    ),
)
