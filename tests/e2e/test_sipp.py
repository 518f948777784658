"""SIPp as caller and as agent's edge with the sidecar between them: calls pass, media passes, nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.packets import RtpCount
from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.sipp import SPEECH_PACKETS, Figures, Sipp

pytestmark = pytest.mark.peer

HOLD_MS = 2000
KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
BLOCKS_A_TRACE = 20
"""What the spool knows of a trace that waits, in blocks of the interpreter's allocator."""


@dataclass
class Bench:
    """A sidecar that is ready, and the addresses of the three parties.

    Control is away: traces stay in the spool, where a test can read them.
    """

    folder: Path
    sidecar: Product
    caller: str
    host: str
    edge: str
    edge_port: int

    @property
    def sip(self) -> str:
        """host:port of the sidecar."""
        address: str = self.sidecar.event("ready")["sip"][0]
        return address.partition("://")[2]

    def admin(self, path: str) -> Any:
        return get_json(self.sidecar.event("ready")["admin"] + path)

    def run(self, caller: str, agent: str, calls: int, rate: int = 50, answers: bool = True) -> tuple[Figures, Figures]:
        """`calls` calls at `rate` a second from one scenario to another; the caller's and the agent's figures."""
        with ExitStack() as stack:
            edge = Sipp(agent, self.folder, self.edge, self.edge_port, calls=calls, options=["-d", str(HOLD_MS)])
            stack.callback(edge.stop)
            options = ["-r", str(rate), "-s", "agent", "-d", str(HOLD_MS)]
            dialler = Sipp(caller, self.folder, self.caller, free_port(self.caller), calls=calls, options=options, target=self.sip)
            stack.callback(dialler.stop)
            seconds = calls / rate + HOLD_MS / 1000 + 20
            return dialler.wait(seconds), edge.wait(20 if answers else 1)

    def quiet(self) -> None:
        """Wait until no call is left and its figures are written."""
        until("no live call", lambda: self.admin("/v1/calls")["calls"] == [] and self.admin("/v1/state")["reporter"]["spool"]["open"] == 0)

    def traces(self) -> dict[str, list[dict[str, Any]]]:
        """The facts of every call, from the spool."""
        files = (self.folder / "sidecar" / "spool").glob("*.jsonl")
        return {file.stem: [json.loads(text) for text in file.read_text().splitlines()] for file in files}

    def facts(self, kind: str) -> list[dict[str, Any]]:
        """The facts of one kind, of every call."""
        return [fact for trace in self.traces().values() for fact in trace if fact["kind"] == kind]


