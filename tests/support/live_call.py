"""A call that goes on: a caller and an edge on plain sockets, media both ways in threads, every packet that arrives looked at.

Nothing of the product is used, so what stands still, or is forged, shows.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

Addr = tuple[str, int]
FRAME_S = 0.02
SDP = "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"


def bound(host: str, port: int = 0) -> socket.socket:
    """A UDP socket."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, port))
    made.settimeout(0.2)
    return made


def header(message: str, name: str) -> str:
    """A header's value."""
    return re.search(rf"^{name}:\s*(.*?)\r$", message, re.MULTILINE | re.IGNORECASE)[1]  # type: ignore[index]


def media_of(message: str) -> Addr:
    """Where a description wants media."""
    return re.search(r"c=IN IP4 (\S+)", message)[1], int(re.search(r"m=audio (\d+)", message)[1])  # type: ignore[index]


class Media:
    """One party's RTP: sends a frame every 20 ms under its own SSRC, and counts what comes by SSRC."""

    def __init__(self, host: str, ssrc: int) -> None:
        self.socket = bound(host)
        self.addr: Addr = self.socket.getsockname()
        self.rtcp = bound(host, self.addr[1] + 1)
        self.ssrc = ssrc
        self.heard: Counter[int] = Counter()
        self.heard_rtcp: Counter[int] = Counter()
        self.remote: Addr | None = None
        self.over = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._send, self._hear, self._hear_rtcp)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        number, due = 0, time.monotonic()
        while not self.over.is_set():
            if self.remote is not None:
                packet = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, 160 * number & 0xFFFFFFFF, self.ssrc) + b"\x55" * 160
                self.socket.sendto(packet, self.remote)
                if number % 25 == 0:
                    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, self.ssrc, 0, 0, 160 * number & 0xFFFFFFFF, number, 160 * number)
                    self.rtcp.sendto(report, (self.remote[0], self.remote[1] + 1))
                number += 1
            due += FRAME_S
            time.sleep(max(0.0, due - time.monotonic()))

    def _hear(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                data = self.socket.recv(4096)
                self.heard[struct.unpack("!I", data[8:12])[0]] += 1

    def _hear_rtcp(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                data = self.rtcp.recv(4096)
                self.heard_rtcp[struct.unpack("!I", data[4:8])[0]] += 1

    def close(self) -> None:
        """End it."""
        self.over.set()
        for thread in self._threads:
            thread.join(2.0)
        self.socket.close()
        self.rtcp.close()


class LiveCall:
    """Both parties of a call through the sidecar at `sip`. The edge answers the first INVITE, and refuses every other one with 486."""

    def __init__(self, sip: Addr, caller: str, edge: socket.socket, call_id: str = "goes-on") -> None:
        self.sip = sip
        self.call_id = call_id
        self.caller = Media(caller, 0xAAAA0001)
        self.agent = Media(edge.getsockname()[0], 0xBBBB0002)
        self._edge = edge
        self._signalling = bound(caller)
        self._over = threading.Event()
        self.invites: list[tuple[str, Addr]] = []
        """Request-URIs of every INVITE that the edge got, and from where."""
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()
        self._tags = ""
        self.contact = ""

    # -- the caller --------------------------------------------------------------------------------------------------------------------

    def request(self, method: str, number: int, uri: str, to: str, body: str = "", branch: str = "") -> str:
        """A request of the caller's."""
        host, port = self._signalling.getsockname()
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{branch or f'{method}{number}'};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:caller@{host}>;tag=c1\r\nTo: {to}\r\nCall-ID: {self.call_id}\r\nCSeq: {number} {method}\r\n"
            f"Contact: <sip:caller@{host}:{port}>\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def __enter__(self) -> Self:
        """Until media flows both ways."""
        uri = f"sip:agent@{self.sip[0]}:{self.sip[1]}"
        answer = self.ask(self.request("INVITE", 1, uri, f"<{uri}>", SDP.format(*self.caller.addr)))
        assert answer.startswith("SIP/2.0 200"), answer
        self._tags, self.contact = header(answer, "To"), header(answer, "Contact").strip("<>")
        self._signalling.sendto(self.request("ACK", 1, self.contact, self._tags, branch="ack").encode(), self.sip)
        self.caller.remote = media_of(answer)
        self.goes_on()
        return self

    def ask(self, request: str) -> str:
        """Send, and return the final response."""
        self._signalling.sendto(request.encode(), self.sip)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                answer = self._signalling.recv(65535).decode()
                if not answer.startswith("SIP/2.0 1") and header(answer, "CSeq") == header(request, "CSeq"):
                    return answer
        raise AssertionError(f"no answer to {request[:60]!r}")

    def goes_on(self, seconds: float = 0.4) -> None:
        """Each party hears the other, and nobody else, neither in RTP nor in RTCP; and new requests are answered."""
        before = self.caller.heard[self.agent.ssrc], self.agent.heard[self.caller.ssrc]
        deadline = time.monotonic() + 10
        wanted = round(seconds / FRAME_S)
        while time.monotonic() < deadline:
            time.sleep(FRAME_S)
            now = self.caller.heard[self.agent.ssrc], self.agent.heard[self.caller.ssrc]
            if min(now[0] - before[0], now[1] - before[1]) >= wanted:
                break
        else:
            raise AssertionError(f"media stands still: {before} → {now}")
        assert set(self.caller.heard) | set(self.caller.heard_rtcp) <= {self.agent.ssrc}, (self.caller.heard, self.caller.heard_rtcp)
        assert set(self.agent.heard) | set(self.agent.heard_rtcp) <= {self.caller.ssrc}, (self.agent.heard, self.agent.heard_rtcp)

    def answers(self, number: int) -> None:
        """The sidecar answers within the call and outside of it: `number` rises from one time to the next."""
        assert self.ask(self.request("INFO", number, self.contact, self._tags)).startswith("SIP/2.0 200")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                assert self.ask(self.request("BYE", 10_000, self.contact, self._tags)).startswith("SIP/2.0 200")
        finally:
            self._over.set()
            self._serving.join(2.0)
            for media in (self.caller, self.agent):
                media.close()
            self._signalling.close()
            self._edge.close()

    # -- the edge ----------------------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                data, source = self._edge.recvfrom(65535)
                self._answer(data.decode("utf-8", "replace"), source)

    def _answer(self, request: str, source: Addr) -> None:
        method = request.split(" ", 1)[0]
        if method in ("ACK", "SIP/2.0") or not request.strip():
            return
        status, body = "200 OK", ""
        if method == "INVITE":
            self.invites.append((request.split(" ", 2)[1], source))
            if header(request, "Call-ID") == self.call_id:
                self.agent.remote, body = media_of(request), SDP.format(*self.agent.addr)
            else:
                status = "486 Busy Here"
        via = "".join(f"Via: {value}\r\n" for value in re.findall(r"^Via: (.*?)\r$", request, re.MULTILINE))
        to = header(request, "To")
        host, port = self._edge.getsockname()
        kind = "Content-Type: application/sdp\r\n" if body else ""
        answer = (
            f"SIP/2.0 {status}\r\n{via}From: {header(request, 'From')}\r\nTo: {to}{'' if ';tag=' in to else ';tag=e1'}\r\n"
            f"Call-ID: {header(request, 'Call-ID')}\r\nCSeq: {header(request, 'CSeq')}\r\nContact: <sip:agent@{host}:{port}>\r\n"
            f"{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self._edge.sendto(answer.encode(), source)
