"""Digest towards the edge on every kind of request, with every algorithm and quality, checked by an own computation (RFC 7616, 8760)."""

from __future__ import annotations

import hashlib
import re

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Credentials, DigestServer
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, OFFER
from tests.core.b2bua.types import Make

KNOWN = Credentials("sidecar", "secret")
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
ALGORITHMS = [name + sess for name in HASHES for sess in ("", "-sess")]


def asked(algorithm: str, qop: str, nonce: str = "n1") -> list[tuple[str, str]]:
    """A challenge of an edge."""
    return [("WWW-Authenticate", f'Digest realm="edge", nonce="{nonce}", opaque="o", algorithm={algorithm}, qop="{qop}"')]


def given(request: Request, header: str = "Authorization") -> dict[str, str]:
    """The credentials on a request."""
    value = request.headers.get(header) or ""
    return {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^",\s]+))', value)}


def right(request: Request, header: str = "Authorization") -> bool:
    """RFC 7616 3.4.1 to 3.4.3, by hashlib alone."""
    answer = given(request, header)
    name = answer["algorithm"].removesuffix("-sess")

    def hashed(text: bytes) -> str:
        return hashlib.new(HASHES[name], text).hexdigest()

    secret = hashed(f"sidecar:{answer['realm']}:secret".encode())
    if answer["algorithm"].endswith("-sess"):
        secret = hashed(f"{secret}:{answer['nonce']}:{answer['cnonce']}".encode())
    what = f"{request.method}:{answer['uri']}".encode()
    if answer["qop"] == "auth-int":
        what += b":" + hashed(request.body).encode()
    expected = hashed(":".join([secret, answer["nonce"], answer["nc"], answer["cnonce"], answer["qop"], hashed(what)]).encode())
    return answer["response"] == expected and answer["uri"] == request.uri and answer["opaque"] == "o"


@pytest.mark.parametrize("qop", ["auth", "auth-int"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_and_quality_on_an_invite_and_all_that_follows_it(make: Make, algorithm: str, qop: str) -> None:
    bench = make(credentials=KNOWN)
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 401, headers=asked(algorithm, qop))
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    assert right(got)
    assert given(got)["algorithm"] == algorithm
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.caller.ask("INFO", headers=[("Content-Type", "text/plain")], body=b"a body to protect")
    info = bench.edge.request("INFO")
    assert right(info)
    assert (given(got)["nc"], given(info)["nc"]) == ("00000001", "00000002")
    bench.edge.reply(info, 200)
    bench.caller.response(200)
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bye = bench.edge.request("BYE")
    assert right(bye)
    bench.edge.reply(bye, 200)


@pytest.mark.parametrize("method", ["INFO", "REFER", "INVITE", "UPDATE", "NOTIFY", "MESSAGE", "OPTIONS", "SUBSCRIBE", "PUBLISH"])
def test_every_method_that_is_challenged_first_is_sent_again_with_the_right_answer(make: Make, method: str) -> None:
    bench = make(credentials=KNOWN)
    bench.answered()
    body = OFFER if method in ("INVITE", "UPDATE") else b""
    bench.caller.ask(method, headers=[("Refer-To", "<sip:carol@192.0.2.30>")] if method == "REFER" else [], body=body)
    request = bench.caller.asked
    first = bench.edge.request(method)
    bench.edge.reply(first, 401, headers=asked("SHA-256", "auth,auth-int"))
    if method == "INVITE":
        bench.edge.request("ACK")
    again = bench.edge.request(method)
    assert right(again)
    bench.edge.reply(again, 200, body=ANSWER if body else b"")
    answer = bench.caller.response(200)
    if method == "INVITE":
        bench.caller.ack(request, answer)
        bench.edge.request("ACK")
    bench.hang_up(bench.caller)
    assert [fact.result for fact in bench.facts(e.Challenged)] == ["answered"]


def test_a_bye_of_ours_is_challenged_by_a_proxy_and_then_by_the_edge(make: Make) -> None:
    bench = make(credentials=KNOWN)
    bench.answered()
    bench.caller.ask("BYE")
    bench.caller.response(200)
    proxy = [("Proxy-Authenticate", 'Digest realm="proxy", nonce="p1", opaque="o", algorithm=MD5, qop="auth"')]
    bench.edge.reply(bench.edge.request("BYE"), 407, headers=proxy)
    second = bench.edge.request("BYE")
    assert right(second, "Proxy-Authorization")
    bench.edge.reply(second, 401, headers=asked("SHA-512-256", "auth"))
    third = bench.edge.request("BYE")
    assert right(third)
    assert right(third, "Proxy-Authorization")
    assert given(third, "Proxy-Authorization")["nc"] == "00000002"
    bench.edge.reply(third, 200)


def test_the_strongest_of_several_challenges_is_answered_and_unknown_ones_are_passed_over(make: Make) -> None:
    bench = make(credentials=KNOWN)
    sent = bench.invite()
    several = [
        ("WWW-Authenticate", 'Basic realm="edge"'),
        ("WWW-Authenticate", 'Digest realm="edge", nonce="x", algorithm=SHA3-999, qop="auth"'),
        *asked("MD5", "auth", "weak"),
        *asked("SHA-512-256", "auth", "strong"),
        *asked("SHA-256", "auth", "middle"),
    ]
    bench.edge.reply(bench.edge.request("INVITE"), 401, headers=several)
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    assert given(got)["algorithm"] in ("SHA-512-256", "SHA-256")
    assert len(got.headers.all("Authorization")) == 1
    assert right(got)
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))


