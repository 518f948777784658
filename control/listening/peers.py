"""The browsers that listen in: each has a peer connection here and an order at the call's sidecar, and one ends with the other."""

from __future__ import annotations

import asyncio
import importlib
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from control.contract.fleet import IceServer, ListenOrder
from control.fleet.fleet import Fleet
from control.fleet.link import Undone

if TYPE_CHECKING:
    from aiortc import RTCPeerConnection

    from control.listening.sound import CallAudio

log = structlog.get_logger()

MOST: Final = 16
"""Browsers that listen at a time to this process."""
LONGEST_S: Final = 4 * 3600.0
_FIRST_S: Final = 10.0
_CONNECT_S: Final = 30.0
"""A browser that is not connected by then will not be."""


class Refused(Exception):
    """Nobody listens. `status`: the HTTP status that fits; the text says what to do."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Listeners:
    """All of this process. Close it before the fleet."""

    def __init__(self, fleet: Fleet, ice_servers: Sequence[IceServer] = ()) -> None:
        self.ice_servers = ice_servers
        self._fleet = fleet
        self._browsers: dict[_Browser, asyncio.Task[None]] = {}
        self._coming = 0

    async def listen(self, call: str, sidecar: str, by: str, offer: str) -> str:
        """Have a browser hear a live call; the answer to its offer. Raises Refused."""
        if len(self._browsers) + self._coming >= MOST:
            raise Refused(409, f"{MOST} browsers listen here already, which is as many as may: try again when one has stopped")
        self._coming += 1
        try:
            browser = await _Browser.open(self._fleet, ListenOrder(call=call, by=by), sidecar, self.ice_servers)
            try:
                answer = await browser.agree(offer)
            except BaseException:
                await browser.close()
                raise
            self._browsers[browser] = asyncio.create_task(self._follow(browser, call), name=f"listening to {call}")
        finally:
            self._coming -= 1
        return answer

    async def _follow(self, browser: _Browser, call: str) -> None:
        try:
            await browser.ended()
        except Refused as refused:
            log.info("listening ended", call=call, reason=refused.detail)
        finally:
            del self._browsers[browser]
            await browser.close()

    async def close(self) -> None:
        """End every connection."""
        following = list(self._browsers.values())
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


class _Browser:
    """One peer connection and the order that feeds it."""

    def __init__(self, peer: RTCPeerConnection, sound: CallAudio) -> None:
        self._peer = peer
        self._sound = sound
        self._heard = asyncio.Event()
        self._states: asyncio.Queue[str] = asyncio.Queue()
        self._order: asyncio.Task[dict[str, Any]] | None = None
        peer.on("connectionstatechange", lambda: self._states.put_nowait(peer.connectionState))

    @classmethod
    async def open(cls, fleet: Fleet, order: ListenOrder, sidecar: str, ice_servers: Sequence[IceServer]) -> _Browser:
        """Have the sidecar tell the call's audio. Raises Refused."""
        # It takes a second and tens of megabytes to load, so only who listens pays for it.
        await asyncio.to_thread(importlib.import_module, "control.listening.sound")
        from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection

        from control.listening.sound import CallAudio

        servers = [RTCIceServer(urls=server.urls, username=server.username, credential=server.credential) for server in ice_servers]
        browser = cls(RTCPeerConnection(RTCConfiguration(iceServers=servers)), CallAudio())
        browser._order = asyncio.create_task(fleet.order(sidecar, order, LONGEST_S, browser._step), name="listen order")
        try:
            await browser._first()
        except BaseException:
            await browser.close()
            raise
        return browser

    def _step(self, told: dict[str, Any]) -> None:
        self._heard.set()
        self._sound.feed(b64decode(told.get("audio", "")))

    async def _first(self) -> None:
        """Wait until the sidecar lets listen."""
        heard = asyncio.create_task(self._heard.wait())
        try:
            await self._until(heard, _FIRST_S)
        finally:
            heard.cancel()
        if not self._heard.is_set():
            raise Refused(504, f"the call's sidecar did not answer within {_FIRST_S:g} s: see GET /v1/sidecars whether it lives")

    async def _until(self, what: asyncio.Task[Any], seconds: float | None = None) -> None:
        """Wait for something, or for the end of the order. Raises Refused where that was no end of a call."""
        if self._order is None:
            return
        await asyncio.wait({self._order, what}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._order.done():
            try:
                self._order.result()
            except Undone as undone:
                raise Refused(undone.status, undone.detail) from undone

    async def agree(self, offer: str) -> str:
        """Take the offer; the answer, with every candidate in it. Raises Refused."""
        from aiortc import RTCSessionDescription

        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
            if not any(line.kind == "audio" for line in self._peer.getTransceivers()):
                raise ValueError("it has no audio section: add a transceiver for audio with direction recvonly")
            self._peer.addTrack(self._sound)
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except Exception as error:  # aiortc has no error of its own for an offer that it does not understand
            raise Refused(422, f"sdp: no WebRTC offer that can be answered: {str(error)[:200] or type(error).__name__}") from error
        return self._peer.localDescription.sdp

    async def ended(self) -> None:
        """Wait until the call has ended or the browser is gone. Raises Refused where the sidecar ended it otherwise."""
        leaving = asyncio.create_task(self._left())
        try:
            await self._until(leaving)
        finally:
            leaving.cancel()

    async def _left(self) -> None:
        with suppress(TimeoutError):  # it never came
            async with asyncio.timeout(_CONNECT_S) as limit:
                while (state := await self._states.get()) not in ("failed", "closed"):
                    if state == "connected":
                        limit.reschedule(None)

    async def close(self) -> None:
        """End both."""
        if self._order is not None:
            self._order.cancel()
            await asyncio.gather(self._order, return_exceptions=True)
        self._sound.stop()
        await self._peer.close()
