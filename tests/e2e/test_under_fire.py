"""What strangers throw at the ports of the running product, while a call goes on: it does, and nobody learns or gains anything."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import trustme

from tests.support.live_call import Addr, LiveCall, bound
from tests.support.product import Product, free_port, get_json, loopback, running, until

pytestmark = pytest.mark.peer

BURST = 40
USER, PASSWORD = "1000", "1234"
HANDSHAKE_S = 5.0
"""What a TLS handshake may take (`StreamTiming.setup`)."""
Note = Callable[[str, object], None]


@dataclass
class Field:
    """The product, and the call that goes on in it."""

    sidecar: Product
    control: Product
    call: LiveCall
    udp: Addr
    tcp: Addr
    tls: Addr
    admin: str
    api: str
    friend: str
    """An address that the sidecar trusts."""
    stalled: list[socket.socket]
    """TLS connections that were opened at the start, and say nothing."""
    stalled_since: float
    numbers: Iterator[int]

    def stands(self) -> None:
        """Nobody was cut off, nothing broke."""
        self.call.goes_on()
        self.call.answers(next(self.numbers))
        assert self.sidecar.process.poll() is None
        assert self.sidecar.faults == []

    def counts(self) -> dict[str, int]:
        """What the engine counted."""
        found: dict[str, int] = get_json(f"{self.admin}/v1/state")["engine"]["counts"]
        return found


def certificate(folder: Path) -> dict[str, str]:
    """Of an authority of our own."""
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    return {"certificate": str(folder / "own.pem")}


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    folder, host, friend, edge_host = tmp_path_factory.mktemp("fire"), loopback(), loopback(), loopback()
    edge, api_port = bound(edge_host), free_port(host, socket.SOCK_STREAM)
    api = f"http://{host}:{api_port}"
    settings = {
        "sip": {"listen": [f"{kind}://{host}:0" for kind in ("udp", "tcp", "tls")], "tls": certificate(folder)},
        "callers": {
            "trusted": [f"{friend}/32", f"{edge_host}/32"],
            "digest": {"realm": "trunk", "users": {USER: {"password": PASSWORD}}},
            "strangers": {"burst": BURST, "per_s": 1},
        },
        "routes": [{"name": "agent", "match": {"user": "agent"}, "target": f"sip:agent@{edge_host}:{edge.getsockname()[1]}"}],
        "control": {"url": api},
        "admin": {"listen": f"{host}:{free_port(host, socket.SOCK_STREAM)}"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 3},
    }
    with ExitStack() as stack:
        control = stack.enter_context(
            running("control", folder / "control", {"listen": f"{host}:{api_port}", "database": "sqlite+aiosqlite:///control.db"})
        )
        sidecar = stack.enter_context(running("sidecar", folder / "sidecar", settings))
        ready = sidecar.event("ready")
        places = [(each.partition("://")[2].rpartition(":")) for each in ready["sip"]]
        udp, tcp, tls = ((at[0], int(at[2])) for at in places)
        stalled = [stack.enter_context(connected(tls)) for _ in range(30)]
        for number, each in enumerate(stalled):
            each.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[: number % 12])
        call = stack.enter_context(LiveCall(udp, friend, edge))
        yield Field(sidecar, control, call, udp, tcp, tls, ready["admin"], api, friend, stalled, time.monotonic(), count(2))
    # The call ended as calls do, and nothing went wrong on the way.
    assert [(event["status"], event["reason"]) for event in sidecar.events if event["event"] == "call ended"][-1] == (200, "completed")
    assert sidecar.faults == control.faults == []


def connected(addr: Addr, source: str = "") -> socket.socket:
    """A TCP connection."""
    return socket.create_connection(addr, timeout=10, source_address=(source, 0) if source else None)


def options(number: int, kind: str = "UDP", lines: str = "", host: str = "h") -> bytes:
    """A request that a friend gets a 200 for."""
    return (
        f"OPTIONS sip:{host} SIP/2.0\r\nVia: SIP/2.0/{kind} {host};branch=z9hG4bKo{number};rport\r\nMax-Forwards: 70\r\n"
        f"From: <sip:a@{host}>;tag=1\r\nTo: <sip:x@{host}>\r\nCall-ID: o{number}@{host}\r\nCSeq: 1 OPTIONS\r\n{lines}"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def status(connection: socket.socket) -> int:
    """Of the next response; 0 when the connection was closed."""
    with contextlib.suppress(ConnectionResetError):
        data = connection.recv(65535)
        return int(data[8:11]) if data else 0
    return 0


# -- streams -------------------------------------------------------------------------------------------------------------------------------


def test_a_message_that_comes_octet_by_octet_is_answered_and_half_messages_hurt_nobody(field: Field) -> None:
    with ExitStack() as stack:
        for number in range(100):
            half = stack.enter_context(connected(field.tcp))
            half.sendall(options(number, "TCP")[: 5 * number])
        slow = stack.enter_context(connected(field.tcp, field.friend))
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in options(1, "TCP"):
            slow.sendall(bytes([octet]))
            time.sleep(0.001)
        assert status(slow) == 200
        field.stands()


def test_a_peer_that_never_reads_is_dropped(field: Field) -> None:
    before = field.sidecar.memory_kb()
    with connected(field.tcp, field.friend) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Answers repeat every Via: a few hundred of these are more than the kernel keeps for the peer, and than the sidecar does.
        with contextlib.suppress(OSError):
            for number in range(1000):
                deaf.sendall(options(number, "TCP", f"Via: SIP/2.0/TCP h;branch=z9hG4bKx;x={'x' * 20_000}\r\n"))
        until("the connection to be dropped", lambda: get_json(f"{field.admin}/v1/state")["transports"]["counts"].get("unread"))
    field.stands()
    assert field.sidecar.memory_kb() - before < 64_000


def test_long_heads_and_many_lines_are_refused_to_friends_and_ignored_from_strangers(field: Field) -> None:
    long_line, many = "X: " + "y" * 64_000 + "\r\n", "a: b\r\n" * 10_000
    for lines in (long_line, many):
        with connected(field.tcp, field.friend) as friend:
            friend.sendall(options(7, "TCP", lines))
            assert status(friend) == 413
            assert status(friend) == 0, "a stream that lost its shape is closed"
        with connected(field.tcp) as stranger:
            with contextlib.suppress(ConnectionError):
                stranger.sendall(options(7, "TCP", lines))
            assert status(stranger) == 0
    with bound(field.friend) as friend:
        for number, (lines, expected) in enumerate(((long_line, 200), (many, 400), ("X: \0\r\n", 400), ("X: a\rb\r\n", 400))):
            friend.sendto(options(20 + number, lines=lines), field.udp)
            friend.settimeout(10)
            assert int(friend.recv(65535)[8:11]) == expected
    field.stands()


def test_deep_mime_is_carried_or_refused_and_stops_nothing(field: Field) -> None:
    deep = "".join(f"--{n}\r\nContent-Type: multipart/mixed; boundary={n + 1}\r\n\r\n" for n in range(900))
    with connected(field.tcp, field.friend) as friend:
        head = (
            options(9, "TCP")
            .decode()
            .replace("OPTIONS", "INVITE")
            .replace("sip:h ", "sip:agent@h ")
            .removesuffix("Content-Length: 0\r\n\r\n")
        )
        contact = f"Contact: <sip:a@{field.friend}>\r\nContent-Type: multipart/mixed; boundary=0\r\nContent-Length: {len(deep)}\r\n\r\n"
        friend.sendall((head + contact + deep).encode())
        heard = b""
        while not re.search(rb"SIP/2.0 [2-6]", heard):
            heard += friend.recv(65535)
    field.stands()


# -- floods --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "noise"])
def test_a_flood_gets_little_back_and_costs_little(field: Field, record_property: Note, method: str) -> None:
    source, number = loopback(), 3000
    lines = "X-Room: " + "r" * 400 + "\r\n"
    sent = answers = received = 0
    cpu = _cpu_s(field.sidecar.process.pid)
    with bound(source) as flood:
        flood.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for each in range(number):
            data = b"\x01noise" * 80 if method == "noise" else options(each, lines=lines, host=source).replace(b"OPTIONS", method.encode())
            sent += flood.sendto(data, field.udp)
            if each % 100 == 99:
                time.sleep(0.005)
        field.stands()
        flood.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                answer = flood.recv(65535)
                received += len(answer)
                answers += 1
                assert b"\r\nServer:" not in answer
                assert b"\r\nUser-Agent:" not in answer
    cost = _cpu_s(field.sidecar.process.pid) - cpu
    record_property(
        "flood", f"{method}: {number} datagrams, {answers} answers, {received}/{sent} octets, {1e6 * cost / number:.0f} µs CPU each"
    )
    assert received <= sent
    assert answers <= BURST + 20
    assert field.counts()["over-rate"] > 0
    last = [event for event in field.sidecar.events if event["event"] == "request refused" and event["source"].startswith(source)]
    assert len(last) <= 2 * BURST + 40, "a flood fills no log"


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


HIDE = """
from sipvicious.libs import svhelper
request = svhelper.makeRequest
request.__defaults__ = tuple("Phone/1.0" if default == "friendly-scanner" else default for default in request.__defaults__)
"""


def vicious(tool: str, *arguments: str, hidden: bool) -> str:
    """What a tool of SIPVicious prints. `hidden`: it does not give its own name."""
    code = (HIDE if hidden else "") + f"from sipvicious.{tool} import main; main()"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_sipvicious_finds_no_user_no_password_and_no_name(field: Field, tmp_path: Path) -> None:
    """Under its own name, and hiding it. All tools at a time: they mostly wait for answers."""
    host, port = field.udp[0], str(field.udp[1])
    words = tmp_path / "passwords"
    words.write_text("0000\n1111\n1234\npassword\n")
    aimed = ("-p", port, "--maximumtime=3")
    with ThreadPoolExecutor() as pool:
        maps, wars, cracks = (
            {
                (hidden, *arguments): pool.submit(vicious, tool, *arguments, host, hidden=hidden)
                for hidden in (False, True)
                for arguments in each
            }
            for tool, each in (
                ("svmap", [("-p", port, "-m", method) for method in ("OPTIONS", "INVITE")]),
                ("svwar", [(*aimed, "-m", method, "-e", "995-1005", "--force") for method in ("REGISTER", "INVITE")]),
                ("svcrack", [(*aimed, "-u", USER, "-d", str(words))]),
            )
        )
    for (hidden, *_), found in maps.items():
        assert "trunkside" not in found.result().lower()
        assert hidden or "found nothing" in found.result()
    for found in wars.values():
        # The user that exists is not told from those that do not.
        assert "found nothing" in found.result(), found.result()
        assert not re.search(r"\|\s*1000\s*\|", found.result())
    for found in cracks.values():
        assert not re.search(rf"\|\s*{PASSWORD}\s*\|", found.result()), found.result()
    field.stands()


# -- media ---------------------------------------------------------------------------------------------------------------------------------


def test_media_from_a_third_address_reaches_nobody_and_gets_none(field: Field) -> None:
    forged = 0xDEAD0003
    rtp = struct.pack("!BBHII", 0x80, 0, 1, 160, forged) + b"\x00" * 160
    rtcp = struct.pack("!BBHI", 0x80, 203, 1, forged)
    ports = [media.remote for media in (field.call.caller, field.call.agent)]
    with bound(loopback()) as third, bound(field.call.caller.addr[0]) as neighbour, bound(field.call.agent.addr[0]) as edge_neighbour:
        for _ in range(100):
            for port in ports:
                assert port is not None
                # Also from another port of a party's own host: whoever shares its NAT, or the party after it moved without saying so.
                for source in (third, neighbour, edge_neighbour):
                    source.sendto(rtp, port)
                    source.sendto(rtcp, (port[0], port[1] + 1))
                    source.sendto(rtcp, port)
        field.stands()
        for source in (third, neighbour, edge_neighbour):
            source.setblocking(False)
            with pytest.raises(BlockingIOError):
                source.recv(2000)


# -- the API -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "coding"),
    [
        ("/api/v1/public/call?workspace_id=1&agent_remote_identifier=a", "gzip"),
        ("/api/v1/traces", "gzip"),
        ("/v1/ingest/facts", "gzip"),
        ("/v1/verify", "deflate"),
    ],
)
def test_a_small_body_that_would_be_a_large_one_is_refused(field: Field, path: str, coding: str) -> None:
    before = _peak_kb(field.control.process.pid)
    headers = {"Content-Type": "application/json", "Content-Encoding": coding, "Authorization": "Bearer x"}
    try:
        with urlopen(Request(field.api + path, data=bomb(coding), headers=headers), timeout=30) as response:
            answered = response.status
    except HTTPError as error:
        with error:
            answered = error.status
    assert 400 <= answered < 500
    # What is read until the limit of 10 MiB is passed, and room for it to grow; the whole would cost more than 100 MB.
    assert _peak_kb(field.control.process.pid) - before < 40_000
    field.stands()


@lru_cache
def bomb(coding: str) -> bytes:
    """100 KB that are 100 MB."""
    blanks = b"[" + b" " * (100 << 20)
    return gzip.compress(blanks, 1) if coding == "gzip" else zlib.compress(blanks, 1)


def _peak_kb(pid: int) -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


# -- at the end ----------------------------------------------------------------------------------------------------------------------------


def test_handshakes_that_stall_are_given_up(field: Field) -> None:
    for each in field.stalled:
        each.settimeout(max(0.1, field.stalled_since + HANDSHAKE_S + 10 - time.monotonic()))
        with contextlib.suppress(ConnectionResetError):
            while each.recv(100):
                pass  # an alert may say why
    assert field.call.invites[0][0].startswith("sip:agent@")
    field.stands()
