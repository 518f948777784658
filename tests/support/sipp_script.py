"""Scenarios for SIPp, written as steps: what one end sends and what it insists on seeing. Both ends of a case stand beside each other.

A scenario fails a call at the first message that is not the one expected, or whose header does not match what a step demands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self
from xml.sax.saxutils import quoteattr

AUDIO = "m=audio [media_port] RTP/AVP 0\na=rtpmap:0 PCMU/8000"
Headers = Mapping[str, str]


def sdp(*media: str, version: int = 1, address: str = "[media_ip]") -> str:
    """A description with these media sections."""
    lines = [
        "v=0",
        f"o=- 1 {version} IN IP[media_ip_type] [media_ip]",
        "s=-",
        f"c=IN IP[media_ip_type] {address}",
        "t=0 0",
        *(media or (AUDIO,)),
    ]
    return "\n".join(lines)


class Script:
    """The steps of one end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._steps: list[str] = []
        self._variables: list[str] = []
        self._invite_at = 0
        self._cseq = 0
        self._invite_cseq = 0
        self._dials = False
        """An INVITE of ours is open: its 200 names the way to the other side."""

    # -- sending -----------------------------------------------------------------------------------------------------------------------

    def answer(
        self, status: int, headers: Headers | None = None, body: str = "", *, tag: str = "a", contact: bool = True, to_tag: bool = False
    ) -> Self:
        """Answer the last request. `to_tag`: it began the dialog, so its To gets our tag."""
        lines = [f"SIP/2.0 {status} Said So", "[last_Via:]", "[last_Record-Route:]", "[last_From:]"]
        lines += [f"[last_To:];tag=[pid]{tag}[call_number]" if to_tag else "[last_To:]", "[last_Call-ID:]", "[last_CSeq:]"]
        if contact and 100 < status < 300:
            lines.append("Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>")
        return self._send(lines, headers, body, again=to_tag and status >= 200)

    def _send(self, lines: list[str], headers: Headers | None, body: str, *, again: bool) -> Self:
        lines = [*lines, *(f"{name}: {value}" for name, value in (headers or {}).items())]
        if body and "Content-Type" not in (headers or {}):
            lines.append("Content-Type: application/sdp")
        lines.append("Content-Length: [len]")
        text = "\n".join([*lines, "", *(body.split("\n") if body else [""])])
        indented = "\n".join(f"      {line}" for line in text.split("\n"))
        retrans = ' retrans="500"' if again else ""
        self._steps.append(f"  <send{retrans}>\n    <![CDATA[\n{indented}\n\n    ]]>\n  </send>")
        return self

    # -- hearing -----------------------------------------------------------------------------------------------------------------------

    def hear(self, what: int | str, checks: Headers | None = None, *, optional: bool = False, absent: str = "") -> Self:
        """The next message: a status or a method. `checks`: a pattern for each of these headers, or for `body` or `message`.

        `absent`: a header that must not be there.
        """
        kind = f'response="{what}"' if isinstance(what, int) else f'request="{what}"'
        dialog = ' rrs="true"' if what == "INVITE" or (what == 200 and self._dials) else ""
        self._dials = self._dials and (not isinstance(what, int) or what < 200)
        actions = [self._check(name, pattern) for name, pattern in (checks or {}).items()]
        if absent:
            actions.append(self._check(absent, ".", negative=True))
        self._step(kind, dialog, actions, optional=optional)
        return self

    def _step(self, kind: str, dialog: str, actions: list[str], *, optional: bool = False) -> None:
        flag = ' optional="true"' if optional else ""
        inner = "\n    <action>\n" + "\n".join(f"      {action}" for action in actions) + "\n    </action>\n  </recv>" if actions else ""
        self._steps.append(f"  <recv {kind}{flag}{dialog}" + (f">{inner}" if actions else "/>"))

    def _check(self, name: str, pattern: str, *, negative: bool = False) -> str:
        variable = f"v{len(self._variables)}"
        self._variables.append(variable)
        demand = 'check_it_inverse="true"' if negative else 'check_it="true"'
        where = {"body": 'search_in="body"', "message": 'search_in="msg"'}.get(name, f'search_in="hdr" header="{name}:"')
        return f"<ereg regexp={quoteattr(pattern)} {where} {demand} assign_to={quoteattr(variable)}/>"

    def remember(self, variable: str, name: str, pattern: str) -> str:
        """An action that keeps part of a header as `[$variable]`."""
        self._variables.append(variable)
        return f'<ereg regexp={quoteattr(pattern)} search_in="hdr" header="{name}:" check_it="true" assign_to="{variable}"/>'

    def pause(self, milliseconds: int) -> Self:
        """Wait."""
        self._steps.append(f'  <pause milliseconds="{milliseconds}"/>')
        return self

    def write(self, folder: Path) -> Path:
        """The scenario as SIPp reads it."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.name}.xml"
        known = f'\n  <Reference variables="{",".join(dict.fromkeys(self._variables))}"/>' if self._variables else ""
        text = "\n".join(self._steps)
        file.write_text(f'<?xml version="1.0" encoding="UTF-8" ?>\n<scenario name="{self.name}">\n{text}{known}\n</scenario>\n')
        return file


class Caller(Script):
    """Who dials."""

    FROM = "From: <sip:evaluator@[local_ip]:[local_port]>;tag=[pid]c[call_number]"

    def _head(self, method: str, cseq: int, uri: str, to: str, branch: str = "[branch]") -> list[str]:
        lines = [f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}", "Max-Forwards: 70"]
        return [*lines, self.FROM, to, "Call-ID: [call_id]", f"CSeq: {cseq} {method}"]

    def invite(self, headers: Headers | None = None, body: str | None = None) -> Self:
        """Dial. `body`: a description, "" for none."""
        self._invite_at, self._cseq = len(self._steps), self._cseq + 1
        self._invite_cseq, self._dials = self._cseq, True
        lines = self._head("INVITE", self._cseq, "sip:[service]@[remote_ip]:[remote_port]", "To: <sip:[service]@[remote_ip]:[remote_port]>")
        lines.append("Contact: <sip:evaluator@[local_ip]:[local_port];transport=[transport]>")
        return self._send(lines, headers, sdp() if body is None else body, again=True)

    def ask(self, method: str, headers: Headers | None = None, body: str = "") -> Self:
        """A request inside the dialog."""
        self._cseq += 1
        if method == "INVITE":
            self._invite_at, self._invite_cseq, self._dials = len(self._steps), self._cseq, True
        lines = [*self._inside(method, self._cseq), "Contact: <sip:evaluator@[local_ip]:[local_port];transport=[transport]>"]
        return self._send(lines, headers, body, again=True)

    def _inside(self, method: str, cseq: int) -> list[str]:
        head = self._head(method, cseq, "[next_url]", "To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]")
        return [head[0], head[1], "[routes]", *head[2:]]

    def ack(self, body: str = "") -> Self:
        """ACK the 200."""
        return self._send(self._inside("ACK", self._invite_cseq), None, body, again=False)

    def ack_refusal(self) -> Self:
        """ACK a final response that is no 2xx, within the INVITE's transaction."""
        back = len(self._steps) - self._invite_at
        head = self._head("ACK", self._invite_cseq, "sip:[service]@[remote_ip]:[remote_port]", "[last_To:]", f"[branch-{back}]")
        return self._send(head, None, "", again=False)

    def prack(self, body: str = "") -> Self:
        """Hear a reliable 183 and acknowledge it; `body`: with an offer."""
        self._step('response="183"', ' rrs="true"', [self.remember("rseq", "RSeq", "[0-9]+")])
        self.ask("PRACK", {"RAck": f"[$rseq] {self._invite_cseq} INVITE"}, body)
        return self.hear_to("PRACK", 200)

    def hear_to(self, method: str, status: int) -> Self:
        """The answer to a request that came before that of the INVITE."""
        self._step(f'response="{status}"', "", [self._check("CSeq", method)])
        return self

    def up(self, headers: Headers | None = None, answer: Headers | None = None) -> Self:
        """A call that is answered. `answer`: what the 200 must have."""
        self.invite(headers).hear(100, optional=True).hear(180, optional=True).hear(200, answer)
        return self.ack()

    def hang_up(self) -> Self:
        """BYE and its answer."""
        return self.ask("BYE").hear(200)

    def hung_up_on(self, checks: Headers | None = None) -> Self:
        """The other side's BYE."""
        return self.hear("BYE", checks).answer(200, contact=False)


