"""A caller and an agent in one process, for what SIPp cannot do: time set-ups in nanoseconds, and hold calls for their media.

`python -m tests.bench.ua PORT AGENT_PORT RATE CALLS ROUTED` places calls one after the other and prints their set-up delays as JSON.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from dataclasses import dataclass

HOST = "127.0.0.1"
_VIA = re.compile(rb"^(?:Via|v)\s*:\s*(.+?)\r$", re.MULTILINE | re.IGNORECASE)
_ROUTE = re.compile(rb"^Record-Route\s*:\s*(.+?)\r$", re.MULTILINE | re.IGNORECASE)
_FROM = re.compile(rb"^(?:From|f)\s*:\s*(.+?)\r$", re.MULTILINE | re.IGNORECASE)
_TO = re.compile(rb"^(?:To|t)\s*:\s*(.+?)\r$", re.MULTILINE | re.IGNORECASE)
_CALL_ID = re.compile(rb"^(?:Call-ID|i)\s*:\s*(.+?)\r$", re.MULTILINE | re.IGNORECASE)
_CSEQ = re.compile(rb"^CSeq\s*:\s*(\d+)\s+(\w+)", re.MULTILINE | re.IGNORECASE)
_CONTACT = re.compile(rb"^(?:Contact|m)\s*:[^\r]*?<?(sip:[^>;\s]+)", re.MULTILINE | re.IGNORECASE)
_AUDIO = re.compile(rb"^m=audio (\d+)", re.MULTILINE)


def sdp(port: int) -> bytes:
    """An offer or answer of G.711 µ-law at `port`."""
    return (
        f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        "a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
    ).encode()


def _first(pattern: re.Pattern[bytes], data: bytes) -> bytes:
    found = pattern.search(data)
    return found.group(1) if found else b""


def _message(start: bytes, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> bytes:
    if body:
        headers = [*headers, (b"Content-Type", b"application/sdp")]
    lines = [start, *(name + b": " + value for name, value in headers), b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass(slots=True)
class Held:
    """One call, as its caller knows it."""

    invite: bytes
    invited_ns: int
    answer: bytes = b""
    answered_ns: int = 0
    caller_sends_to: int = 0
    """The system's media port towards the caller, and …"""
    agent_sends_to: int = 0
    """… towards the agent."""
    over: bool = False


