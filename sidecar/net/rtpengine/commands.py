"""What is said to rtpengine and how its answers read. Nothing here does I/O.

It is given a description of its own rather than the party's: where each m-line's media goes and its payload types, and nothing that would
make it take part (keys, ICE, ptime, directions). So it relays what comes, as the embedded relay does, and the lines that the parties
exchange are edited by the same rules with either; of its answer only addresses and ports are used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.b2bua.effects import Leg, other
from sidecar.b2bua.legs import Placed
from sidecar.clocks import Addr
from sidecar.sip import sdp
from sidecar.sip.sdp import MediaLine

Command = dict[str, Any]
_NULL = "0.0.0.0"  # noqa: S104 - "send nothing" in a description


class Refused(Exception):
    """rtpengine's answer to a command is no success. The text is its reason."""

    def __init__(self, detail: str, *, busy: bool = False, unknown: bool = False) -> None:
        """`busy`: it takes no further call at present. `unknown`: it does not know the call."""
        super().__init__(detail)
        self.busy = busy
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Interfaces:
    """Names of rtpengine's interfaces towards each leg's party, and towards us for the copies; None: its default one."""

    caller: str | None = None
    agent: str | None = None
    copy: str | None = None

    def direction(self, leg: Leg) -> list[str]:
        """From the party of `leg` to the other one; empty where it is left to rtpengine."""
        if self.caller is None or self.agent is None:
            return []
        return [self.caller, self.agent] if leg == "A" else [self.agent, self.caller]


def describe(lines: Sequence[MediaLine], signalling_host: str) -> bytes:
    """The description of a party's media that rtpengine is given. A host that is a name stands for where the party's messages come from."""
    text = ["v=0", f"o=- 0 0 {_connection(signalling_host)}", "s=-", "t=0 0"]
    for line in lines:
        host = _NULL if line.null_address or not line.address else line.address if _literal(line.address) else signalling_host
        text.append(f"m={line.kind} {line.port} {_unsealed(line.proto)} {' '.join(line.formats)}".rstrip())
        text.append(f"c={_connection(host)}")
        if line.rtcp is not None and line.rtcp[1] not in (line.port, line.port + 1):
            text.append(f"a=rtcp:{line.rtcp[1]}")
        for number, codec in line.rtpmap.items():
            channels = f"/{codec.channels}" if codec.channels > 1 else ""
            text.append(f"a=rtpmap:{number} {codec.name}/{codec.clock_rate}{channels}")
    return "".join(f"{one}\r\n" for one in text).encode("utf-8", "surrogateescape")


def _unsealed(proto: str) -> str:
    """SRTP crosses as it is: the engine is not to look for keys, which it is not given."""
    bare = proto.upper().removeprefix("UDP/TLS/")
    return bare.replace("SAVP", "AVP") if bare.startswith("RTP/") else proto


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _connection(host: str) -> str:
    return f"IN {'IP6' if ':' in host else 'IP4'} {host}"


def exchange(
    call: str, leg: Leg, offerer: Leg, description: bytes, *, anew: bool, interfaces: Interfaces, ipv6: bool | None = None
) -> Command:
    """Offer or answer: what the party of `leg` says, in an exchange that the party of `offerer` began.

    `anew`: rtpengine has not heard of the other party yet. `ipv6`: the family of the other party's address.
    """
    command: Command = {
        "command": "offer" if leg == offerer else "answer",
        "call-id": call,
        "from-tag": offerer,
        "sdp": description,
        "ICE": "remove",
        # As the embedded relay does: once a party's address is known, nobody else's packets are taken for its own. That takes rtpengine
        # three seconds, in which a packet from where the party said it would be counts for more than one from elsewhere.
        "flags": ["trust-address", "strict-source", "endpoint-learning-heuristic"],
    }
    if leg != offerer or not anew:
        command["to-tag"] = other(offerer)
    if leg == offerer:
        if direction := interfaces.direction(leg):
            command["direction"] = direction
        if ipv6 is not None:
            command["address-family"] = "IP6" if ipv6 else "IP4"
    return command


def ask_copy(call: str, leg: Leg, interfaces: Interfaces) -> Command:
    """Ask for a copy of what the party of `leg` sends."""
    command: Command = {"command": "subscribe request", "call-id": call, "from-tag": leg, "to-tag": _subscriber(leg)}
    return command if interfaces.copy is None else command | {"interface": interfaces.copy}