@pytest.mark.parametrize("told_on", ["INVITE", "INFO", "UPDATE"])
def test_the_next_nonce_that_any_answer_names_is_used_without_being_asked(make: Make, told_on: str) -> None:
    bench = make(credentials=KNOWN)
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 401, headers=asked("SHA-256", "auth"))
    bench.edge.request("ACK")
    got = bench.edge.request("INVITE")
    info = [("Authentication-Info", 'nextnonce="n2", qop=auth, nc=00000001')]
    bench.edge.reply(got, 200, body=ANSWER, headers=info if told_on == "INVITE" else [])
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    if told_on != "INVITE":
        bench.caller.ask(told_on)
        bench.edge.reply(bench.edge.request(told_on), 200, headers=info)
        bench.caller.response(200)
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bye = bench.edge.request("BYE")
    assert (given(bye)["nonce"], given(bye)["nc"], right(bye)) == ("n2", "00000001", True)
    bench.edge.reply(bye, 200)
    assert len(bench.facts(e.Challenged)) == 1


def test_credentials_for_one_uri_do_not_open_another(make: Make) -> None:
    """RFC 7616 3.4.6, as a server: what a caller proved for one callee does not count for the next."""
    server = DigestServer("door", {"u": "p"}, b"0123456789abcdef")
    bench = make(trusted=(), digest=server)
    sent = bench.invite()
    challenge = bench.caller.response(407)
    bench.caller.ack(sent, challenge)
    nonce = re.search(r'nonce="([^"]+)"', challenge.headers.get("Proxy-Authenticate") or "")
    assert nonce is not None

    def made_for(uri: str, nc: str) -> list[tuple[str, str]]:
        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        answer = md5(":".join([md5("u:door:p"), nonce[1], nc, "c", "auth", md5(f"INVITE:{uri}")]))
        value = f'Digest username="u", realm="door", nonce="{nonce[1]}", uri="{uri}", algorithm=MD5, qop=auth, nc={nc}, cnonce="c"'
        return [("Proxy-Authorization", f'{value}, response="{answer}"')]

    wrong = bench.invite(number=18, headers=made_for("sip:cheap@192.0.2.1", "00000001"))
    bench.caller.ack(wrong, bench.caller.response(400))
    bench.edge.hears_nothing()
    taken = bench.invite(number=19, headers=made_for("sip:agent@192.0.2.1:5060;transport=udp", "00000001"))
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(taken, bench.caller.response(486))
    replayed = bench.invite(number=20, headers=made_for("sip:agent@192.0.2.1", "00000001"))
    bench.caller.ack(replayed, bench.caller.response(407))
    bench.edge.hears_nothing()
