"""The composition root of control: builds the parts, owns their tasks, serves until told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import structlog
from aiohttp import web
from aiohttp.resolver import DefaultResolver
from sqlalchemy.exc import SQLAlchemyError

from control.addresses import NoMetadata, PublicOnly
from control.api import openapi
from control.api.access import Access
from control.api.events import Broker
from control.api.ingest import MOST_BYTES
from control.api.problems import name_response, problems
from control.api.protocol import Runner
from control.api.routes import add_routes
from control.api.state import STATE, State
from control.clock import SECOND, now_us
from control.config import ControlConfig, Inject, load, split_address
from control.contract.fleet import IceServer
from control.contract.logs import name_trace
from control.delivery import outbox, sweeper, upload, webhook
from control.delivery.destination import Destination
from control.delivery.tuner import Tuner
from control.delivery.worker import Worker
from control.delivery.workers import Workers
from control.errors import StartupError
from control.fleet.fleet import Fleet
from control.ingest.facts import Intake
from control.ingest.reports import DESTINATION, Sender
from control.inject.server import serving_webhook
from control.listening.peers import Listeners
from control.store import Store, open_store
from control.store.announce import Hook
from control.store.faults import brief
from control.store.live import Listener
from control.store.recordings import Recordings
from control.store.uploads import UploadPolicy
from control.store.vault import Vault, open_vault
from control.web.pages import add_pages

log = structlog.get_logger()

_SHUTDOWN_S = 10.0
_LEASE_MARGIN_S = 5.0
_LAST_ATTEMPTS_S = 3.0
"""How long attempts under way may take when control stops; their deliveries are handed over afterwards."""
_WEBHOOK_S = 15.0
_SWEEP_S = 1.0
_DAY_S = 86_400


def create_app(config: ControlConfig) -> web.Application:
    """The application; its parts come to life when it starts. A start that fails raises StartupError."""
    access = Access(config)
    app = web.Application(middlewares=[problems], client_max_size=MOST_BYTES + 1)
    app.on_response_prepare.append(name_response)
    add_routes(app, access)
    add_pages(app)

    async def parts(app: web.Application) -> AsyncIterator[None]:
        async with _running(config, access) as state:
            app[STATE] = state
            yield

    async def close_streams(app: web.Application) -> None:
        app[STATE].broker.close()
        await app[STATE].listeners.close()
        await app[STATE].fleet.close()

    app.cleanup_ctx.append(parts)
    app.on_shutdown.append(close_streams)
    return app


@asynccontextmanager
async def _running(config: ControlConfig, access: Access) -> AsyncIterator[State]:
    """Store, outbox workers and sweeper; on exit the tasks end before the store closes."""
    store = await open_store(config)
    store.uploads = UploadPolicy(config.evaluator.upload.kinds, upload.DESTINATION, upload.KIND)
    store.hooks = tuple(Hook(webhook.destination(hook.url), frozenset(hook.events)) for hook in config.webhooks)
    try:
        vault = open_vault(config)
        await access.attach(store, vault)
        broker = Broker()
        async with AsyncExitStack() as sessions:
            recordings = Recordings(config.recordings.path, config.recordings.max_mb_each * 1_000_000)
            workers = await _workers(config, store, access, broker, sessions, vault, recordings)
            if store.single_process:
                await outbox.release_leases(store, now_us())
            await outbox.abandon(store, workers.destinations, now_us())
            fleet, intake = Fleet(store, vault, openapi.version_of_product()), Intake(store, _us(config.enrich_wait_s))
            await fleet.start()
            listeners = Listeners(fleet, _ice(config))
            state = State(
                config,
                store,
                vault,
                workers,
                access,
                broker,
                failures={},
                intake=intake,
                fleet=fleet,
                recordings=recordings,
                listeners=listeners,
            )
            async with _tasks(state):
                yield state
            await state.intake.close()
            try:
                async with asyncio.timeout(_LAST_ATTEMPTS_S):
                    await outbox.give_back(store, store.name, now_us())
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("leases are not given back, they end by themselves", error=brief(error))
    finally:
        await store.close()


async def _workers(
    config: ControlConfig, store: Store, access: Access, broker: Broker, sessions: AsyncExitStack, vault: Vault, recordings: Recordings
) -> Workers:
    """One worker for the evaluator, one for recordings and one for each webhook. `sessions` closes what they send with."""
    waits = outbox.Patience(_us(config.enrich_wait_s), _us(config.enrich_max_s))
    timeout_s = config.evaluator.timeout_s

    def worker(name: str, destination: Destination, key_of: Callable[[bytes | None], str | None], timeout_s: float) -> Worker:
        lease_s = timeout_s + _LEASE_MARGIN_S
        told = broker.call_changed
        return Worker(store, name, destination, key_of, owner=store.name, waits=waits, lease_s=lease_s, changed=told, seal=vault.seal)

    connector = aiohttp.TCPConnector(resolver=NoMetadata(DefaultResolver()))
    session = await sessions.enter_async_context(aiohttp.ClientSession(connector=connector, auto_decompress=True))
    tuner = Tuner(session, config.evaluator.base_url, timeout_s, _now)

    async def outward(*, allow_private: bool) -> aiohttp.ClientSession:
        resolver = (NoMetadata if allow_private else PublicOnly)(DefaultResolver())
        return await sessions.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)))

    private = config.evaluator.upload.allow_private
    uploader = upload.Uploader(await outward(allow_private=private), recordings, _now, allow_private=private)
    others = [worker(upload.DESTINATION, uploader, vault.open, upload.TIMEOUT_S)]
    for hook in config.webhooks:
        own = await outward(allow_private=hook.allow_private)
        receiver = webhook.Webhook(own, hook.url, hook.key, _WEBHOOK_S, _now)
        others.append(worker(webhook.destination(hook.url), receiver, lambda _: None, _WEBHOOK_S))
    return Workers(worker(DESTINATION, tuner, access.delivery_key, timeout_s), others)


@asynccontextmanager
async def _tasks(state: State) -> AsyncIterator[None]:
    sweep = sweeper.run(state.store, _policy(state.config), state.broker.call_changed, state.worker.wake, _SWEEP_S, state.recordings)
    outbox_task = asyncio.create_task(state.worker.run(), name="outbox")
    fleet_task = asyncio.create_task(state.fleet.run(), name="fleet")
    tasks = [outbox_task, asyncio.create_task(sweep, name="sweeper"), fleet_task]
    if not state.store.single_process:
        state.listener = Listener(state.store, state.broker.call_changed, lambda: bool(state.broker.describe()["watchers"]))
        tasks.append(asyncio.create_task(state.listener.run(), name="listener"))

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            state.failures[task.get_name()] = f"{type(error).__name__}: {error}"
            log.error("task stopped", task=task.get_name(), exc_info=error)

    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        state.worker.stop()
        await asyncio.wait({outbox_task}, timeout=_LAST_ATTEMPTS_S)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_LAST_ATTEMPTS_S)  # a database that says nothing holds up even who gives up


def _ice(config: ControlConfig) -> list[IceServer]:
    servers = config.listen_in.ice_servers
    secret = (None if server.credential is None else server.credential.get_secret_value() for server in servers)
    return [IceServer(urls=server.urls, username=server.username, credential=word) for server, word in zip(servers, secret, strict=True)]


def _us(seconds: float) -> int:
    return int(seconds * SECOND)


def _now() -> datetime:
    return datetime.now(UTC)


def _policy(config: ControlConfig) -> sweeper.Policy:
    evaluator = config.evaluator
    sender = None
    if evaluator.key is not None and evaluator.workspace_id is not None and evaluator.agent_id is not None:
        sender = Sender(str(evaluator.workspace_id), evaluator.agent_id)
    retention = config.retention
    return sweeper.Policy(
        grace_us=_us(config.wire_only.grace_s),
        keep_us=_us(retention.days * _DAY_S),
        wire_sender=sender,
        wire_only=config.wire_only.enabled,
        keep_recordings_us=_us(retention.recordings_days * _DAY_S),
        keep_messages_us=_us((retention.messages_days or 0) * _DAY_S),
        keep_sidecars_us=_us(retention.sidecars_days * _DAY_S),
        keep_audit_us=_us(retention.audit_days * _DAY_S),
    )


@asynccontextmanager
async def serving(config: ControlConfig) -> AsyncIterator[str]:
    """Control, listening; gives its base URL, with the real port when the configured one is 0. Raises StartupError.

    Leaving the block stops accepting, lets requests under way finish, and closes the store.
    """
    host, port = split_address(config.listen)
    sock = _bind(host, port)
    try:
        runner = Runner(create_app(config), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        try:
            await runner.setup()
            tls = config.tls.context() if config.tls is not None else None
            await web.SockSite(runner, sock, ssl_context=tls).start()
            shown = f"[{host}]" if ":" in host else host
            async with _webhook(config.inject):
                yield f"{'https' if tls is not None else 'http'}://{shown}:{sock.getsockname()[1]}"
        finally:
            await runner.cleanup()
    finally:
        sock.close()


@asynccontextmanager
async def _webhook(settings: Inject | None) -> AsyncIterator[None]:
    """The admission webhook, where one is configured."""
    if settings is None:
        yield
        return
    sock = _bind(*split_address(settings.listen))
    try:
        async with serving_webhook(settings, sock) as url:
            log.info("webhook ready", url=url)
            yield
    finally:
        sock.close()


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket, before anything else is begun: a busy port must not cost a migration."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise StartupError(f"listen: {host} is no address of this machine: {error.strerror}") from None
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise StartupError(f"listen: {host}:{port} cannot be used: {error.strerror}") from None
    return sock


async def run(config: ControlConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartupError."""
    if not structlog.is_configured():  # the command line may have its own form
        setup_logging()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving(config) as url:
            log.info("ready", url=url, database=config.database.split("://", 1)[0], evaluator=config.evaluator.base_url)
            await stop.wait()
            log.info("stopping")
        log.info("stopped")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def setup_logging() -> None:
    """Structured lines on stderr: JSON, or coloured text on a terminal."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            name_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback, repr_native_str=True)
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def main(path: str | None) -> int:
    """Run control from a configuration file; the exit status. A start that fails prints one line."""
    try:
        asyncio.run(run(load(path)))
    except StartupError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    return 0


__all__ = ["create_app", "main", "run", "serving", "setup_logging"]
