"""The parent of several sidecars, with real processes."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from pathlib import Path

import yaml

from sidecar.config import load
from sidecar.net.sharing import Handed, Share, packed
from sidecar.net.transport import Transports
from sidecar.net.udp import bound
from sidecar.sip.endpoint import Endpoint
from sidecar.workers import Workers


def parent(folder: Path, count: int) -> Workers:
    config = folder / "sidecar.yaml"
    settings = {
        "sip": {"listen": ["udp://127.0.0.1:0"]},
        "routes": [{"name": "agent", "target": "sip:agent@127.0.0.1:9"}],
        "control": {"url": "http://127.0.0.1:9"},
        "spool": {"path": str(folder / "spool")},
        "admin": {"listen": "127.0.0.1:0"},
        "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
    }
    config.write_text(yaml.safe_dump(settings))
    return Workers(load(config), config, count)


async def test_a_worker_that_is_being_started_hears_of_the_stop(tmp_path: Path) -> None:
    workers = parent(tmp_path, 2)
    running = asyncio.create_task(workers.run())
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = children.read_text()
    while children.read_text() == before:
        await asyncio.sleep(0)
    workers.stop()
    await asyncio.wait_for(running, 20)


async def test_a_worker_that_cannot_be_started_now_is_tried_again(tmp_path: Path) -> None:
    workers = parent(tmp_path, 2)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    running = asyncio.create_task(workers.run())
    await asyncio.sleep(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 3, limit[1]))
    try:
        await asyncio.sleep(0.3)
        assert not running.done()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    workers.stop()
    await asyncio.wait_for(running, 20)


async def test_what_waits_for_a_worker_counts_as_waiting() -> None:
    parents, own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    share = Share(own.detach(), [bound(("127.0.0.1", 0)).detach()])
    transports = Transports(lambda *_: None, lambda *_: None, lambda *_: None, share=share)
    with parents:
        await transports.open([Endpoint("udp", ("127.0.0.1", 0))])
        assert transports.waiting() == 0
        for _ in range(20):
            parents.send(packed(Handed(0, ("127.0.0.1", 5060), b"x" * 1000)))
        assert transports.waiting() > 20 * 1000
        await transports.aclose()
