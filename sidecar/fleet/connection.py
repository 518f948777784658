"""One connection to control, from `hello` to its end: beats, snapshots, and orders as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import assert_never

import aiohttp
import structlog
from pydantic import ValidationError

from control.contract import fleet as wire
from control.contract.fleet import FROM_CONTROL, Applied, Beat, Command, Done, Hello, Progress, Trouble
from sidecar.fleet.offset import Offset
from sidecar.fleet.orders import Host, Refused, carry_out
from sidecar.net.clock import mono, wall

log = structlog.get_logger()

QUICK_BEATS = 4
QUICK_S = 0.2
"""The first beats follow each other at this pace, so that the clocks are known before the first call."""
SILENT_BEATS = 3
"""When control leaves so many unanswered, it is taken for gone."""
WELCOME_S = 10.0
_MOST_SENT = 64
"""Beats whose answer may still come."""


class Turned(Exception):
    """Control does not want this connection. `retry_s`: when to try again; None: as after any refusal."""

    def __init__(self, reason: str, retry_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_s = retry_s


class Connection:
    """What lives as long as one connection."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        host: Host,
        hello: Callable[[], Hello],
        offset: Offset,
        news: asyncio.Event,
        up: Callable[[], None],
    ) -> None:
        """`news`: set when a beat should not wait until it is due. `up`: called once control has taken us in."""
        self._socket = socket
        self._host = host
        self._hello = hello
        self._offset = offset
        self._news = news
        self._up = up
        self._sent: dict[int, float] = {}
        self._orders: dict[str, asyncio.Task[None]] = {}
        self._heartbeat_s = 5.0
        self._beats = 0

    async def settle(self, seconds: float) -> None:
        """Wait until every order that came is answered, but no longer than that."""
        if self._orders:
            await asyncio.wait(list(self._orders.values()), timeout=seconds)

    async def run(self) -> None:
        """Until it ends. Raises Turned, ClientError, OSError and TimeoutError."""
        await self._send(self._hello())
        welcome = await self._next(WELCOME_S)
        if isinstance(welcome, wire.Farewell):
            raise Turned(welcome.reason, welcome.retry_s)
        if not isinstance(welcome, wire.Welcome):
            raise Turned(f"control said {welcome.type if welcome is not None else 'nothing'} in place of welcome")
        if welcome.version != wire.VERSION:
            raise Turned(
                f"control speaks version {welcome.version} of the fleet's messages, this sidecar {wire.VERSION}: upgrade the older"
            )
        self._heartbeat_s = welcome.heartbeat_s
        self._up()
        beating = asyncio.create_task(self._beat(), name="fleet beat")
        try:
            await self._read()
        finally:
            tasks = [beating, *self._orders.values()]
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                # That nothing can be sent any more is what ended the connection; anything else is a fault of ours.
                if isinstance(ended, Exception) and not isinstance(ended, OSError | aiohttp.ClientError):
                    raise ended

    async def _read(self) -> None:
        while (message := await self._next(SILENT_BEATS * self._heartbeat_s)) is not None:
            match message:
                case wire.Pulse():
                    left = self._sent.pop(message.n, None)
                    if left is not None:
                        self._offset.add(left, message.received_us, message.replied_us, mono() * 1e6)
                case wire.SnapshotSent():
                    reason = await self._host.take(message)
                    await self._tell_state()  # whoever sees that a version is in force sees what is in it
                    await self._send(Applied(id=message.id, version=message.version, applied=reason is None, reason=reason))
                case Command():
                    begun = self._orders[message.id] = asyncio.create_task(self._do(message), name=f"order {message.order.name}")
                    begun.add_done_callback(partial(self._answered, message.id))
                case wire.Cancel(id=name):
                    if name in self._orders:
                        self._orders[name].cancel()
                case wire.Farewell(reason=reason, retry_s=retry_s):
                    raise Turned(reason, retry_s)
                case wire.Welcome():
                    raise Turned("control said welcome twice")
                case _ as never:
                    assert_never(never)

    async def _next(self, patience_s: float) -> wire.FromControl | None:
        """The next message; None when the connection ended. Raises Turned for what cannot be understood."""
        message = await self._socket.receive(timeout=patience_s)
        if message.type is aiohttp.WSMsgType.ERROR:
            raise ConnectionError(str(message.data))
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        try:
            return FROM_CONTROL.validate_json(message.data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise Turned(f"a message of control was not understood: {place}: {first['msg']}") from None

    async def _send(self, message: wire.FromSidecar) -> None:
        await self._socket.send_str(message.model_dump_json())

    async def _beat(self) -> None:
        while True:
            self._news.clear()
            await self._tell_state()
            try:
                async with asyncio.timeout(QUICK_S if self._beats < QUICK_BEATS else self._heartbeat_s):
                    await self._news.wait()
            except TimeoutError:
                continue  # no news: the beat is due all the same

    async def _tell_state(self) -> None:
        self._beats += 1
        self._sent[self._beats] = mono() * 1e6
        while len(self._sent) > _MOST_SENT:
            del self._sent[next(iter(self._sent))]
        await self._send(Beat(n=self._beats, sent_us=int(wall() * 1e6), state=self._hello().state))

    # -- orders ------------------------------------------------------------------------------------------------------------------------

    async def _do(self, command: Command) -> None:
        """Carry out one order, telling each step as it is done, and answer it in any case."""
        steps: asyncio.Queue[Progress | None] = asyncio.Queue()

        async def carry() -> None:
            while (step := await steps.get()) is not None:
                await self._send(step)

        carrying = asyncio.create_task(carry(), name="progress")
        work = asyncio.create_task(carry_out(command.order, self._host, lambda step: steps.put_nowait(Progress(id=command.id, step=step))))
        try:
            await asyncio.wait({work}, timeout=command.deadline_s)
        finally:
            work.cancel()
            steps.put_nowait(None)
            await asyncio.gather(work, carrying, return_exceptions=True)
        await self._send(_done(command, work))

    def _answered(self, name: str, _: asyncio.Task[None]) -> None:
        del self._orders[name]


def _done(command: Command, work: asyncio.Task[dict[str, object]]) -> Done:
    if work.cancelled():
        return Done(id=command.id, trouble=Trouble(status=504, detail=f"it took longer than {command.deadline_s:g} s: ask again"))
    error = work.exception()
    match error:
        case None:
            return Done(id=command.id, result=work.result())
        case Refused():
            return Done(id=command.id, trouble=Trouble(status=error.status, detail=error.detail))
        case _:
            # Whatever goes wrong in an order must not reach the calls.
            log.error("order failed", order=command.order.name, exc_info=error)
            return Done(id=command.id, trouble=Trouble(status=500, detail="this is a fault of the sidecar, and it is in its log"))
