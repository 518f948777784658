"""`python -m tests.bench.strangers`: what a stranger's message costs the engine, and whether the time of an answer tells users apart."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

from sidecar.b2bua.allowance import Allowance
from sidecar.identity.digest import Answered, Credentials, DigestClient, DigestServer
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request, Response, parse
from tests.core.b2bua.harness import OFFER, SDP_TYPE, SIDECAR, STRANGER, Bench

FLOW = Flow("udp", SIDECAR, STRANGER)
ROUNDS, EACH = 30, 400


def invite(number: int, headers: tuple[tuple[str, str], ...] = ()) -> Request:
    """As a phone sends it."""
    fixed = [
        ("Via", f"SIP/2.0/UDP {STRANGER[0]}:5060;branch=z9hG4bK{number};rport"),
        *(("Max-Forwards", "70"), ("From", "<sip:a@b>;tag=1"), ("To", "<sip:agent@192.0.2.1>"), ("Call-ID", f"c{number}")),
        *(("CSeq", "1 INVITE"), ("Contact", f"<sip:a@{STRANGER[0]}>"), ("User-Agent", "a phone"), SDP_TYPE),
    ]
    return Request("INVITE", "sip:agent@192.0.2.1", [*fixed, *headers], OFFER)


def bench(allowance: Allowance) -> Bench:
    """An engine that challenges."""
    return Bench(digest=DigestServer("trunk", {"alice": "secret"}, b"0123456789abcdef"), allowance=allowance)


def proof(made: Bench, user: str) -> tuple[tuple[str, str], ...]:
    """Credentials with a wrong password."""
    made.engine.receive(invite(0).encode(), FLOW, made.clock.now)
    challenge = next(parse(effect.data) for effect in made.engine.take() if hasattr(effect, "data"))
    if not isinstance(challenge, Response):
        raise SystemExit("the engine did not challenge")
    answer = DigestClient(Credentials(user, "wrong")).answer(challenge, method="INVITE", uri="sip:agent@192.0.2.1", body=OFFER, cnonce="c")
    if not isinstance(answer, Answered):
        raise SystemExit("the challenge cannot be answered")
    return tuple(answer.headers)


def cost(made: Bench, data: Callable[[int], bytes], turn: int) -> float:
    """Microseconds a message."""
    messages = [data(turn * EACH + number) for number in range(1, EACH + 1)]
    began = perf_counter()
    for message in messages:
        made.engine.receive(message, FLOW, made.clock.now)
    took = perf_counter() - began
    made.engine.take()
    return took / EACH * 1e6


def main() -> None:
    """Print the table."""
    wide = Allowance(burst=10**9, per_s=1.0)
    silenced = bench(Allowance(burst=1, per_s=0.000001))
    silenced.engine.receive(b"noise", FLOW, silenced.clock.now)
    known, unknown = bench(wide), bench(wide)
    right, wrong = proof(known, "alice"), proof(unknown, "mallo")
    cases: dict[str, tuple[Bench, Callable[[int], bytes]]] = {
        "above the allowance": (silenced, lambda number: invite(number).encode()),
        "challenged": (bench(wide), lambda number: invite(number).encode()),
        "noise": (bench(wide), lambda number: b"noise %d" % number),
        "wrong password, known user": (known, lambda number: invite(number, right).encode()),
        "wrong password, unknown user": (unknown, lambda number: invite(number, wrong).encode()),
    }
    # By turns, so that whatever else the machine does meets all of them.
    found = [{name: cost(made, data, turn) for name, (made, data) in cases.items()} for turn in range(ROUNDS)]
    for name in cases:
        figures = [each[name] for each in found]
        print(f"{name:<30} {median(figures):7.1f} µs   (from {min(figures):.1f} to {max(figures):.1f})")  # noqa: T201


if __name__ == "__main__":
    main()
