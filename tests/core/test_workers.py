"""Several sidecars behind one address: whose a message is, and what each has of the configuration."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config import SidecarConfig
from sidecar.net.errors import StartError
from sidecar.net.random_ids import RandomIds
from sidecar.net.sharing import Handed, call_id_of, packed, unpacked, worker_of
from sidecar.workers import Part, check

CONFIG = {"name": "edge", "routes": [{"name": "agent", "target": "sip:agent@192.0.2.20"}]}


@pytest.mark.parametrize(
    ("head", "call_id"),
    [
        (b"INVITE sip:a@b SIP/2.0\r\nCall-ID: abc@192.0.2.1\r\n\r\n", b"abc@192.0.2.1"),
        (b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\ni:x\r\n\r\n", b"x"),
        (b"BYE sip:a@b SIP/2.0\r\nX-Call-ID: no\r\nCALL-ID \t: y z \r\nCall-ID: second\r\n\r\n", b"y z"),
        (b"INVITE sip:a@b SIP/2.0\nCall-ID: lf\n\n", b"lf"),
        (b"OPTIONS sip:a@b SIP/2.0\r\nContact: <sip:a@b?Call-ID: no>\r\n\r\n", b""),
        (b"\r\n\r\n", b""),
        (b"", b""),
    ],
)
def test_a_message_is_known_by_its_call_id_in_each_of_its_forms(head: bytes, call_id: bytes) -> None:
    assert call_id_of(head) == call_id


@pytest.mark.parametrize("end", [b"", b"x", b"\r", b"\0\r\n"])
def test_a_header_of_blanks_holds_nobody_up(end: bytes) -> None:
    # Whoever tries more than one way to read this line needs hours, and the process that reads for all of them is held up by one datagram.
    assert call_id_of(b"OPTIONS sip:a@b SIP/2.0\r\ni:" + b" " * 60000 + end) == end.strip(b"\r\n")[: 1 if end.endswith(b"\n") else 0]


@settings(deadline=None)
@given(st.integers(0, 9), st.sampled_from(["192.0.2.1", "2001:db8::1", "fe80::1%eth0"]), st.integers(1, 65535), st.none() | st.binary())
def test_what_is_handed_over_arrives(index: int, host: str, port: int, data: bytes | None) -> None:
    handed = Handed(index, (host, port), data)
    assert unpacked(packed(handed)) == handed


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 16), st.integers(1024, 60000), st.integers(200, 5000))
def test_no_two_workers_have_anything_in_common(count: int, low: int, width: int) -> None:
    config = SidecarConfig(**CONFIG, media={"ports": [low, min(65535, low + width)]})
    parts = [Part(number, count).of(config) for number in range(1, count + 1)]
    ports = [set(range(part.media.ports[0], part.media.ports[1] + 1)) for part in parts]
    assert sum(map(len, ports)) == len(set.union(*ports))
    assert set.union(*ports) <= set(range(low, low + width + 1))
    assert all(part.media.ports[0] % 2 == 0 and len(own) % 4 == 0 for part, own in zip(parts, ports, strict=True))
    for value in (lambda c: c.name, lambda c: c.spool.path, lambda c: c.recordings.path, lambda c: c.admin.listen):
        assert len({value(part) for part in parts}) == count


def test_an_admin_port_that_the_kernel_chooses_stays_so() -> None:
    config = SidecarConfig(**CONFIG, admin={"listen": "[::1]:0"})
    assert Part(2, 2).of(config).admin.listen == "[::1]:0"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_call_id_of_ones_own_comes_back_to_oneself(number: int) -> None:
    part = Part(number, 3)
    ids = RandomIds(part.mine)
    assert {worker_of(ids.token().encode(), 3) for _ in range(50)} == {number - 1}


def test_what_cannot_be_shared_is_refused_in_words() -> None:
    with pytest.raises(StartError, match="--workers shares udp:// addresses alone: take tcp://"):
        check(SidecarConfig(**CONFIG, sip={"listen": ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]}), 2)
    with pytest.raises(StartError, match="too narrow for 9 workers"):
        check(SidecarConfig(**CONFIG, sip={"listen": ["udp://127.0.0.1:5060"]}, media={"ports": [30000, 30063]}), 9)
