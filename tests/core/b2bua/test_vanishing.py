"""One side vanishes, in each state of a call: the other is told in bounded time, the call ends once, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.b2bua import effects as e
from tests.core.b2bua.harness import ANSWER, CALLER, EDGE, OFFER, Bench, word

FOREVER = 1000.0
"""Longer than any timer: the limit of ringing is 200 s."""


def invited(bench: Bench) -> None:
    bench.invite()
    bench.edge.request("INVITE")


def trying(bench: Bench) -> None:
    bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 100)


def ringing(bench: Bench) -> None:
    bench.ringing()


def early_media(bench: Bench) -> None:
    bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 183, body=ANSWER)
    bench.caller.response(183)


def cancelling(bench: Bench) -> None:
    sent, _ = bench.ringing()
    bench.caller.cancel(sent)


def answered(bench: Bench) -> None:
    bench.answered()


def renegotiating(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("INVITE", body=OFFER)


def hanging_up(bench: Bench) -> None:
    bench.answered()
    bench.caller.ask("BYE")


STATES: dict[str, tuple[Callable[[Bench], None], list[str | int]]] = {
    "invited": (invited, [408]),
    "trying": (trying, [408]),
    "ringing": (ringing, [408]),
    "early media": (early_media, [408]),
    "cancelling": (cancelling, [200, 487]),
    "renegotiating": (renegotiating, [408, "BYE"]),
    "hanging up": (hanging_up, [200]),
}
"""State → the words with which the caller learns of it, in order; repetitions and provisional answers apart."""


def vanish(bench: Bench) -> None:
    """Whatever is sent to the edge from now on is lost without a trace."""
    bench.edge.inbox.clear()
    bench.wire.attach(EDGE, lambda data, source, now: None)


@pytest.mark.parametrize("state", STATES)
def test_the_caller_learns_that_the_edge_has_vanished(bench: Bench, state: str) -> None:
    begin, words = STATES[state]
    begin(bench)
    vanish(bench)
    heard_before = len(bench.caller.all)
    bench.run(FOREVER)
    told = [what for heard in bench.caller.all[heard_before:] if (what := word(heard.message)) not in (100, 180, 183)]
    assert list(dict.fromkeys(told)) == words
    assert len(bench.facts(e.Ended)) == 1
    bench.caller.inbox.clear()


def test_a_call_whose_edge_is_silent_after_the_answer_lives_until_the_caller_ends_it(bench: Bench) -> None:
    """Silence is no end: a call on hold has none to say. Session timers (RFC 4028) are what ends it, where the parties want them."""
    answered(bench)
    vanish(bench)
    bench.run(FOREVER)
    assert bench.facts(e.Ended) == []
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bench.run(FOREVER)
    assert len(bench.facts(e.Ended)) == 1


@pytest.mark.parametrize("early", [False, True], ids=["ringing", "early media"])
def test_an_edge_whose_answer_no_caller_acknowledges_gets_a_bye(bench: Bench, early: bool) -> None:  # RFC 3261 13.3.1.4
    bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183 if early else 180, body=ANSWER if early else b"")
    bench.run(0.1)
    bench.wire.attach(CALLER, lambda data, source, now: None)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.edge.request("ACK", within=40.0)  # the caller's, which carries its answer where there is one, was waited for
    bench.edge.reply(bench.edge.request("BYE", within=40.0), 200)
    bench.caller.inbox.clear()
    bench.run(FOREVER)
    assert len(bench.facts(e.Ended)) == 1


def test_the_edge_may_hang_up_on_a_caller_that_has_vanished(bench: Bench) -> None:
    answered(bench)
    bench.wire.attach(CALLER, lambda data, source, now: None)
    bench.edge.ask("BYE")
    bench.edge.response(200)
    bench.run(FOREVER)
    assert len(bench.facts(e.Ended)) == 1
