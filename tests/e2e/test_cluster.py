"""Two sidecars behind Kamailio, two rtpengines, two controls, one PostgreSQL: each is killed once, in the middle of calls.

What is set up after a kill succeeds, and of every call that reached a sidecar the finished trace arrives.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.support import dispatcher, postgres
from tests.support.product import Product, free_port, loopback, running, until
from tests.support.rtpengine import Rtpengine, start
from tests.support.sipp import Sipp

pytestmark = [pytest.mark.peer, pytest.mark.load]

POOL = Path(__file__).parents[2] / "configs" / "pool"
CALLS, HOLD_MS = 6, 800
MOST = 10_000
TOKENS = {"sidecar": "sidecars-of-the-cluster-" + "s" * 20, "read": "people-of-the-cluster-" + "p" * 20}


class Cluster:
    """Each part on a loopback address of its own. `kill[name]()` ends one without a goodbye, `revive[name]()` starts it again."""

    def __init__(self, folder: Path, stack: ExitStack, database: postgres.Server) -> None:
        self.folder, self.stack, self.database = folder, stack, database
        self.numbers = count(1)
        self.kill: dict[str, Callable[[], object]] = {}
        self.revive: dict[str, Callable[[], object]] = {}
        self.edge, self.proxy = loopback(), loopback()
        self.edge_port, self.proxy_port = free_port(self.edge), free_port(self.proxy)
        self.database_of()
        self.controls = [loopback(), loopback()]
        self.api_port = free_port(self.controls[0], socket.SOCK_STREAM)
        for number, host in enumerate(self.controls):
            self.product("control", f"control {number}", self.control_settings(host))
        self.relays = [self.relay(f"rtpengine {number}") for number in (0, 1)]
        self.sidecars = [(host, free_port(host)) for host in (loopback(), loopback())]
        prefix = self.names()
        for number, (host, port) in enumerate(self.sidecars):
            self.product("sidecar", f"sidecar {number}", self.sidecar_settings(f"edge-{number}", host, port), prefix)
        self.kamailio()
        agent = Sipp("agent", folder, self.edge, self.edge_port, calls=MOST)
        stack.callback(agent.stop)

    # -- parts -------------------------------------------------------------------------------------------------------------------------

    def database_of(self) -> None:
        self.database.sql("CREATE DATABASE cluster")

        def kill() -> None:
            assert self.database.process is not None
            self.database.process.send_signal(signal.SIGQUIT)  # at once, without a checkpoint, and its children with it
            self.database.process.wait(10)

        self.kill["PostgreSQL"], self.revive["PostgreSQL"] = kill, self.database.start

    def control_settings(self, host: str) -> dict[str, Any]:
        settings: dict[str, Any] = yaml.safe_load((POOL / "control.yaml").read_text(encoding="utf-8"))
        return settings | {
            "listen": f"{host}:{self.api_port}",
            "database": self.database.url("cluster"),
            "tokens": [
                {"name": "sidecars", "token": TOKENS["sidecar"], "scopes": ["sidecar"]},
                {"name": "people", "token": TOKENS["read"], "scopes": ["read"]},
            ],
            "secret_key_file": str(self.secret("secret-key", "T" * 43 + "=")),
            "evaluator": {},
        }

    def secret(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        file.chmod(0o600)
        return file

    def sidecar_settings(self, name: str, host: str, port: int) -> dict[str, Any]:
        settings: dict[str, Any] = yaml.safe_load((POOL / "sidecar.yaml").read_text(encoding="utf-8"))
        settings["media"]["rtpengine"]["servers"] = [relay.server for relay in self.relays]
        settings["routes"][0] |= {"target": f"sip:agent@{self.edge}:{self.edge_port}", "ping": None}
        return settings | {
            "name": name,
            "sip": {"listen": [f"udp://{host}:{port}"]},
            "callers": {"trusted": [f"{self.proxy}/32"]},
            "control": {"url": f"http://control.example.internal:{self.api_port}", "token": TOKENS["sidecar"]},
            "spool": {"path": "spool"},
            "recordings": {"path": "recordings"},
            "admin": {"listen": f"{host}:0"},
            "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 1},
        }

    def product(self, half: str, name: str, settings: dict[str, Any], prefix: list[str] | None = None) -> None:
        life = ExitStack()
        self.stack.callback(life.close)
        alive: list[Product] = []

        def begin() -> None:
            alive[:] = [life.enter_context(running(half, self.folder / name, settings, prefix or []))]

        begin()
        self.kill[name], self.revive[name] = lambda: alive[0].kill(), begin

    def relay(self, name: str) -> Rtpengine:
        alive = [start(self.folder / name, host := loopback(), port := free_port(host))]
        self.stack.callback(lambda: alive[0].kill())

        def begin() -> None:
            alive[:] = [start(self.folder / name, host, port)]

        self.kill[name], self.revive[name] = lambda: alive[0].kill(), begin
        return alive[0]

    def kamailio(self) -> None:
        sidecars = [f"{host}:{port}" for host, port in self.sidecars]

        def begin() -> subprocess.Popen[bytes]:
            return dispatcher.start(self.folder / "kamailio", self.proxy, self.proxy_port, sidecars)

        alive = [begin()]

        def kill() -> None:
            os.killpg(alive[0].pid, signal.SIGKILL)
            alive[0].wait()

        self.stack.callback(lambda: alive[0].poll() is None and kill())
        self.kill["Kamailio"] = kill
        self.revive["Kamailio"] = lambda: alive.__setitem__(0, begin())

    def names(self) -> list[str]:
        """A prefix that has a command find both controls under one name, as a name server would tell it."""
        hosts = self.folder / "hosts"
        hosts.write_text("".join(f"{host} control.example.internal\n" for host in self.controls) + Path("/etc/hosts").read_text())
        unshare = shutil.which("unshare")
        assert unshare is not None
        return [unshare, "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]

    # -- calls -------------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def calls(self, hold_ms: int = HOLD_MS) -> Iterator[Sipp]:
        host = loopback()
        options = ["-r", str(CALLS), "-s", "agent", "-d", str(hold_ms)]
        target = f"{self.proxy}:{self.proxy_port}"
        folder = self.folder / f"calls {next(self.numbers)}"
        dialler = Sipp("caller", folder, host, free_port(host), calls=CALLS, options=options, target=target)
        try:
            yield dialler
        finally:
            dialler.stop()

    def ids(self, dialler: Sipp) -> set[str]:
        """The Call-IDs that SIPp makes."""
        host = dialler.process.args[dialler.process.args.index("-i") + 1]  # type: ignore[union-attr,index,operator]
        return {f"{number}-{dialler.process.pid}@{host}" for number in range(1, CALLS + 1)}

    def known(self) -> list[dict[str, Any]]:
        """The calls as a replica that answers tells them."""
        for host in self.controls:
            asked = Request(f"http://{host}:{self.api_port}/v1/calls?limit=200", headers={"Authorization": f"Bearer {TOKENS['read']}"})
            try:
                with urlopen(asked, timeout=10) as answer:
                    found: list[dict[str, Any]] = json.load(answer)["calls"]
                    return found
            except (URLError, ConnectionError, TimeoutError):
                continue
        return []


def test_each_part_is_killed_once_and_the_calls_after_it_succeed(tmp_path: Path) -> None:
    with postgres.server(durable=True) as database, ExitStack() as stack:
        cluster = Cluster(tmp_path, stack, database)
        with cluster.calls() as first:
            assert first.wait(20).successful == CALLS
            good = cluster.ids(first)
        for part in list(cluster.kill):
            with cluster.calls(hold_ms=2000) as during:
                time.sleep(1.2)  # all of them are up
                cluster.kill[part]()
                if part == "Kamailio":  # there is one; whoever supervises it starts it again
                    cluster.revive[part]()
                    time.sleep(0.5)
                with cluster.calls() as after:
                    figures = after.wait(30)
                    assert (figures.successful, figures.failed) == (CALLS, 0), f"after {part} was killed: {figures} {after.errors()}"
                    good |= cluster.ids(after)
                if part != "Kamailio":
                    cluster.revive[part]()
                if not part.startswith("sidecar"):  # of those its own calls are over, and their parties wait in vain
                    assert during.wait(20).successful == CALLS, f"{part} was killed in them: {during.errors()}"
                    good |= cluster.ids(during)
        until("every finished trace", lambda: good <= {call["sip_call_id"] for call in cluster.known() if call["complete"]})
        told = cluster.known()
        assert [call["id"] for call in told if not call["complete"]] == []
        ended = {call["sip_call_id"]: call["reason"] for call in told if call["reason"] == "completed"}
        assert good <= ended.keys()
        assert any(call["reason"] == "interrupted" for call in told), "the calls of a killed sidecar are told, too"