def take_copy(call: str, leg: Leg, offered: Sequence[MediaLine], measured: int, at: Addr) -> Command:
    """Have the copy of the m-line `measured` sent to `at`, and the next port for RTCP; of all others none is wanted."""
    text = ["v=0", f"o=- 0 0 {_connection(at[0])}", "s=-", "t=0 0"]
    for line in offered:
        port = at[1] if line.index == measured else 0
        text += [f"m={line.kind} {port} {line.proto} {' '.join(line.formats)}", f"c={_connection(at[0])}", "a=recvonly"]
        text += [f"a=rtpmap:{number} {codec.name}/{codec.clock_rate}" for number, codec in line.rtpmap.items()]
    description = "".join(f"{one}\r\n" for one in text).encode("utf-8", "surrogateescape")
    return {"command": "subscribe answer", "call-id": call, "to-tag": _subscriber(leg), "sdp": description}


def _subscriber(leg: Leg) -> str:
    return f"copy-{leg}"


def query(call: str) -> Command:
    """Ask what was counted."""
    return {"command": "query", "call-id": call}


def delete(call: str) -> Command:
    """Forget the call, and give its ports back at once."""
    return {"command": "delete", "call-id": call, "delete-delay": 0}


PING: Command = {"command": "ping"}


# -- answers ---------------------------------------------------------------------------------------------------------------------------


def checked(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer itself. Raises Refused unless it says that the command was done."""
    result = _text(answer.get("result"))
    if result not in ("ok", "pong"):
        reason = _text(answer.get("error-reason")) or _text(answer.get("message")) or result or "nothing"
        raise Refused(f"it says {reason}", busy=result == "load limit", unknown="unknown call-id" in reason.lower())
    return answer


def lines(answer: Mapping[str, Any]) -> tuple[MediaLine, ...]:
    """The m-lines of the description in an answer. Raises Refused where there is none that can be read."""
    try:
        return sdp.parse(answer["sdp"]).media
    except (KeyError, TypeError, sdp.UnusableSdp) as error:
        raise Refused(f"its answer holds no description: {error}") from error


def placed(answer: Mapping[str, Any], host: str) -> Placed:
    """Where it takes the media. `host`: what to say of a line that is on hold by its address. Raises Refused."""
    live = [line for line in lines(answer) if line.port]
    hosts = {line.address for line in live if not line.null_address}
    if len(hosts) > 1:
        raise Refused(f"it takes one leg's media at {' and '.join(sorted(hosts))}: give a leg one interface with one address")
    if not all(map(_literal, hosts)):
        raise Refused(f"it takes media at {hosts.pop()}, which is no address")
    ports = {line.index: (line.port, line.rtcp[1] if line.rtcp is not None else line.port + 1) for line in live}
    return Placed(hosts.pop() if hosts else host, ports)


@dataclass(frozen=True, slots=True)
class Counted:
    """What rtpengine counted of the m-line that is listened to, on its RTP ports."""

    packets: int = 0
    """That came from either side."""
    errors: int = 0
    """Of those: from a source that was not the party's, which went nowhere; or of an unknown payload type, which were relayed."""


def counted(answer: Mapping[str, Any], measured: int | None) -> Counted:
    """The answer to a query, as far as it can be read. `measured`: index of the m-line that is listened to."""
    packets = errors = 0
    for leg in ("A", "B"):
        for index, stream in _streams(answer, leg):
            stats = stream.get("stats")
            if isinstance(stats, dict) and index == measured and b"RTP" in (stream.get("flags") or ()):
                packets += _number(stats.get("packets"))
                errors += _number(stats.get("errors"))
    return Counted(packets, errors)


def _streams(answer: Mapping[str, Any], tag: str) -> list[tuple[int, dict[str, Any]]]:
    """Each port of a party, with the index of its m-line."""
    tags = answer.get("tags")
    party = tags.get(tag) if isinstance(tags, dict) else None
    medias = party.get("medias") if isinstance(party, dict) else None
    listed = [(_number(media.get("index")) - 1, media.get("streams")) for media in medias or () if isinstance(media, dict)]
    return [(index, stream) for index, streams in listed for stream in streams or () if isinstance(stream, dict)]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
