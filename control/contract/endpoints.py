"""Addresses of media as an agent may state them, compared with those of a call."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from contextlib import suppress

_PORT = re.compile(r"[0-9]{1,5}")


def same_address(stated: str, known: Iterable[str]) -> bool:
    """Whether `stated` is one of the addresses `known`, which are `host:port`.

    An IPv6 host may come in any of its forms, in brackets. A port alone, as an agent knows that listens on every address, fits any host,
    and a host alone any port.
    """
    wanted = _split(stated)
    return any(wanted[0] in (None, host) and wanted[1] in (None, port) for host, port in map(_split, known))


def _split(text: str) -> tuple[str | None, str | None]:
    """Host, comparable, and port; None for one that is not given."""
    text = text.strip().lower()
    if _PORT.fullmatch(text):
        return None, str(int(text))
    host, port = text, None
    if not text.endswith("]") and ":" in text:
        host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    with suppress(ValueError):  # a name is compared as it is
        host = str(ipaddress.ip_address(host))
    return host, str(int(port)) if port is not None and _PORT.fullmatch(port) else port
