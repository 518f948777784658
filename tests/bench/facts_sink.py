"""A control that takes every batch of facts and keeps none: `python -m tests.bench.facts_sink`. Prints its port."""

from __future__ import annotations

import asyncio
import sys

_EACH = b'"elapsed_ms":'
"""Every fact has it once; inside a fact's text it would stand behind a backslash."""


class Sink(asyncio.Protocol):
    """As much HTTP as one client needs that keeps its connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (body := self._next()) is not None:
            text = b'{"stored":%d,"new":0}' % body.count(_EACH)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
            assert self._transport is not None
            self._transport.write(head + text)

    def _next(self) -> bytes | None:
        """The next whole body."""
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return None
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        if len(rest) < length:
            return None
        self._data = rest[length:]
        return rest[:length]


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
