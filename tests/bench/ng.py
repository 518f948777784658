"""As much of rtpengine's NG protocol as sets calls up: bencoded dictionaries over UDP behind a cookie."""

from __future__ import annotations

import re
import socket
import time
from typing import Any

from tests.bench.ua import HOST, sdp

_AUDIO = re.compile(rb"^m=audio (\d+)", re.MULTILINE)


def encode(value: Any) -> bytes:
    """Bencoding: texts, octets, integers, lists, and dictionaries in the order of their keys."""
    match value:
        case int():
            return b"i%de" % value
        case bytes():
            return b"%d:%s" % (len(value), value)
        case str():
            return encode(value.encode())
        case list():
            return b"l" + b"".join(map(encode, value)) + b"e"
        case dict():
            return b"d" + b"".join(encode(key) + encode(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(f"{value!r} cannot be bencoded")


def decode(data: bytes) -> Any:
    """The one value that `data` holds; keys of dictionaries become text. Raises ValueError."""
    value, rest = _value(data)
    if rest:
        raise ValueError("octets behind the end")
    return value


def _value(data: bytes) -> tuple[Any, bytes]:
    kind = data[:1]
    if kind == b"i":
        number, _, rest = data[1:].partition(b"e")
        return int(number), rest
    if kind in (b"l", b"d"):
        items, rest = [], data[1:]
        while rest[:1] != b"e":
            item, rest = _value(rest)
            items.append(item)
        rest = rest[1:]
        return (items, rest) if kind == b"l" else ({key.decode(): value for key, value in zip(items[::2], items[1::2], strict=True)}, rest)
    length, _, rest = data.partition(b":")
    size = int(length)
    return rest[:size], rest[size:]


class Engine:
    """One rtpengine at a control port."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((HOST, port))
        self._socket.settimeout(0.5)
        self._asked = 0

    def ask(self, command: str, **values: Any) -> dict[str, Any]:
        """Send one command and return its answer, asked again up to twenty times. Raises RuntimeError."""
        self._asked += 1
        cookie = b"bench%d" % self._asked
        request = cookie + b" " + encode({"command": command, **{key.replace("_", "-"): value for key, value in values.items()}})
        for _ in range(20):
            try:
                self._socket.send(request)
                mine, _, answer = self._socket.recv(65535).partition(b" ")
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                time.sleep(0.2)  # it starts, or has died
                continue
            if mine == cookie:
                decoded: dict[str, Any] = decode(answer)
                return decoded
        raise RuntimeError(f"rtpengine does not answer {command}")

    def call(self, name: str, caller: int, agent: int) -> tuple[int, int]:
        """A call between two ports of ours: where the caller sends, and where the agent sends."""
        parties = {"call_id": name, "from_tag": "caller"}
        towards_agent = self.ask("offer", **parties, sdp=sdp(caller))
        towards_caller = self.ask("answer", **parties, to_tag="agent", sdp=sdp(agent))
        return _port(towards_caller), _port(towards_agent)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def _port(answer: dict[str, Any]) -> int:
    found = _AUDIO.search(answer.get("sdp", b""))
    if found is None:
        raise RuntimeError(f"rtpengine did not answer with a media port: {answer}")
    return int(found.group(1))
