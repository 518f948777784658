"""The connection to control: made, kept alive, made again. Nothing here can touch a call but what control is allowed to order."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from typing import Any, Literal, assert_never

import aiohttp
import structlog

from control.contract import VERSION as FACTS_VERSION
from control.contract.call import ClockOffset
from control.contract.fleet import MOST_BYTES, PATH, Hello
from sidecar.fleet.connection import Connection, Turned
from sidecar.fleet.offset import Offset
from sidecar.fleet.orders import Host
from sidecar.net.clock import mono, wall
from sidecar.reporter.pace import Backoff, Pace

log = structlog.get_logger()

_CONNECT_S = 10.0

Way = Literal["unknown", "up", "away", "refused"]


class FleetClient:
    """Own it with a task that runs `run`."""

    def __init__(
        self,
        host: Host,
        *,
        url: str,
        token: str | None,
        sidecar: str,
        software: str,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`url` is control's base URL; `token` is sent as Bearer; `sidecar` is this sidecar's name."""
        self._host = host
        self._url = f"{url.rstrip('/')}{PATH}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._sidecar = sidecar
        self._software = software
        self._pace = pace or Pace()
        self._backoff = Backoff(self._pace, jitter)
        self._instance = secrets.token_hex(8)
        self._offset = Offset()
        self._way: Way = "unknown"
        self._trouble: str | None = None
        self._news = asyncio.Event()
        self._connection: Connection | None = None

    def describe(self) -> dict[str, Any]:
        """State of the connection, for the admin port."""
        clock = self.clock()
        shown = clock.model_dump() if clock is not None else None
        return {"url": self._url, "link": self._way, "trouble": self._trouble, "instance": self._instance, "clock": shown}

    @property
    def connected(self) -> bool:
        """Control has taken us in."""
        return self._way == "up"

    def clock(self) -> ClockOffset | None:
        """Control's clock against ours, None while it was never measured."""
        return self._offset.now(wall() * 1e6, mono() * 1e6)

    def tell(self) -> None:
        """Something changed that control should hear of before the next beat is due."""
        self._news.set()

    async def settle(self, seconds: float) -> None:
        """Before an end: answer the orders that came, for at most that long."""
        if self._connection is not None:
            await self._connection.settle(seconds)

    async def run(self) -> None:
        """Be connected for as long as the task lives. Never ends by itself."""
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_connect=_CONNECT_S)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
            while True:
                pause = await self._connect(session)
                await asyncio.sleep(pause)

    async def _connect(self, session: aiohttp.ClientSession) -> float:
        """One connection, from its beginning to its end; the seconds to wait before the next."""
        try:
            async with asyncio.timeout(_CONNECT_S) as patience:
                async with session.ws_connect(self._url, max_msg_size=MOST_BYTES, compress=0, autoclose=True) as socket:
                    patience.reschedule(None)
                    self._connection = Connection(socket, self._host, self._hello, self._offset, self._news, self._up)
                    await self._connection.run()
            self._note("away", "control closed the connection")
        except Turned as turned:
            self._note("refused", str(turned))
            return self._backoff.next(turned.retry_s, refused=turned.retry_s is None)
        except aiohttp.WSServerHandshakeError as error:
            hint = " (check control.token: it needs the scope sidecar)" if error.status in (401, 403) else ""
            self._note("refused" if error.status < 500 else "away", f"HTTP {error.status}{hint}")
            return self._backoff.next(None, refused=error.status < 500)
        except TimeoutError:
            self._note("away", "no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            self._note("away", str(error) or type(error).__name__)
        return self._backoff.next(None)

    def _hello(self) -> Hello:
        return Hello(
            sidecar=self._sidecar,
            instance=self._instance,
            software=self._software,
            facts_version=FACTS_VERSION,
            state=self._host.state().model_copy(update={"clock": self.clock()}),
        )

    def _up(self) -> None:
        self._note("up", None)

    def _note(self, way: Way, trouble: str | None) -> None:
        """One line when the connection comes or goes, however often it is tried."""
        before, self._way, self._trouble = self._way, way, trouble
        if way == before:
            return
        match way:
            case "up":
                self._backoff.reset()
                log.info("connected to control", url=self._url)
            case "away":
                log.warning("not connected to control", url=self._url, detail=trouble, consequence="the configuration in force stays")
            case "refused":
                log.warning("control refuses the connection", url=self._url, detail=trouble, consequence="the configuration in force stays")
            case "unknown":
                pass
            case _ as never:
                assert_never(never)