class Parties:
    """A caller that dials through a system at `port`, and the agent behind it. Nothing is sent again by itself."""

    def __init__(self, port: int, agent_port: int, *, routed: bool, media: tuple[int, int] = (40000, 40002)) -> None:
        """`media` are the ports that both describe in SDP."""
        self._through = (HOST, port)
        self._routed = routed
        self._media = media
        self._caller = self._bound(0)
        self._agent = self._bound(agent_port)
        self._own = self._caller.getsockname()[1]
        self._run = f"{time.time_ns():x}"
        self.calls: dict[bytes, Held] = {}

    def _bound(self, port: int) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        bound.bind((HOST, port))
        bound.setblocking(False)
        return bound

    def invite(self) -> bytes:
        """Send one INVITE; returns the key of the call."""
        call = f"{self._run}-{len(self.calls)}@{HOST}".encode()
        uri = b"sip:agent@%s:%d" % (HOST.encode(), self._through[1])
        headers = [*self._ours(call, b"INVITE"), (b"To", b"<" + uri + b">"), (b"Call-ID", call), (b"CSeq", b"1 INVITE"), self._contact()]
        data = _message(b"INVITE " + uri + b" SIP/2.0", headers, sdp(self._media[0]))
        self.calls[call] = Held(data, time.perf_counter_ns())
        self._caller.sendto(data, self._through)
        return call

    def again(self) -> None:
        """Send the INVITE of every call that is not answered once more (RFC 3261 17.1.1.2 would do so by timer A)."""
        for held in self.calls.values():
            if not held.answered_ns:
                self._caller.sendto(held.invite, self._through)

    def hang_up(self, call: bytes) -> None:
        """Send the BYE of an answered call."""
        self._in_dialog(b"BYE", 2, call)

    def serve(self, seconds: float) -> None:
        """Deal with what comes for this long; back at once when nothing is left to read and `seconds` is 0."""
        until = time.perf_counter() + seconds
        while True:
            left = until - time.perf_counter()
            ready = select.select([self._agent, self._caller], [], [], max(0.0, left))[0]
            for readable in ready:
                self._receive(readable)
            if left <= 0:
                return

    def close(self) -> None:
        """Give the ports back."""
        self._caller.close()
        self._agent.close()

    def _receive(self, readable: socket.socket) -> None:
        try:
            data, source = readable.recvfrom(65535)
        except (BlockingIOError, ConnectionRefusedError):
            return
        now = time.perf_counter_ns()
        if readable is self._agent:
            self._on_request(data, source)
        elif data.startswith(b"SIP/2.0 "):
            self._on_response(data, now)

    def _on_request(self, data: bytes, source: tuple[str, int]) -> None:
        method = data.split(b" ", 1)[0]
        if method == b"ACK" or data.startswith(b"SIP/2.0"):
            return
        to = _first(_TO, data)
        if b";tag=" not in to:
            to += b";tag=agent" + _first(_CALL_ID, data)[-6:].replace(b"@", b"")
        same = [(b"Via", via) for via in _VIA.findall(data)] + [(b"Record-Route", route) for route in _ROUTE.findall(data)]
        cseq = _CSEQ.search(data)
        assert cseq is not None
        same += [(b"From", _first(_FROM, data)), (b"To", to), (b"Call-ID", _first(_CALL_ID, data)), (b"CSeq", b" ".join(cseq.groups()))]
        contact = (b"Contact", b"<sip:agent@%s:%d>" % (HOST.encode(), self._agent.getsockname()[1]))
        if method != b"INVITE":
            self._agent.sendto(_message(b"SIP/2.0 200 OK", same), source)
            return
        known = next((held for key, held in self.calls.items() if key in data), None)
        if known is not None:
            known.agent_sends_to = int(_first(_AUDIO, data) or 0)
        self._agent.sendto(_message(b"SIP/2.0 180 Ringing", [*same, contact]), source)
        self._agent.sendto(_message(b"SIP/2.0 200 OK", [*same, contact], sdp(self._media[1])), source)

    def _on_response(self, data: bytes, now: int) -> None:
        call = _first(_CALL_ID, data)
        held, cseq = self.calls.get(call), _CSEQ.search(data)
        if held is None or cseq is None or int(data[8:11]) < 200:
            return
        if cseq.group(2) == b"BYE":
            held.over = True
            return
        if not held.answered_ns and data[8:11] == b"200":
            held.answered_ns, held.answer = now, data
            held.caller_sends_to = int(_first(_AUDIO, data) or 0)
        self._in_dialog(b"ACK", 1, call)

    def _in_dialog(self, method: bytes, number: int, call: bytes) -> None:
        answer = self.calls[call].answer
        routes = [(b"Route", route.strip()) for value in reversed(_ROUTE.findall(answer)) for route in reversed(value.split(b","))]
        uri = _first(_CONTACT, answer) if self._routed else b"sip:agent@%s:%d" % (HOST.encode(), self._through[1])
        headers = [
            *self._ours(call, method),
            *routes,
            (b"To", _first(_TO, answer)),
            (b"Call-ID", call),
            (b"CSeq", b"%d %s" % (number, method)),
        ]
        self._caller.sendto(_message(method + b" " + uri + b" SIP/2.0", headers), self._through)

    def _ours(self, call: bytes, method: bytes) -> list[tuple[bytes, bytes]]:
        tag = call.split(b"@")[0]
        return [
            (b"Via", b"SIP/2.0/UDP %s:%d;branch=z9hG4bK%s%s" % (HOST.encode(), self._own, method, tag)),
            (b"Max-Forwards", b"70"),
            (b"From", b"<sip:evaluator@%s:%d>;tag=%s" % (HOST.encode(), self._own, tag)),
        ]

    def _contact(self) -> tuple[bytes, bytes]:
        return b"Contact", b"<sip:evaluator@%s:%d>" % (HOST.encode(), self._own)


def hold(parties: Parties, calls: int, rate: float = 50.0) -> list[Held]:
    """Bring up `calls` calls, and return them once all are answered. Raises RuntimeError when some are not in time."""
    for _ in range(calls):
        parties.invite()
        parties.serve(1 / rate)
    for _ in range(8):
        parties.serve(0.5)
        if all(held.answered_ns for held in parties.calls.values()):
            break
        parties.again()
    held = list(parties.calls.values())
    answered = sum(bool(each.answered_ns) for each in held)
    if answered < len(held):
        raise RuntimeError(f"{answered} of {len(held)} calls were answered")
    return held


def release(parties: Parties, rate: float = 100.0) -> None:
    """Hang up every call that is still on."""
    for call, held in parties.calls.items():
        if held.answered_ns and not held.over:
            parties.hang_up(call)
            parties.serve(1 / rate)
    parties.serve(0.3)


def main(port: int, agent_port: int, rate: float, calls: int, routed: bool) -> None:
    """Place calls at an even rate, hang each up as soon as it is answered, and print what was seen."""
    parties = Parties(port, agent_port, routed=routed)
    begin = time.perf_counter()
    for n in range(calls):
        while (wait := begin + n / rate - time.perf_counter()) > 0:
            parties.serve(wait)
        call = parties.invite()
        held, give_up = parties.calls[call], time.perf_counter() + 1.0
        while not held.answered_ns and time.perf_counter() < give_up:
            parties.serve(0.0002)
        if held.answered_ns:
            parties.hang_up(call)
    parties.serve(0.2)
    delays = sorted((held.answered_ns - held.invited_ns) / 1000 for held in parties.calls.values() if held.answered_ns)
    parties.close()
    sys.stdout.write(json.dumps({"calls": calls, "delays_us": delays, "over": sum(held.over for held in parties.calls.values())}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1")
