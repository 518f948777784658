"""One sidecar's connection, from its `hello` on."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Any, assert_never

import structlog
from aiohttp import WSCloseCode, web
from pydantic import ValidationError

from control.clock import now_us
from control.contract import fleet as wire
from control.contract.fleet import FROM_SIDECAR, Command, Done, Farewell, Order, Progress, Pulse, SidecarState
from control.contract.routing import Snapshot

log = structlog.get_logger()

Step = Callable[[dict[str, Any]], None]
"""Hears of the progress of a command."""
HELLO_S = 10.0
SILENT_BEATS = 3
"""A sidecar that leaves out so many beats is taken for gone."""
MOST_PENDING = 64
_SEND_S = 3.0


class Undone(Exception):
    """A command was not done. `status`: the HTTP status that fits."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Stranger(Exception):
    """What connected does not speak as a sidecar does. The text says what is wrong."""


class _Pending:
    def __init__(self, step: Step) -> None:
        self.step = step
        self.done: asyncio.Future[Done] = asyncio.get_running_loop().create_future()


class Link:
    """A connected sidecar. `told`: called when its state changed in a way that others should learn of at once."""

    def __init__(self, socket: web.WebSocketResponse, hello: wire.Hello) -> None:
        self.hello = hello
        self.state: SidecarState = hello.state
        self.connected_us = self.heard_us = now_us()
        self._socket = socket
        self._pending: dict[str, _Pending] = {}
        self._over = False

    @classmethod
    async def accept(cls, socket: web.WebSocketResponse) -> Link:
        """Wait for the `hello`. Raises Stranger."""
        try:
            first = read(await socket.receive_str(timeout=HELLO_S))
        except TimeoutError:
            raise Stranger(f"no hello within {HELLO_S:g} s") from None
        except TypeError:
            raise Stranger("the connection ended before a hello") from None
        if not isinstance(first, wire.Hello):
            raise Stranger(f"{first.type} came before hello")
        if first.version != wire.VERSION:
            raise Stranger(
                f"this control speaks version {wire.VERSION} of the fleet's messages, the sidecar {first.version}: upgrade the older"
            )
        return cls(socket, first)

    @property
    def name(self) -> str:
        """The sidecar's name."""
        return self.hello.sidecar

    async def send(self, message: wire.FromControl) -> None:
        """Send a message; one that the connection does not take any more is lost, as the connection is."""
        if self._socket.closed:
            return
        try:
            # What is longer than that in leaving is left to leave by itself: one sidecar that does not read must not keep others waiting.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SEND_S):
                    await self._socket.send_str(message.model_dump_json())
        except (ConnectionError, RuntimeError) as error:  # aiohttp: RuntimeError while closing
            log.debug("message to sidecar lost", sidecar=self.name, type=message.type, error=str(error))

    async def offer(self, snapshot: Snapshot) -> None:
        """Send a snapshot unless it is the one in force."""
        if self.state.configuration.id != snapshot.id:
            await self.send(wire.SnapshotSent(id=snapshot.id, version=snapshot.version, content=snapshot.model_dump(mode="json")))

    async def follow(self, silence_s: float, changed: Callable[[bool], Any]) -> None:
        """Read until the connection ends. `changed` is awaited after each beat, and with True after news that should be stored at once.

        Raises Stranger for what no sidecar says.
        """
        while True:
            try:
                text = await self._socket.receive_str(timeout=silence_s)
            except TimeoutError:
                raise Stranger(f"nothing came for {silence_s:g} s") from None
            except TypeError:  # aiohttp: the next message was no text, which is how the end is told
                return
            self.heard_us = now_us()
            message = read(text)
            match message:
                case wire.Beat():
                    answer = Pulse(n=message.n, sent_us=message.sent_us, received_us=self.heard_us, replied_us=now_us())
                    await self.send(answer)
                    news = self.state.configuration != message.state.configuration or self.state.draining != message.state.draining
                    self.state = message.state
                    await changed(news)
                case wire.Applied():
                    self._applied(message)
                    await changed(True)
                case Progress():
                    if (pending := self._pending.get(message.id)) is not None:
                        pending.step(message.step)
                case Done():
                    if (pending := self._pending.get(message.id)) is not None and not pending.done.done():
                        pending.done.set_result(message)
                case wire.Hello():
                    raise Stranger("a second hello")
                case _ as never:
                    assert_never(never)

    def _applied(self, message: wire.Applied) -> None:
        configuration = self.state.configuration
        if message.applied:
            configuration.id, configuration.version, configuration.refused = message.id, message.version, None
            log.info("snapshot applied", sidecar=self.name, version=message.version)
        else:
            reason = message.reason or "no reason given"
            configuration.refused = wire.RefusedSnapshot(id=message.id, version=message.version, reason=reason)
            log.warning("snapshot refused", sidecar=self.name, version=message.version, reason=reason)

    async def order(self, order: Order, deadline_s: float, step: Step) -> dict[str, Any]:
        """Have a command done and give its result. Raises Undone."""
        if len(self._pending) >= MOST_PENDING:
            raise Undone(409, f"sidecar {self.name} has {MOST_PENDING} commands to do already: try again later")
        name = uuid.uuid4().hex
        pending = self._pending[name] = _Pending(step)
        if self._over:
            pending.done.set_exception(_gone(self.name))
        finished = False
        try:
            async with asyncio.timeout(deadline_s):
                await self.send(Command(id=name, deadline_s=deadline_s, order=order))
                answer = await pending.done
            finished = True
        except TimeoutError:
            raise Undone(
                504, f"sidecar {self.name} did not answer within {deadline_s:g} s: see GET /v1/sidecars whether it lives"
            ) from None
        finally:
            del self._pending[name]
            if not finished:
                await self.send(wire.Cancel(id=name))
        if answer.trouble is not None:
            raise Undone(answer.trouble.status, answer.trouble.detail)
        return answer.result or {}

    async def farewell(self, reason: str, retry_s: float) -> None:
        """Tell the sidecar why, and end the connection."""
        await self.send(Farewell(reason=reason[:500], retry_s=retry_s))
        await self.close()

    async def close(self) -> None:
        """End the connection; what waits for an answer learns so."""
        self.end()
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    def end(self) -> None:
        """Nothing more will come."""
        self._over = True
        for pending in self._pending.values():
            if not pending.done.done():
                pending.done.set_exception(_gone(self.name))


def _gone(name: str) -> Undone:
    return Undone(502, f"the connection to sidecar {name} broke before it was done: see GET /v1/sidecars, then ask again")


def read(text: str) -> wire.FromSidecar:
    """A sidecar's message. Raises Stranger."""
    try:
        return FROM_SIDECAR.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Stranger(f"not understood: {place}: {first['msg']}") from None
