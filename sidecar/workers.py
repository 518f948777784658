"""Several sidecars of one host behind the same UDP addresses: what each has of the configuration, and who starts and feeds them."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from sidecar.config import SidecarConfig, parse_listen
from sidecar.net.errors import StartError
from sidecar.net.sharing import LARGEST, READY, Handed, Share, call_id_of, packed, worker_of
from sidecar.net.udp import MSG_ERRQUEUE, bound
from sidecar.sip.endpoint import Endpoint

log = structlog.get_logger()

_AT_ONCE = 64
"""Datagrams that are handed on before the event loop sees to anything else."""
_AGAIN_AFTER = 1.0
"""Seconds before a worker that died is started again."""
_FEED = 4 << 20
"""Octets that may wait for a worker, as for a socket of its own."""
_PORTS_A_CALL = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A worker's place among the workers: `number` from 1 on."""

    number: int
    count: int
    share: Share | None = None

    def of(self, config: SidecarConfig) -> SidecarConfig:
        """The worker's own configuration: everything that two processes cannot have in common is divided or numbered."""
        low, high = config.media.ports
        low += -low % 2
        size = (high - low + 1) // self.count // _PORTS_A_CALL * _PORTS_A_CALL
        first = low + (self.number - 1) * size
        host, port = parse_listen(config.admin.listen)
        admin = f"{f'[{host}]' if ':' in host else host}:{port + self.number - 1 if port else 0}"
        folder = f"worker-{self.number}"
        return config.model_copy(
            update={
                "name": f"{config.name}.{self.number}",
                "media": config.media.model_copy(update={"ports": (first, first + size - 1)}),
                "spool": config.spool.model_copy(update={"path": config.spool.path / folder}),
                "recordings": config.recordings.model_copy(update={"path": config.recordings.path / folder}),
                "admin": config.admin.model_copy(update={"listen": admin}),
            }
        )

    def mine(self, call_id: str) -> bool:
        """Whether what is said under this Call-ID comes to this worker."""
        return worker_of(call_id.encode(), self.count) == self.number - 1


def check(config: SidecarConfig, count: int) -> None:
    """Raises StartError where a configuration cannot be divided."""
    for endpoint in config.sip.endpoints:
        if endpoint.transport != "udp":
            raise StartError(
                f"--workers shares udp:// addresses alone: take {endpoint} out of sip.listen, or put a dispatcher before several sidecars"
            )
    low, high = config.media.ports
    if (high - low + 1) // count < 2 * _PORTS_A_CALL:
        raise StartError(f"media.ports [{low}, {high}] is too narrow for {count} workers; widen it")
    for folder in sorted(config.spool.path.glob("worker-*")):
        number = folder.name.removeprefix("worker-")
        if number.isdigit() and int(number) > count and any(folder.glob("*.jsonl")):
            log.error("traces of a worker that is no more", spool=str(folder), mend=f"run once with --workers {number}")


