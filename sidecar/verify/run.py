"""Runs a verification: resolve, connect, OPTIONS, the test call, and its end. What fails is explained before the rest is given up."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Protocol
from urllib.parse import quote

from sidecar.clocks import Addr, Mono
from sidecar.identity.digest import Credentials
from sidecar.net.clock import mono
from sidecar.net.dns import Resolver
from sidecar.net.tls import TlsSettings
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.message import Response
from sidecar.sip.targets import Target
from sidecar.sip.uri import SipUri
from sidecar.verify import judge
from sidecar.verify.call import Attempt, Placed
from sidecar.verify.caller import USER_AGENT, Caller, options
from sidecar.verify.elsewhere import elsewhere
from sidecar.verify.findings import Finding, finding
from sidecar.verify.reach import Reached, reach, udp_closed
from sidecar.verify.resolve import resolve
from sidecar.verify.steps import Facts, Outcome, Report, Step, StepName

TIMEOUT_S = 10.0
OPTIONS_S = 4.0
"""Many edges ignore OPTIONS; the INVITE decides."""
Progress = Callable[[Step], None]


class Probe(Protocol):
    """What looks at the call from elsewhere, such as the sidecar that it goes through."""

    headers: tuple[tuple[str, str], ...]
    """Of the INVITE."""

    async def during(self, call_id: str) -> Iterable[Step]:
        """The call is up."""
        ...

    async def after(self, call_id: str, *, answered: bool) -> Iterable[Step]:
        """The call is over."""
        ...


async def verify(
    uri: str,
    credentials: Credentials | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    resolver: Resolver | None = None,
    tls: TlsSettings = TlsSettings(),  # noqa: B008 – a frozen value
    via: Addr | None = None,
    probe: Probe | None = None,
    progress: Progress = lambda _step: None,
) -> Report:
    """Place a test call to `uri` and explain what it meets. `timeout_s` bounds each wait for an answer.

    `via`: send it over UDP to this address on the URI's behalf. `progress` hears of each step once it is done. Raises StartError when the
    files of `tls` cannot be used or no local port can be had; whatever the network does is in the report.
    """
    run = _Run(uri, credentials, timeout_s, resolver or Resolver(), tls, probe, progress)
    async with run.stack:
        await run.all(via)
    return Report(uri, run.call_id, tuple(run.steps))


class _Run:
    """One verification: what was seen so far."""

    def __init__(
        self,
        uri: str,
        credentials: Credentials | None,
        timeout: float,
        resolver: Resolver,
        tls: TlsSettings,
        probe: Probe | None,
        progress: Progress,
    ) -> None:
        self.stack = contextlib.AsyncExitStack()
        self.steps: list[Step] = []
        self.call_id = ""
        self._uri = uri
        self._credentials = credentials
        self._timeout = timeout
        self._resolver = resolver
        self._tls = tls
        self._probe = probe
        self._progress = progress
        self._origin = ""
        self._began = mono()
        self._from_user = quote(credentials.username, safe="-_.!~*'()&=+$,") if credentials is not None else USER_AGENT

    async def all(self, via: Addr | None) -> None:
        """Every step, until one fails for good."""
        try:
            parsed = SipUri.parse(self._uri)
        except MalformedMessage as error:
            self._done("uri", "failed", "not understood", findings=[finding("uri_invalid", uri=judge.quoted(self._uri), why=error.detail)])
            return
        self._done("uri", "ok", _told(parsed))
        # 19.1.1: neither headers nor a password belong into a Request-URI.
        self._uri = str(replace(parsed, headers="", password=None))
        targets = await self._resolve(parsed) if via is None else (Target("udp", via[0], *via),)
        reached = await self._connect(targets) if targets else None
        if reached is None:
            return
        caller = Caller(reached.target, self._tls, secure=parsed.secure)
        self.stack.push_async_callback(caller.close)
        await caller.open(reached.local)
        self._began = mono()
        edge = await self._options(caller)
        if edge is not None:
            await self._call(caller, judge.codecs_of(edge) if isinstance(edge, Response) else ())

    # -- on the way there --------------------------------------------------------------------------------------------------------------

    async def _resolve(self, uri: SipUri) -> tuple[Target, ...]:
        resolved = await resolve(uri, self._resolver, self._timeout)
        self._origin = resolved.origin
        detail = ", then ".join(map(str, resolved.targets)) or "no target"
        found = [resolved.finding] if resolved.finding is not None else []
        self._done("resolve", "failed" if found else "ok", detail, resolved.facts, found)
        return resolved.targets

    async def _connect(self, targets: tuple[Target, ...]) -> Reached | None:
        """The first target that can be reached; the others before it are told."""
        tried: list[Reached] = []
        for target in targets:
            reached = await reach(target, self._origin, self._tls, self._timeout)
            tried.append(reached)
            if reached.usable:
                break
        last, first = tried[-1], tried[0]
        facts = (*((f"{each.target}", each.findings[0].cause) for each in tried if not each.usable and len(tried) > 1), *last.facts)
        findings = list(last.findings)
        if not last.usable:
            findings = [await self._explained(first.target, first.findings[0]), *first.findings[1:]]
        elif len(tried) > 1:
            why = first.findings[0].cause
            findings.insert(0, finding("first_target_dead", dead=first.target, count=len(targets), why=why, target=last.target))
        detail = f"{last.target} from {last.local}: {last.detail}" if last.local else f"{last.target}: {last.detail}"
        self._done("connect", "ok" if last.usable else "failed", detail, facts, findings)
        return last if last.usable else None

    async def _explained(self, target: Target, found: Finding) -> Finding:
        """A better cause where one can be found: another transport that works."""
        tried = {
            "udp_closed": f"UDP port {target.port} is closed",
            "tcp_refused": f"TCP port {target.port} is closed",
            "tcp_timeout": f"TCP port {target.port} does not answer",
            "not_tls": f"TCP port {target.port} speaks no TLS",
            "silence": f"{target.transport.upper()} port {target.port} does not answer",
        }.get(found.name)
        better = await elsewhere(self._uri, target, tried, self._tls, self._timeout) if tried is not None else None
        return better or found

    async def _options(self, caller: Caller) -> Response | str | None:
        """The answer to OPTIONS, "" for none; None when that shows that nothing further can be tried."""
        answer = await caller.ask(options(self._uri, caller, self._from_user), min(self._timeout, OPTIONS_S))
        if isinstance(answer, Response):
            known = 200 <= answer.status < 300
            facts = [(name, value) for name in ("Allow", "Supported", "Server", "User-Agent") if (value := answer.headers.get(name))]
            if codecs := judge.codecs_of(answer):
                facts.append(("codecs", ", ".join(codecs)))
            if answer.via.received and answer.via.received != caller.address[0]:
                facts.append(("we appear as", f"{answer.via.received}:{answer.via.rport or ''}".rstrip(":")))
            self._done("options", "ok" if known else "note", f"{answer.status} {answer.reason}", tuple(facts))
        elif answer and caller.target.transport == "udp":
            found = await self._explained(caller.target, udp_closed(caller.target, self._origin))
            self._done("options", "failed", "refused", findings=[found])
            return None
        else:
            self._done("options", "note", answer or "no answer; many edges ignore it, the INVITE decides")
        return answer

    # -- the call ----------------------------------------------------------------------------------------------------------------------

    async def _call(self, caller: Caller, edge_codecs: tuple[str, ...]) -> None:
        call = Attempt(caller, self._uri, self._from_user, self._credentials, edge_codecs)
        self.call_id = call.call_id
        self.stack.push_async_callback(call.close)
        placed = await call.place(self._timeout, self._origin, self._probe.headers if self._probe is not None else ())
        await self._invited(caller, placed)
        if placed.answer is not None and placed.dialog is not None:
            judged = judge.answer(placed.answer, caller.target.addr)
            self._done("answer", "failed" if judged.findings else "ok", _answered(judged), judged.facts, judged.findings)
            if judged.audio is not None:
                outcome, detail, found = await call.listen(judged)
                self._done("media", outcome, detail, findings=[found] if found else [])
            await self._look(lambda probe: probe.during(call.call_id))
            detail, found = await call.end(placed.dialog)
            self._done("end", "failed" if found else "ok", detail, findings=[found] if found else [])
        answered = placed.answer is not None
        await self._look(lambda probe: probe.after(call.call_id, answered=answered))

    async def _invited(self, caller: Caller, placed: Placed) -> None:
        found = placed.finding
        if found is not None and placed.silent:
            found = await self._explained(caller.target, found)
        if placed.challenged and placed.answer is not None:
            placed.facts.append(("credentials", "accepted"))
        elif self._credentials is not None and placed.answer is not None:
            placed.facts.append(("credentials", "never asked for"))
        detail = ", ".join(placed.statuses) or "no answer"
        self._done("invite", "failed" if found else "ok", detail, tuple(placed.facts), [found] if found else [])

    async def _look(self, ask: Callable[[Probe], Awaitable[Iterable[Step]]]) -> None:
        if self._probe is not None:
            for step in await ask(self._probe):
                self._add(step)
            self._began = mono()

    # -- book-keeping ------------------------------------------------------------------------------------------------------------------

    def _done(self, name: StepName, outcome: Outcome, detail: str, facts: Facts = (), findings: Iterable[Finding] = ()) -> None:
        now: Mono = mono()
        self._add(Step(name, outcome, (now - self._began) * 1000, detail, facts, tuple(findings)))
        self._began = now

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self._progress(step)


def _told(uri: SipUri) -> str:
    port = f", port {uri.port}" if uri.port is not None else ""
    transport = f", transport {uri.param('transport')}" if uri.param("transport") else ""
    return f"user {uri.user or '(none)'}, host {uri.host}{port}{transport}"


def _answered(judged: judge.Judged) -> str:
    if judged.audio is None:
        return "no audio can be exchanged"
    return f"{judged.codec} with {judged.audio.address}:{judged.audio.port}"
