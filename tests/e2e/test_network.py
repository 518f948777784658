"""Hosts in network namespaces: a redirect in front of the agent's own port, an edge behind NAT, a link that is cut and mended, IPv6."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import netns
from tests.support.netns import Host
from tests.support.product import Product, running, until
from tests.support.sipp import SCENARIOS, SPEECH_PACKETS, Sipp

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif((reason := netns.why_not()) is not None, reason=str(reason)),
]

ROOT = Path(__file__).parents[2]
REDIRECT = ROOT / "configs" / "network" / "redirect.sh"
EVALUATOR, POD = "198.51.100.2", "198.51.100.1"
POD_OUT, NAT_OUT = "203.0.113.1", "203.0.113.9"
NAT_IN, EDGE = "10.77.0.1", "10.77.0.2"
EVALUATOR6, POD6 = "2001:db8:1::2", "2001:db8:1::1"
CALLS = 4
CUT_S = 20.0


@dataclass
class Net:
    """evaluator — pod — nat — edge. The edge is behind the NAT, which knows its SIP port and nothing else."""

    evaluator: Host
    pod: Host
    nat: Host
    edge: Host
    evaluator_interface: str


@pytest.fixture
def net() -> Iterator[Net]:
    with ExitStack() as stack:
        hosts = []
        for name in ("ev", "pod", "nat", "edge"):
            hosts.append(Host(name))
            stack.callback(hosts[-1].close)
        evaluator, pod, nat, edge = hosts
        interface, _ = netns.link(evaluator, f"{EVALUATOR}/24", pod, f"{POD}/24")
        _, outside = netns.link(pod, f"{POD_OUT}/24", nat, f"{NAT_OUT}/24")
        netns.link(nat, f"{NAT_IN}/24", edge, f"{EDGE}/24")
        for host, its_interface, address in ((evaluator, interface, EVALUATOR6), (pod, _other(interface), POD6)):
            host.do("ip", "address", "add", f"{address}/64", "dev", its_interface, "nodad")
        edge.do("ip", "route", "add", "default", "via", NAT_IN)
        nat.do("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for rule in (
            f"PREROUTING -i {outside} -p udp --dport 5060 -j DNAT --to-destination {EDGE}:5060",
            f"POSTROUTING -o {outside} -j MASQUERADE --random",
        ):
            nat.do("iptables", "-t", "nat", "-A", *rule.split())
        yield Net(evaluator, pod, nat, edge, interface)


def _other(interface: str) -> str:
    return f"{interface[:-1]}b"


def settings(target: str, **sip: Any) -> dict[str, Any]:
    return {
        "sip": sip,
        "callers": {"trusted": ["127.0.0.0/8", f"{EVALUATOR}/32", f"{EVALUATOR6}/128"]},
        "routes": [{"name": "agent", "target": target}],
        "media": {"ports": [30000, 30999]},
        "control": {"url": "http://127.0.0.1:9"},
        "spool": {"path": "spool"},
        "admin": {"listen": "127.0.0.1:9090"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
    }


@pytest.fixture
def scenarios(tmp_path: Path) -> Callable[..., Path]:
    """The scenarios of tests/e2e/sipp with texts replaced."""

    def replaced(*pairs: tuple[str, str]) -> Path:
        folder = tmp_path / "scenarios"
        folder.mkdir(exist_ok=True)
        for name in ("caller", "caller-hung-up-on", "agent"):
            text = (SCENARIOS / f"{name}.xml").read_text(encoding="utf-8")
            for old, new in pairs:
                assert old in text
                text = text.replace(old, new)
            (folder / f"{name}.xml").write_text(text)
        return folder

    return replaced


def sipp(stack: ExitStack, role: str, folder: Path, host: Host, address: str, port: int, **more: Any) -> Sipp:
    started = Sipp(role, folder, address, port, prefix=host.prefix, **{"calls": CALLS, **more})
    stack.callback(started.stop)
    return started


def call(
    stack: ExitStack,
    folder: Path,
    net: Net,
    target: str,
    source: str = EVALUATOR,
    hold_ms: int = 2000,
    scenario: str = "caller",
    more: Sequence[str] = (),
    **given: Any,
) -> Sipp:
    options = ["-r", "5", "-s", "agent", "-d", str(hold_ms), *more]
    return sipp(stack, scenario, folder, net.evaluator, source, 5060, target=target, options=options, **given)


def good(party: Sipp, calls: int = CALLS, seconds: float = 30) -> None:
    figures = party.wait(seconds)
    assert (figures.successful, figures.failed, figures.unexpected) == (calls, 0, 0), (figures, party.errors())


def traces(folder: Path) -> list[list[dict[str, Any]]]:
    """The facts of every call, from the spool."""
    return [[json.loads(text) for text in file.read_text().splitlines()] for file in (folder / "spool").glob("*.jsonl")]


def described(folder: Path, leg: str, direction: str, start: str, calls: int) -> list[str]:
    """The texts of the messages on one leg that begin with `start` and carry a description, at least one a call."""
    found = [
        fact["text"]
        for trace in traces(folder)
        for fact in trace
        if fact["kind"] == "sip_message" and (fact["leg"], fact["direction"]) == (leg, direction)
    ]
    chosen = [text for text in found if text.startswith(start) and "m=audio" in text]
    assert len(chosen) >= calls, found
    return chosen


def ended(folder: Path, sidecar: Product, calls: int) -> list[dict[str, Any]]:
    """The final figures of every call, once they are written."""
    until("every call's figures", lambda: len([1 for trace in traces(folder) if any("media" in fact for fact in trace)]) == calls)
    assert sidecar.faults == []
    return [next(fact["media"] for fact in trace if "media" in fact) for trace in traces(folder)]


@pytest.mark.parametrize("tool", ["nftables", "iptables"])
def test_a_redirect_puts_the_sidecar_before_an_agent_that_changes_nothing(net: Net, tmp_path: Path, tool: str) -> None:
    net.evaluator.count_udp("rtp", f"ip saddr {POD} udp sport 30000-30999")
    with ExitStack() as stack:
        agent = sipp(stack, "agent", tmp_path, net.pod, POD, 5060, calls=2 * CALLS)
        good(call(stack, tmp_path / "before", net, f"{POD}:5060", hold_ms=100))
        assert net.evaluator.counted("rtp") == 0, "the sidecar is not there yet"

        config = settings(f"sip:agent@{POD}:5060", listen=["udp://0.0.0.0:15060"], advertise=POD, advertise_port=5060)
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", config, prefix=net.pod.prefix))
        redirect(net.pod, tool)
        good(call(stack, tmp_path / "after", net, f"{POD}:5060"))
        good(agent, 2 * CALLS)

        media = ended(tmp_path / "sidecar", sidecar, CALLS)
        for side in ("caller", "agent"):
            assert [(item[side]["packets"], item[side]["lost"]) for item in media] == [(SPEECH_PACKETS, 0)] * CALLS
        assert net.evaluator.counted("rtp") >= CALLS * SPEECH_PACKETS
    answers = described(tmp_path / "sidecar", "A", "out", "SIP/2.0 200", CALLS)
    assert all(f"@{POD}:5060>" in text and f"c=IN IP4 {POD}" in text and "15060" not in text for text in answers), "the agent's own port"
    invites = described(tmp_path / "sidecar", "B", "out", "INVITE ", CALLS)
    assert all(f"{POD}:15060>" in text for text in invites), "the agent's BYE would reach the agent itself"


def redirect(host: Host, tool: str) -> None:
    """As shipped, and as the guide has it for iptables."""
    if tool == "nftables":
        for _ in range(2):  # a second time replaces the first
            host.do("/bin/sh", str(REDIRECT), env={"AGENT_PORT": "5060", "SIDECAR_PORT": "15060"})
        assert host.do("nft", "list", "table", "inet", "trunkside").count("redirect to") == 1
        return
    guide = (ROOT / "docs" / "guides" / "network.md").read_text(encoding="utf-8")
    rules = [line.split() for line in guide.splitlines() if line.startswith("iptables -t nat")]
    assert len(rules) == 2
    for rule in rules:
        host.do(*rule)


def test_a_redirect_takes_tcp_too_where_it_is_told_so(net: Net, tmp_path: Path) -> None:
    with ExitStack() as stack:
        config = settings(
            f"sip:agent@{POD}:5060", listen=["udp://0.0.0.0:15060", "tcp://0.0.0.0:15060"], advertise=POD, advertise_port=5060
        )
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", config, prefix=net.pod.prefix))
        net.pod.do("/bin/sh", str(REDIRECT), env={"AGENT_PORT": "5060", "SIDECAR_PORT": "15060", "PROTOCOLS": "udp tcp"})
        agent = sipp(stack, "agent", tmp_path, net.pod, POD, 5060, calls=2)
        for transport in ("u1", "t1"):
            good(call(stack, tmp_path / transport, net, f"{POD}:5060", hold_ms=100, calls=1, more=["-t", transport]), 1)
        good(agent, 2)
        assert len(ended(tmp_path / "sidecar", sidecar, 2)) == 2


def test_a_redirect_that_makes_no_sense_is_refused() -> None:
    for env, says in (({"AGENT_PORT": "sip"}, "'sip' is no port"), ({"AGENT_PORT": "5060", "PROTOCOLS": "sctp"}, "'sctp' is neither")):
        done = subprocess.run(["/bin/sh", str(REDIRECT)], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, says in done.stderr) == (2, True)


def test_an_edge_behind_nat_that_knows_nothing_of_it_behind_a_redirected_port(net: Net, tmp_path: Path) -> None:
    net.edge.count_udp("rtp", f"ip saddr {POD_OUT} udp sport 30000-30999")
    net.evaluator.count_udp("rtp", f"ip saddr {POD} udp sport 30000-30999")
    config = settings(
        f"sip:agent@{NAT_OUT}:5060",
        listen=["udp://0.0.0.0:15060"],
        advertise=POD,
        advertise_port=5060,
        inside={"networks": ["203.0.113.0/24"], "advertise": POD_OUT},
    )
    with ExitStack() as stack:
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", config, prefix=net.pod.prefix))
        redirect(net.pod, "iptables")
        agent = sipp(stack, "agent", tmp_path, net.edge, EDGE, 5060)
        good(call(stack, tmp_path, net, f"{POD}:5060"))
        good(agent)
        media = ended(tmp_path / "sidecar", sidecar, CALLS)
        for side in ("caller", "agent"):
            assert [(item[side]["packets"], item[side]["lost"]) for item in media] == [(SPEECH_PACKETS, 0)] * CALLS
        # The edge's first packet shows where it is; until then the caller's have nowhere to go.
        assert net.edge.counted("rtp") >= 0.9 * CALLS * SPEECH_PACKETS
        assert net.evaluator.counted("rtp") >= CALLS * SPEECH_PACKETS
    folder = tmp_path / "sidecar"
    assert all(f"c=IN IP4 {EDGE}" in text for text in described(folder, "B", "in", "SIP/2.0 200", CALLS)), "it knows its public address"
    for text in described(folder, "B", "out", "INVITE ", CALLS):
        assert f"{POD_OUT}:5060>" in text
        assert f"c=IN IP4 {POD_OUT}" in text
    for text in described(folder, "A", "out", "SIP/2.0 200", CALLS):
        assert f"{POD}:5060>" in text
        assert f"c=IN IP4 {POD}" in text
        # The o= line names the description's author, and is nobody's to send to.
        assert not [line for line in text.splitlines() if (EDGE in line or NAT_OUT in line) and not line.startswith("o=")]


def test_a_call_outlives_a_link_that_is_cut_for_twenty_seconds(net: Net, tmp_path: Path, scenarios: Callable[..., Path]) -> None:
    endless = scenarios(("speech.ulaw,1,0", "speech.ulaw,-1,0"))
    net.evaluator.count_udp("rtp", f"ip saddr {POD} udp sport 30000-30999")
    config = settings(f"sip:agent@{POD}:5060", listen=["udp://0.0.0.0:15060"], advertise=POD, advertise_port=5060)
    with ExitStack() as stack:
        agent = sipp(stack, "agent", tmp_path, net.pod, POD, 5060, calls=1, file=endless / "agent.xml")
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", config, prefix=net.pod.prefix))
        redirect(net.pod, "nftables")
        caller = call(stack, tmp_path, net, f"{POD}:5060", calls=1, file=endless / "caller-hung-up-on.xml", scenario="caller-hung-up-on")
        until("media at the evaluator", lambda: net.evaluator.counted("rtp") > 50)
        with netns.cut((net.evaluator, net.evaluator_interface), (net.pod, _other(net.evaluator_interface))):
            begun = time.monotonic()
            at_cut = until("silence at the evaluator", lambda: quiet(net.evaluator))
            time.sleep(CUT_S - (time.monotonic() - begun))  # the cut's own length, not a wait for something
            assert net.evaluator.counted("rtp") == at_cut
            (live,) = netns.json_of(net.pod, "http://127.0.0.1:9090/v1/calls")["calls"]
            assert live["answered_at"], "the sidecar gave the call up"
        until("media at the evaluator again", lambda: net.evaluator.counted("rtp") > at_cut + 50)
        assert sidecar.stop() == 0
        good(caller, 1)
        good(agent, 1)
        (media,) = ended(tmp_path / "sidecar", sidecar, 1)
        gone = CUT_S / 0.02
        assert media["caller"]["lost"] == pytest.approx(gone, abs=100), "what the cut swallowed is the caller's loss"
        assert media["agent"]["lost"] == 0


def quiet(host: Host) -> int | None:
    """The count, when it stands still."""
    before = host.counted("rtp")
    time.sleep(0.1)
    return before if host.counted("rtp") == before else None


def test_over_ipv6(net: Net, tmp_path: Path) -> None:
    net.evaluator.count_udp("rtp", f"ip6 saddr {POD6} udp sport 30000-30999")
    config = settings(f"sip:agent@[{POD6}]:5060", listen=["udp://[::]:15060"], advertise=POD6, advertise_port=5060)
    with ExitStack() as stack:
        agent = sipp(stack, "agent", tmp_path, net.pod, POD6, 5060)
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", config, prefix=net.pod.prefix))
        redirect(net.pod, "nftables")
        good(call(stack, tmp_path, net, f"[{POD6}]:5060", source=EVALUATOR6))
        good(agent)
        media = ended(tmp_path / "sidecar", sidecar, CALLS)
        for side in ("caller", "agent"):
            assert [(item[side]["packets"], item[side]["lost"]) for item in media] == [(SPEECH_PACKETS, 0)] * CALLS
        assert net.evaluator.counted("rtp") >= CALLS * SPEECH_PACKETS
    for text in described(tmp_path / "sidecar", "A", "out", "SIP/2.0 200", CALLS):
        assert f"[{POD6}]:5060>" in text
        assert f"c=IN IP6 {POD6}" in text


def test_speech_and_its_turns_cross_a_redirect_and_a_nat(net: Net, tmp_path: Path) -> None:
    """The lab's agent behind the NAT, its evaluator outside, the sidecar in the pod: what was said is what is measured."""
    config = settings(
        f"sip:agent@{NAT_OUT}:5060",
        listen=["udp://0.0.0.0:15060"],
        advertise=POD,
        advertise_port=5060,
        inside={"networks": ["203.0.113.0/24"], "advertise": POD_OUT},
    )
    party = [sys.executable, "-m", "tests.support.lab_party"]
    with ExitStack() as stack:
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", config, prefix=net.pod.prefix))
        redirect(net.pod, "nftables")
        agent = subprocess.Popen([*net.edge.prefix, *party, "agent", EDGE, "5060"], cwd=ROOT, stdout=subprocess.PIPE)
        stack.callback(agent.wait)
        stack.callback(agent.kill)
        assert agent.stdout is not None
        stack.callback(agent.stdout.close)
        assert agent.stdout.readline() == b"ready\n"
        done = subprocess.run(
            [*net.evaluator.prefix, *party, "evaluator", EVALUATOR, f"sip:agent@{POD}:5060"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert len(json.loads(done.stdout)["heard"]) == 2, "the greeting and one answer"
        ended(tmp_path / "sidecar", sidecar, 1)
    (trace,) = traces(tmp_path / "sidecar")
    turns = next(fact["turns"] for fact in reversed(trace) if fact.get("turns"))
    assert [turn["response_latency_ms"] for turn in turns if turn["kind"] == "response"] == pytest.approx([600], abs=60)
