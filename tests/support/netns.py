"""Hosts of a test's own: network namespaces, joined by veth pairs, gone when the test is over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any

_numbers = count(1)


class Host:
    """One namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.full = f"ts-{os.getpid()}-{name}"
        _do("ip", "netns", "add", self.full)
        self.do("ip", "link", "set", "lo", "up")

    @property
    def prefix(self) -> list[str]:
        """Runs a command on this host."""
        return ["ip", "netns", "exec", self.full]

    def do(self, *command: str, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
        """Run a command on this host; its output. Raises AssertionError with its complaint."""
        return _do(*self.prefix, *command, stdin=stdin, env=env)

    def rules(self, text: str) -> None:
        """Load nftables rules."""
        self.do("nft", "-f", "-", stdin=text)

    def count_udp(self, name: str, arriving: str) -> None:
        """Count arriving UDP datagrams that match an nftables expression."""
        self.rules(
            f"table inet t_{name} {{\ncounter {name} {{ }}\nchain in {{\ntype filter hook input priority 0; policy accept;\n"
            f"{arriving} counter name {name}\n}}\n}}"
        )

    def counted(self, name: str) -> int:
        """How many there were."""
        listed = json.loads(self.do("nft", "-j", "list", "counter", "inet", f"t_{name}", name))
        packets: int = next(item["counter"]["packets"] for item in listed["nftables"] if "counter" in item)
        return packets

    def close(self) -> None:
        """Remove it with its interfaces."""
        _do("ip", "netns", "del", self.full)


def link(one: Host, its: str, other: Host, others: str) -> tuple[str, str]:
    """Join two hosts; `its` and `others` are address/prefix. Returns the interfaces' names."""
    number = next(_numbers)
    left, right = f"v{number}a", f"v{number}b"
    _do("ip", "link", "add", left, "netns", one.full, "type", "veth", "peer", "name", right, "netns", other.full)
    for host, interface, address in ((one, left, its), (other, right, others)):
        # IPv6 would first ask whether somebody else has the address.
        host.do("ip", "address", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))
        host.do("ip", "link", "set", interface, "up")
    return left, right


@contextmanager
def cut(*ends: tuple[Host, str]) -> Iterator[None]:
    """What arrives at these ends of a link is lost; senders are told nothing, as with a cut wire."""
    for host, interface in ends:
        host.rules(f'table netdev cut {{\nchain in {{\ntype filter hook ingress device "{interface}" priority 0; policy drop;\n}}\n}}')
    try:
        yield
    finally:
        for host, _ in ends:
            host.do("nft", "delete", "table", "netdev", "cut")


@cache
def why_not() -> str | None:
    """Why namespaces cannot be made here; None when they can."""
    if os.geteuid() != 0:
        return "not root: network namespaces need CAP_NET_ADMIN"
    missing = [program for program in ("ip", "nft") if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        host = Host("probe")
    except AssertionError as error:
        return f"no network namespaces here: {error}"
    try:
        host.rules("table inet probe {\nchain c {\ntype nat hook prerouting priority dstnat; policy accept;\n}\n}")
    except AssertionError as error:
        return f"no packet filter here: {error}"
    finally:
        host.close()
    return None


def _do(*command: str, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **(env or {})})
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


def json_of(host: Host, url: str) -> Any:
    """A GET on this host."""
    program = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=10).read().decode())"
    return json.loads(host.do("python3", "-c", program, url))