class Agent(Script):
    """Who is dialled."""

    def rings(self, checks: Headers | None = None, *, absent: str = "") -> Self:
        """Take the INVITE."""
        actions = [self.remember("caller", "From", ".*"), self.remember("called", "To", "<[^>]*>")]
        actions += [self.remember("via", "Via", ".*"), self.remember("cseq", "CSeq", ".*")]
        actions += [self._check(name, pattern) for name, pattern in (checks or {}).items()]
        if absent:
            actions.append(self._check(absent, ".", negative=True))
        self._step('request="INVITE"', ' rrs="true"', actions)
        return self

    def says(self, status: int, headers: Headers | None = None, body: str = "", *, tag: str = "a") -> Self:
        """An answer to the INVITE that began the dialog."""
        return self.answer(status, headers, body, tag=tag, to_tag=True)

    def late(self, status: int, body: str = "", *, tag: str = "a", again: bool = True) -> Self:
        """A final answer to the INVITE after other requests came: from what was noted of it, not from the last message."""
        lines = [f"SIP/2.0 {status} Said So", "Via:[$via]", "From:[$caller]", "To: [$called];tag=[pid]" + tag + "[call_number]"]
        lines += ["Call-ID: [call_id]", "CSeq:[$cseq]", "Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>"]
        return self._send(lines, None, body, again=again)

    def up(self, headers: Headers | None = None, checks: Headers | None = None) -> Self:
        """Answer at once."""
        return self.rings(checks).says(180).says(200, headers, sdp()).hear("ACK")

    def ask(self, method: str, headers: Headers | None = None, body: str = "") -> Self:
        """A request inside the dialog."""
        self._cseq += 1
        if method == "INVITE":
            self._invite_at, self._invite_cseq, self._dials = len(self._steps), self._cseq, True
        lines = [*self._inside(method, self._cseq), "Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>"]
        return self._send(lines, headers, body, again=True)

    def _inside(self, method: str, cseq: int, branch: str = "[branch]") -> list[str]:
        lines = [f"{method} [next_url] SIP/2.0", f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}", "[routes]"]
        lines += ["Max-Forwards: 70", "From: [$called];tag=[pid]a[call_number]", "To:[$caller]"]
        return [*lines, "Call-ID: [call_id]", f"CSeq: {cseq} {method}"]

    def ack(self, body: str = "") -> Self:
        """ACK a 200 of the other side's."""
        return self._send(self._inside("ACK", self._invite_cseq), None, body, again=False)

    def ack_refusal(self) -> Self:
        """ACK a refusal of the other side's."""
        back = len(self._steps) - self._invite_at
        return self._send(self._inside("ACK", self._invite_cseq, f"[branch-{back}]"), None, "", again=False)

    def hung_up_on(self, checks: Headers | None = None) -> Self:
        """The other side's BYE."""
        return self.hear("BYE", checks).answer(200, contact=False)

    def hang_up(self) -> Self:
        """BYE and its answer."""
        return self.ask("BYE").hear(200)
