"""The composition root: sockets, engine, sessions, reporter and admin port of one sidecar, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import assert_never

import structlog

from sidecar.admin import AdminServer
from sidecar.analysis.process import AnalysisProcess
from sidecar.b2bua import effects as e
from sidecar.b2bua import outcome as o
from sidecar.b2bua.engine import Engine, Listener
from sidecar.clocks import Mono
from sidecar.config import SidecarConfig, parse_listen, revealed
from sidecar.engine_settings import engine_settings
from sidecar.exports import Exports
from sidecar.figures import Figures
from sidecar.fleet.client import FleetClient
from sidecar.fleet.configuration import Configuration
from sidecar.measuring import Measuring
from sidecar.native.forwarder import Forwarder, NoForwarder
from sidecar.net.clock import mono
from sidecar.net.dns import Resolver
from sidecar.net.errors import StartError
from sidecar.net.process import give_back, settle
from sidecar.net.random_ids import RandomIds
from sidecar.net.rtp import NoPorts, PortPool
from sidecar.net.rtpengine.call import RelayFailed
from sidecar.net.rtpengine.client import Server
from sidecar.net.rtpengine.pool import Pool as Relays
from sidecar.net.tls import TlsSettings
from sidecar.net.transport import Transports
from sidecar.pressure import Pressure
from sidecar.reporter.recordings import RecordingUploader
from sidecar.reporter.reporter import Reporter
from sidecar.reporter.spool import Spool, SpoolError
from sidecar.session import Session
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.uri import SipUri, bracketed
from sidecar.software import software
from sidecar.status import Status
from sidecar.steering import Steering
from sidecar.workers import Part

log = structlog.get_logger()

GIL_SWITCH = 0.0002
"""Seconds: at every system call the relay gives the interpreter's lock away, and gets it back from the spool's thread within this time."""
MEDIA_BETWEEN = 16
"""Packets that are forwarded before each SIP message: a burst of signalling holds media up no longer, nor a burst of media signalling."""
GATHER_PERIOD = 0.1
"""Seconds between two looks at what the forwarding thread has copied: its ring, one for all calls, holds about a second of 300 of them."""
QUIET_PERIOD = 5.0
"""Seconds between two looks at whether the sidecar has nothing to do, and memory of the last calls to give back."""
LAST_ANSWERS = 1.0
"""Seconds for the answers to control's orders, once the sidecar may stop: the drain itself is such an order."""