class _Worker:
    """One process, from its start to its end."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.feed: socket.socket | None = None
        self.is_ready = asyncio.Event()


class Workers:
    """The parent: it reads the sockets, hands on what comes, and starts a worker again that died."""

    def __init__(self, config: SidecarConfig, path: Path, count: int) -> None:
        self._config, self._path = config, path
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._sockets: list[socket.socket] = []
        self._stopping = asyncio.Event()
        self._failed = ""
        self.dropped = 0
        """Datagrams for a worker that was not there, or too far behind."""

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then the workers drain. Raises StartError."""
        check(self._config, len(self._workers))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._tell, signal.SIGHUP)
        try:
            for endpoint in self._config.sip.endpoints:
                self._sockets.append(_opened(endpoint))
            for index, sock in enumerate(self._sockets):
                loop.add_reader(sock, self._read, index, sock)
            async with asyncio.TaskGroup() as tasks:
                for worker in self._workers:
                    tasks.create_task(self._supervise(worker), name=f"worker {worker.number}")
                tasks.create_task(self._tell_ready(), name="ready")
        finally:
            for sock in self._sockets:
                loop.remove_reader(sock)
                sock.close()
        if self._failed:
            raise StartError(self._failed)
        log.info("stopped", workers=len(self._workers), datagrams_dropped=self.dropped)

    async def _tell_ready(self) -> None:
        ready = asyncio.gather(*(worker.is_ready.wait() for worker in self._workers))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((ready, stopping), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            sip = [f"udp://{host}:{port}" for host, port in (sock.getsockname()[:2] for sock in self._sockets)]
            log.info("workers ready", name=self._config.name, sip=sip, workers=len(self._workers))
        for waiting in (ready, stopping):
            waiting.cancel()
        await asyncio.gather(ready, stopping, return_exceptions=True)

    # -- processes ---------------------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Have all workers drain, then end."""
        self._stopping.set()
        self._tell(signal.SIGTERM)

    def _tell(self, number: int) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                worker.process.send_signal(number)

    async def _supervise(self, worker: _Worker) -> None:
        while not self._stopping.is_set():
            try:
                status = await self._live(worker)
            except OSError as error:  # no process or descriptor is left for now: the other workers go on
                log.error("worker not started", worker=worker.number, cause=error.strerror or str(error))
                status = 1
            if self._stopping.is_set():
                return
            if status == 2 and not worker.is_ready.is_set():  # it has said why
                self._failed = f"worker {worker.number} cannot start"
                self.stop()
                return
            log.error("worker died", worker=worker.number, status=status, consequence="its calls are lost; it is started again")
            try:
                async with asyncio.timeout(_AGAIN_AFTER):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _live(self, worker: _Worker) -> int:
        """One life of a worker; its exit status. Raises OSError where it cannot begin."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _FEED)
        shared = ",".join(str(sock.fileno()) for sock in self._sockets)
        command = [sys.executable, "-m", "sidecar.cli", "sidecar", "--config", str(self._path)]
        command += ["--worker", f"{worker.number}/{len(self._workers)}", "--feed", str(theirs.fileno()), "--sockets", shared]
        inherited = (theirs.fileno(), *(sock.fileno() for sock in self._sockets))
        try:
            with theirs:
                worker.process = await asyncio.create_subprocess_exec(*command, pass_fds=inherited)
        except OSError:
            ours.close()
            raise
        if self._stopping.is_set() and worker.process.returncode is None:  # told to stop meanwhile, of which this one has not heard
            worker.process.send_signal(signal.SIGTERM)
        worker.feed = ours
        loop.add_reader(ours, self._heard, worker)
        try:
            return await worker.process.wait()
        finally:
            worker.feed = None
            loop.remove_reader(ours)
            ours.close()

    def _heard(self, worker: _Worker) -> None:
        if worker.feed is None:
            return
        try:
            said = worker.feed.recv(64)
        except (BlockingIOError, ConnectionResetError):
            return
        if said == READY:
            worker.is_ready.set()
        else:
            asyncio.get_running_loop().remove_reader(worker.feed)

    # -- datagrams ---------------------------------------------------------------------------------------------------------------------

    def _read(self, index: int, sock: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, peer = sock.recvfrom(LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._read_errors(index, sock)
                continue
            worker = self._workers[worker_of(call_id_of(data), len(self._workers))]
            self._hand(worker, packed(Handed(index, peer[:2], data)))

    def _read_errors(self, index: int, sock: socket.socket) -> None:
        """The queue of what did not arrive; whose it was only the workers know."""
        while True:
            try:
                _, _, _, peer = sock.recvmsg(LARGEST, 512, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return
            if peer:
                for worker in self._workers:
                    self._hand(worker, packed(Handed(index, peer[:2], None)))

    def _hand(self, worker: _Worker, frame: bytes) -> None:
        if worker.feed is None:
            self.dropped += 1
            return
        try:
            worker.feed.send(frame)
        except OSError:  # it is too far behind, or has just died: the sender repeats
            self.dropped += 1


def _opened(endpoint: Endpoint) -> socket.socket:
    try:
        return bound(endpoint.addr)
    except OSError as error:
        detail = error.strerror or str(error)
        raise StartError(f"cannot listen on {endpoint} for SIP: {detail}; change sip.listen or free the port") from error


def part_of(place: str, feed: int, sockets: Sequence[int]) -> Part:
    """A worker's place as the parent gives it on the command line."""
    number, _, count = place.partition("/")
    return Part(int(number), int(count), Share(feed, sockets))