@contextmanager
def bench(folder: Path, *, besides: dict[str, Any] | None = None, near: str = "udp", far: str = "udp", **route: Any) -> Iterator[Bench]:
    """`besides`: further settings of the sidecar; `near` and `far`: the transports of its legs."""
    caller, host, edge = loopback(), loopback(), loopback()
    edge_port = free_port(edge, KINDS[far])
    settings = {
        "sip": {"listen": [f"{way}://{host}:{free_port(host, KINDS[way])}" for way in dict.fromkeys((near, far))]},
        "routes": [{"name": "agent", "target": f"sip:agent@{edge}:{edge_port}" + ("" if far == "udp" else f";transport={far}"), **route}],
        "control": {"url": f"http://{host}:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": f"{host}:0"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
        **(besides or {}),
    }
    with running("sidecar", folder / "sidecar", settings) as sidecar:
        yield Bench(folder, sidecar, caller, host, edge, edge_port)


def clean(calls: int) -> Figures:
    """Every call well, nothing sent twice."""
    return Figures(successful=calls, failed=0, retransmissions=0, unexpected=0, causes=())


@pytest.mark.parametrize(
    ("caller", "agent", "reason", "status"),
    [
        ("caller", "agent", "completed", 200),
        ("caller-hung-up-on", "agent-hangs-up", "completed", 200),
        ("caller-cancels", "agent-cancelled", "cancelled", 487),
        ("caller-refused", "agent-busy", "rejected", 486),
    ],
)
def test_calls_end_as_the_parties_end_them(tmp_path: Path, caller: str, agent: str, reason: str, status: int) -> None:
    with bench(tmp_path) as run:
        assert run.run(caller, agent, calls=10, rate=20) == (clean(10), clean(10))
        run.quiet()
        assert [(fact["reason"], fact["status"]) for fact in run.facts("call_ended")] == [(reason, status)] * 10
        assert run.sidecar.faults == []


def test_an_edge_that_challenges_with_401_gets_the_routes_credentials(tmp_path: Path) -> None:
    """SIPp itself checks the response and answers 403 when it is wrong."""
    with bench(tmp_path, username="trunkside", password="s3cret") as run:
        assert run.run("caller", "agent-challenges-401", calls=10, rate=20) == (clean(10), clean(10))
        run.quiet()
        answered = [(fact["status"], fact["result"]) for fact in run.facts("authentication")]
        assert answered == [(401, "answered")] * 10


def test_an_edge_that_challenges_with_407_gets_the_routes_credentials(tmp_path: Path) -> None:
    with bench(tmp_path, username="trunkside", password="s3cret") as run:
        assert run.run("caller", "agent-challenges-407", calls=10, rate=20) == (clean(10), clean(10))
        run.quiet()
        answers = [
            dict(re.findall(r'(\w+)="?([^",\s]+)', text))
            for text in (run.folder / "agent-challenges-407" / "log.txt").read_text().splitlines()
        ]
        assert len(answers) == 10
        for answer in answers:
            assert answer["response"] == digest_response("trunkside", "s3cret", "INVITE", answer)
        assert len({answer["cnonce"] for answer in answers}) == 10
        assert not any(answer["response"] in json.dumps(run.traces()) for answer in answers), "a digest response reached a trace"


def test_wrong_credentials_end_the_call_with_the_edges_status(tmp_path: Path) -> None:
    with bench(tmp_path, username="trunkside", password="wrong") as run:
        figures, _ = run.run("caller", "agent-challenges-401", calls=3, rate=20)
        assert (figures.successful, figures.causes) == (0, ("FailedCall", "FailedUnexpectedMessage"))
        run.quiet()
        assert [fact["status"] for fact in run.facts("call_ended")] == [403] * 3


def digest_response(user: str, password: str, method: str, answer: dict[str, str]) -> str:
    """RFC 7616 3.4.1 for MD5 and qop=auth."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    ha1, ha2 = md5(f"{user}:{answer['realm']}:{password}"), md5(f"{method}:{answer['uri']}")
    return md5(":".join([ha1, answer["nonce"], answer["nc"], answer["cnonce"], answer["qop"], ha2]))


def test_calls_leave_nothing_behind(tmp_path: Path) -> None:
    with bench(tmp_path) as run:
        assert run.run("caller", "agent", calls=100) == (clean(100), clean(100))
        run.quiet()
        memory = run.sidecar.memory_kb()
        _calls_leave_nothing_behind(run, calls=300, rate=25)
        # RFC 3261 keeps ended transactions for 32 s; nothing else of a call may stay but the allocator's own reserve.
        assert run.sidecar.memory_kb() - memory < 40 * 300 + 16_384


@pytest.mark.load
def test_a_thousand_calls_at_fifty_a_second_leave_nothing_behind(tmp_path: Path) -> None:
    """Nor do they take memory: what the allocator reserved for the first thousand serves the second, and what they allocated is freed."""
    with bench(tmp_path) as run:
        assert run.run("caller", "agent", calls=1000) == (clean(1000), clean(1000))
        memory, blocks = _at_rest(run)
        _calls_leave_nothing_behind(run, calls=1000, rate=50)
        after, left = _at_rest(run)
        assert after - memory < 16_384
        # Control is away, so the spool knows a thousand traces more that wait for it.
        assert left - blocks < 1000 * BLOCKS_A_TRACE


def _at_rest(run: Bench) -> tuple[int, int]:
    """Resident memory in KiB and what the interpreter has allocated in blocks, when the last transaction is gone."""
    run.quiet()
    until("the last transaction gone", lambda: not any(run.admin("/v1/state")["engine"]["transactions"].values()), seconds=60.0)
    return run.sidecar.memory_kb(), run.admin("/v1/state")["process"]["allocated_blocks"]


def _calls_leave_nothing_behind(run: Bench, *, calls: int, rate: int) -> None:
    """SIP without a message sent twice, RTP without a loss on any hop, ports and files as they were."""
    warm, files = run.admin("/v1/state"), run.sidecar.open_files()
    known = set(run.traces())
    with ExitStack() as stack:
        counts = [stack.enter_context(count) for count in hops(run)]
        assert run.run("caller", "agent", calls=calls, rate=rate) == (clean(calls), clean(calls))
        run.quiet()
        sent = calls * SPEECH_PACKETS
        assert [count.packets for count in counts] in ([], [sent] * 4), "caller to sidecar to agent, agent to sidecar to caller"
    media = [trace[-2]["media"] for call, trace in run.traces().items() if call not in known]
    assert len(media) == calls
    for side in ("caller", "agent"):
        assert {(item[side]["packets"], item[side]["lost"]) for item in media} == {(SPEECH_PACKETS, 0)}
    assert sum(item["tap_dropped"] + item["refused"] for item in media) == 0
    after = run.admin("/v1/state")
    assert after["rtp_port_pairs_free"] == warm["rtp_port_pairs_free"]
    assert (after["engine"]["calls"], after["engine"]["dialogs"]) == (0, 0)
    until("every file closed but those of the start", lambda: run.sidecar.open_files() <= files)  # a sync may still be under way
    assert run.sidecar.faults == []


def hops(run: Bench) -> list[RtpCount]:
    """Counters of RTP on the way from caller to agent and back, outside of the product; none where the kernel does not allow them."""
    ways = [(run.caller, run.host), (run.host, run.edge), (run.edge, run.host), (run.host, run.caller)]
    try:
        return [RtpCount(*way) for way in ways]
    except PermissionError:
        return []