class Sidecar:
    """One running sidecar. Everything happens in one event loop, but for the analysis, which has a process of its own."""

    def __init__(self, config: SidecarConfig, path: Path | None = None, part: Part | None = None) -> None:
        """`path`: the file that `config` was read from, to be read again on SIGHUP. `part`: what of it is this process's."""
        self.part = part or Part(1, 1)
        self.config = config = config if part is None else part.of(config)
        self.configuration = Configuration(config, path) if part is None else Configuration(config, path, part.of)
        self.fleet: FleetClient | None = None
        self.tap_dropped = 0
        """Packets of ended calls that the analysis never saw."""
        self.forwarding = ""
        """What moves media, and why not the native thread."""
        self.relays: Relays | None = None
        """What moves media instead of this process."""
        self._loop = asyncio.get_running_loop()
        self.sessions: dict[str, Session] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = Mono(0.0)
        recordings = config.recordings
        self.analysis = AnalysisProcess(recordings.outgoing, recordings.max_mb * 1_000_000)
        token = revealed(config.control.token)
        self.recordings = RecordingUploader(recordings.outgoing, url=config.control.url, token=token, days=recordings.days)
        self._tasks = asyncio.TaskGroup()
        self.stopping = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.ended: Counter[str] = Counter()
        self.figures = Figures()
        self._touched: dict[str, Session] = {}
        self._measuring = Measuring(self.sessions, self.analysis, self.figures, self._forget_when_closed)
        self._reread = asyncio.Event()
        self._pressure = Pressure(lambda: self.transports.waiting(), self._late)

    # -- life --------------------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, drain, stop. Raises StartError when it cannot start."""
        sys.setswitchinterval(GIL_SWITCH)
        self._loop.add_signal_handler(signal.SIGHUP, self._reread.set)
        config = self.config
        try:
            spool = Spool.open(config.spool.path, now=datetime.now(UTC))
        except SpoolError as error:
            raise StartError(str(error)) from error
        self.reporter = Reporter(spool, url=config.control.url, token=revealed(config.control.token), sidecar=config.name)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.reporter.aclose)
            config = self.config = await self.configuration.start()
            stack.callback(self._flush)
            stack.push_async_callback(self.analysis.stop)
            await self.analysis.start()
            self.exports = Exports(config, self.reporter)
            stack.push_async_callback(self.exports.stop)
            await self.exports.start()
            self.resolver = Resolver(nameservers=config.sip.servers)
            self.relays = await self._relays(stack)
            self.pool = PortPool(*config.media.ports, forwarder=None if self.relays is not None else self._forwarder(stack))
            # Whoever calls before every listener is there is told to come back.
            self.engine = Engine(engine_settings(config, ()), RandomIds(self.part.mine))
            self.engine.draining = True
            self.engine = Engine(engine_settings(config, await self._listen(stack)), RandomIds(self.part.mine))
            _load_for(config)
            self.configuration.apply, self.configuration.prepare = self._reconfigure, self.reload_certificates
            if config.fleet.enabled:
                token = revealed(config.control.token)
                self.fleet = FleetClient(Steering(self), url=config.control.url, token=token, sidecar=config.name, software=software())
            admin = AdminServer(Status(self), parse_listen(config.admin.listen))
            try:
                await admin.start()
            except OSError as error:
                raise StartError(f"{error.strerror}; change admin.listen or free the port") from error
            stack.push_async_callback(admin.stop)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self.stopping.set)
            async with asyncio.TaskGroup() as tasks:
                reporting = tasks.create_task(self.reporter.run(), name="reporter")
                bringing = tasks.create_task(self.recordings.run(), name="recordings")
                analysis = tasks.create_task(self._measuring.look(), name="analysis")
                gathering = tasks.create_task(self._gather(), name="gathering")
                tidying = tasks.create_task(self._tidy(), name="tidying")
                watching = tasks.create_task(self._pressure.watch(), name="pressure")
                fleet = tasks.create_task(self._in_fleet(), name="fleet")
                running = [reporting, bringing, analysis, gathering, tidying, watching, fleet]
                if self.relays is not None:
                    running.append(tasks.create_task(self.relays.run(), name="media relays"))
                self._tasks = tasks
                settle()
                self._pump()  # routes that are pinged have a deadline already
                log.info(
                    "ready",
                    name=config.name,
                    sip=self.listening,
                    admin=f"http://{admin.address[0]}:{admin.address[1]}",
                    control=config.control.url,
                    routes=[route.name for route in config.routes],
                    media=self.forwarding,
                )
                if self.part.share is not None:
                    self.part.share.gone = self.stopping.set
                    self.part.share.ready()
                await self.stopping.wait()
                await self._drain()
                if self.fleet is not None:
                    await self.fleet.settle(LAST_ANSWERS)
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
            self._flush()
            kept = await self.reporter.flush(config.drain.flush_s)
            log.info("stopped", traces_left_in_spool=kept, calls=dict(self.ended))

    # -- configuration and orders ------------------------------------------------------------------------------------------------------

    async def _in_fleet(self) -> None:
        """Be connected to control, and read the file again when told to."""
        async with asyncio.TaskGroup() as tasks:
            if self.fleet is not None:
                tasks.create_task(self.fleet.run(), name="fleet client")
            while True:
                await self._reread.wait()
                self._reread.clear()
                await self.configuration.reload()

    def _reconfigure(self, config: SidecarConfig) -> None:
        """Go by a configuration that was checked. Live calls go on as they are."""
        _load_for(config)
        before, self.config = self.config, config
        settings = engine_settings(config, self.engine.settings.listeners)
        if config.callers.digest == before.callers.digest:  # or every caller would have to be challenged anew
            settings = replace(settings, digest=self.engine.settings.digest)
        self.engine.reconfigure(settings)
        self._pump()  # routes that are pinged may have a deadline now
        if self.fleet is not None:
            self.fleet.tell()

    def hang_up(self, call: str, outcome: o.Outcome) -> bool:
        """End a live call; False when there is none of this id."""
        found = self.engine.hang_up(call, outcome, mono())
        self._pump()
        return found

    def listen(self, call: str) -> AsyncIterator[bytes] | None:
        """The audio of a live call from now on, as `Listening.take` gives it; None when there is none of this id."""
        session = self.sessions.get(call)
        return None if session is None or session.ended is not None else session.audience.listen()

    def capture(self, call: str) -> bool:
        """Keep the packets of a live call from now on; False when there is none of this id."""
        session = self.sessions.get(call)
        if session is None or session.ended is not None:
            return False
        session.capture()
        return True

    @property
    def listening(self) -> list[str]:
        """The SIP addresses, as `udp://host:port`, with the real ports where the configuration says 0."""
        return [str(endpoint) for endpoint in self.transports.local]

    async def _listen(self, stack: contextlib.AsyncExitStack) -> tuple[Listener, ...]:
        """Open every transport. Raises StartError."""
        sip = self.config.sip
        settings = TlsSettings(**sip.tls.model_dump())
        self.transports = Transports(
            self._received, self._refused, self._malformed, settings=settings, origins=sip.origins, share=self.part.share
        )
        stack.push_async_callback(self.transports.aclose)
        await self.transports.open(sip.endpoints)
        self._send = self.transports.send
        return tuple(
            Listener(
                bound.addr,
                sip.shown(bound.addr),
                bound.transport,
                tuple((ip_network(network, strict=False), addr) for network, addr in sip.shown_inside(bound.addr)),
            )
            for bound in self.transports.local
        )

    def _forwarder(self, stack: contextlib.AsyncExitStack) -> Forwarder | None:
        """The native thread for media, where it was built."""
        try:
            forwarder = Forwarder()
        except NoForwarder as error:
            self.forwarding = f"event loop: {error}"
            return None
        self.forwarding = "native thread"
        stack.callback(forwarder.stop)
        self._loop.add_reader(forwarder.notice, forwarder.settle)
        stack.callback(self._loop.remove_reader, forwarder.notice)
        return forwarder

    async def _relays(self, stack: contextlib.AsyncExitStack) -> Relays | None:
        """The relays outside of this process, where the configuration has media go by them. Raises StartError."""
        settings = self.config.media.rtpengine
        if self.config.media.engine != "rtpengine" or settings is None:
            return None
        relays = Relays(settings.servers, timeout=settings.timeout_s, period=settings.ping_s, interfaces=settings.chosen)
        stack.callback(relays.close)
        await relays.open()
        relays.lost = self._relay_lost
        self.forwarding = f"rtpengine: {', '.join(server.name for server in relays.servers)}"
        return relays

    def _relay_lost(self, server: Server) -> None:
        for session in self.sessions.values():
            session.relay_lost(server)

    def reload_certificates(self) -> None:
        """Read the TLS files again, for connections from now on. Raises StartError when they are unusable; the old ones stay in force."""
        self.transports.reload()

    async def _drain(self) -> None:
        """New calls get 503; live ones may end until the deadline, then they are hung up and their traces completed."""
        self.engine.draining = True
        if self.fleet is not None:
            self.fleet.tell()
        deadline = self.config.drain.deadline_s
        log.info("draining", calls=len(self.engine.calls), deadline_s=deadline)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                await self.idle.wait()
        overrun = list(self.engine.calls)
        for call in overrun:
            detail = f"the sidecar was told to stop and the call outlived the deadline of {deadline:g} s"
            self.engine.hang_up(call, o.overrun(detail), mono())
        self._pump()
        if overrun:
            log.warning("calls ended by the drain", calls=len(overrun))
        # What is left is the answer to our BYEs (at most 64·T1, RFC 3261 17.1.2.2) and the last figures.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain.goodbye_s):
                await self.idle.wait()

    # -- the pump ----------------------------------------------------------------------------------------------------------------------

    def _late(self, lag: float) -> float:
        self.engine.valve.late(lag, self.engine.settings.limits)
        return self.engine.valve.share

    def _received(self, data: bytes, flow: Flow) -> None:
        self._pressure.read += 1
        self.pool.readers.forward(MEDIA_BETWEEN)
        self.engine.receive(data, flow, mono())
        self._pump()

    def _refused(self, flow: Flow, detail: str) -> None:
        self.engine.transport_failed(flow, mono(), detail)
        self._pump()

    def _malformed(self, head: bytes, error: MalformedMessage, flow: Flow) -> None:
        self.engine.malformed(head, error, flow, mono())
        self._pump()

    def _fire(self, due: Mono) -> None:
        self._timer = None
        self.engine.on_time(max(due, mono()))
        self._pump()

    def _pump(self) -> None:
        """Drain the engine after every mutation; then one timer for its next deadline."""
        told: list[tuple[e.Fact | e.MediaDescribed | e.Refused | e.Replaces, Mono]] = []
        while effects := self.engine.take():
            now = mono()
            told += [(fact, now) for effect in effects if (fact := self._perform(effect, now)) is not None]
        # Messages leave before anything is written about them: whoever waits for one does not wait for its trace.
        for fact, now in told:
            self._tell(fact, now)
        # At once, not batched over time: a call that is refused within milliseconds must not be lost with the process.
        self._flush()
        due = self.engine.next_deadline()
        if self._timer is not None:
            if due is not None and self._timer_due <= due:
                return  # fires early, finds nothing due and re-arms: cheaper than a new timer for each message
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_due = due
            self._timer = self._loop.call_later(max(due - mono(), 0.0), self._fire, due)

    def _perform(self, effect: e.Effect, now: Mono) -> e.Fact | e.MediaDescribed | e.Refused | e.Replaces | None:
        """Do what cannot wait; what is only to be told comes back."""
        match effect:
            case e.SendSip(data, flow):
                self._send(data, flow, flow.peer)
            case e.OpenMedia(call, m_line, hosts):
                self._open_media(call, m_line, hosts, now)
            case e.AskRelay(call, number):
                self._tasks.create_task(self._ask_relay(effect), name=f"relay {call} {number}")
            case e.Renegotiated(call):
                self._tasks.create_task(self.sessions[call].restore_relay(), name=f"relay {call}")
            case e.Resolve(token):
                self._tasks.create_task(self._resolve(effect), name=f"resolve {token}")
            case e.Started():
                self._begin(effect)
                return effect
            case _:
                return effect
        return None

    def _begin(self, started: e.Started) -> None:
        """A call of which nothing is told yet, but which may have media at once."""
        self.sessions[started.call] = Session(
            started.call,
            self.config.name,
            self.exports,
            self.pool,
            self._media_host,
            clock=self.fleet.clock() if self.fleet is not None else None,
            accurate=started.route in self.config.accurate,
            record=self.config.recorded.get(started.route),
            capture=started.route in self.config.captured,
            secured=started.route in self.config.secured,
            relays=self.relays,
        )
        self.idle.clear()

    def _tell(self, fact: e.Fact | e.MediaDescribed | e.Refused | e.Replaces, now: Mono) -> None:
        """Trace a fact, and act on those that concern media or the end of a call."""
        match fact:
            case e.Message():
                self.exports.sip(fact)
                self._session(fact.call).record(fact, now)
            case e.MediaDescribed():
                self._session(fact.call).described(fact, now)
            case e.Refused(reason, source, method):
                log.warning("request refused", reason=reason, source=f"{bracketed(source[0])}:{source[1]}", method=method)
            case e.Started():
                self.exports.sip(fact)
                self._session(fact.call).record(fact, now)
                log.info("call started", call=fact.call, route=fact.route, kind=fact.kind, sip_call_id=fact.sip_call_id)
            case e.Ended():
                self._session(fact.call).record(fact, now)
                self._ended(fact)
            case e.Gone():
                session = self._session(fact.call)
                session.record(fact, now)
                self._forget_when_closed(session)
            case e.Replaces():
                log.info("call takes the place of another", call=fact.call, header=fact.header, call_id=fact.call_id)
            case e.Dialled() | e.HopProven() | e.Learned() | e.Found() | e.Challenged() | e.Answered():
                self._session(fact.call).record(fact, now)
            case _ as never:
                assert_never(never)

    def _ended(self, fact: e.Ended) -> None:
        session = self.sessions[fact.call]
        self.ended[fact.reason] += 1
        self.figures.ended(session.started.route, session.started.kind, fact, session.talked_s)
        log.info("call ended", call=fact.call, status=fact.status, reason=fact.reason, ended_by=fact.ended_by, cause=fact.cause)
        if self._measuring.over(session):
            self._tasks.create_task(self._measuring.conclude(), name="conclude")

    def _media_host(self, own: str, peer: str) -> str:
        """The host that the party at `peer` is told for media of ours at `own`."""
        listener = next((listener for listener in self.engine.settings.listeners if listener.local[0] == own), None)
        return self.config.sip.advertised(own) if listener is None else listener.towards(peer)[0]

    def _session(self, call: str) -> Session:
        """The call's session, to be flushed soon."""
        session = self._touched[call] = self.sessions[call]
        return session

    def _flush(self) -> None:
        """Hand the reporter what was recorded since the last time."""
        touched, self._touched = self._touched, {}
        for session in touched.values():
            session.flush()

    def _open_media(self, call: str, m_line: int, hosts: tuple[str, str], now: Mono) -> None:
        try:
            ports = self.sessions[call].open_media(m_line, hosts)
        except NoPorts as error:
            self.engine.media_failed(call, m_line, str(error), now)
        else:
            self.engine.media_opened(call, m_line, ports, now)

    async def _ask_relay(self, asked: e.AskRelay) -> None:
        try:
            placed = await self._session(asked.call).ask_relay(asked)
        except RelayFailed as error:
            self.engine.relay_failed(asked.call, asked.number, str(error), mono())
        else:
            self.engine.relay_answered(asked.call, asked.number, placed, mono())
        self._pump()

    async def _resolve(self, asked: e.Resolve) -> None:
        found = await self.resolver.locate(SipUri.parse(asked.token), transports=asked.transports, families=asked.families)
        self.engine.resolved(asked.token, found.targets, found.failure, mono())
        self._pump()

    # -- in the background -------------------------------------------------------------------------------------------------------------

    async def _gather(self) -> None:
        """Give each call its own packets, however long the analysis takes over those that it has: there a call has room for ten seconds."""
        while True:
            await asyncio.sleep(GATHER_PERIOD)
            if self.sessions and self.pool.forwarder is not None:
                self.pool.forwarder.gather()

    async def _tidy(self) -> None:
        """Where no call is live, give back the memory of those that were, until the last of their transactions is gone."""
        seen = 0
        while True:
            await asyncio.sleep(QUIET_PERIOD)
            if not self.sessions and (lingering := self.engine.layer.pending) != seen:
                seen = lingering
                give_back()

    def _forget_when_closed(self, session: Session) -> None:
        if session.closed:
            session.flush()
            self.tap_dropped += session.tap_dropped
            del self.sessions[session.call]
            if not self.sessions:
                self.idle.set()


def _load_for(config: SidecarConfig) -> None:
    """Load what only some routes need before there is a call, which would wait for it."""
    if config.secured:
        from sidecar.net.doorway import Doorway  # noqa: F401 - OpenSSL and STUN, for handshakes of media
        from sidecar.net.dtls import certificate

        certificate()
