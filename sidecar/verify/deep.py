"""The second half of `trunkside verify --deep`: asks a running sidecar, and control, how far the test call's id has come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp

from sidecar.clocks import Mono
from sidecar.identity.carriage import shortfalls
from sidecar.identity.presets import CORRELATION_HEADER, PRESETS, Preset
from sidecar.net.clock import mono
from sidecar.net.random_ids import RandomIds
from sidecar.verify.findings import Finding, finding
from sidecar.verify.steps import Facts, Outcome, Step, StepName

PATIENCE_S = 6.0
"""How long facts may take to reach control once the call is over."""
_POLL_S = 0.2
_SHOWN = frozenset(("sip_call_id", "kind", "route", "platform", "b_leg_call_ids"))
"""What both the admin port and control show of a call."""

_NOT_TAKEN = frozenset(("upstream-unreachable", "upstream-silent"))
"""Reasons of a call whose INVITE left the sidecar and reached nobody."""


class Unanswered(Exception):
    """A URL could not be asked; the text says why."""


class Deep:
    """A `Probe`: the call carries a correlation token as an evaluator's does, and is looked for by its Call-ID."""

    def __init__(
        self,
        admin: str | None,
        control: str | None,
        token: str | None = None,
        *,
        presets: Mapping[str, Preset] = PRESETS,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Base URLs of the admin port and of control, at least one. `presets` are the sidecar's, its own ones included where known."""
        self.headers: tuple[tuple[str, str], ...] = ((CORRELATION_HEADER, RandomIds().token()),)
        self._admin = admin.rstrip("/") if admin else None
        self._control = control.rstrip("/") if control else None
        self._token = token
        self._presets = presets
        self._patience_s = patience_s
        self._live: dict[str, Any] | None = None
        self._faults: list[Finding] = []

    async def during(self, call_id: str) -> Iterable[Step]:
        """See the live call on the admin port. What it shows is told in `after`."""
        if self._admin is not None:
            try:
                calls = await self._calls(f"{self._admin}/v1/calls", {})
                self._live = next((call for call in calls if call["sip_call_id"] == call_id), None)
            except Unanswered as error:
                self._faults.append(finding("deep_admin", url=self._admin, why=error))
        return ()

    async def after(self, call_id: str, *, answered: bool) -> Iterable[Step]:
        """The hops: received, carried, the platform, and what only the agent can prove."""
        began = mono()
        known = await self._settled(call_id) if self._control is not None else None
        call = known or self._live
        if call is None:
            return [self._not_received(call_id, began, answered=answered)]
        steps = [self._received(call, known, began)]
        carried = self._carried(call, known)
        steps.append(carried)
        if not carried.findings:
            steps += [self._platform(call, call_id), _echoed()]
        return steps

    # -- hops --------------------------------------------------------------------------------------------------------------------------

    def _not_received(self, call_id: str, began: Mono, *, answered: bool) -> Step:
        findings = list(self._faults)
        if self._control is not None or (answered and not findings):
            words = "" if self._control is not None else ", though the call was answered"
            findings.append(finding("deep_not_received", call_id=call_id, words=words))
        elif not findings:
            # A refused call is gone before the admin port could show it: only control remembers.
            return _step("received", "note", "not known: the call ended before it could be seen; ask control as well", began)
        return _step("received", "failed", "the call was not found", began, findings=findings)

    def _received(self, call: Mapping[str, Any], known: Mapping[str, Any] | None, began: Mono) -> Step:
        facts = [("route", str(call["route"])), ("kind", str(call["kind"])), *_evidence(known, "received")]
        findings = list(self._faults)
        if call["kind"] != "simulation":
            findings.append(finding("deep_not_simulation", kind=call["kind"], route=call["route"]))
        odd = [odd for odd in (known or {}).get("verdict", {}).get("findings", ()) if not odd["name"].startswith("carriage_")]
        findings += [finding("deep_identity", why=odd["detail"]) for odd in odd]
        return _step("received", "failed" if findings else "ok", f"by the sidecar on route {call['route']}", began, tuple(facts), findings)

    def _carried(self, call: Mapping[str, Any], known: Mapping[str, Any] | None) -> Step:
        legs = ", ".join(call["b_leg_call_ids"])
        proven = _evidence(known, "carried")
        if known is not None and known.get("reason") in _NOT_TAKEN and known.get("answered_at") is None:
            found = finding("deep_not_taken", why=known.get("cause") or known["reason"], route=call["route"])
            return _step("carried", "failed", "sent, and taken by nobody", mono(), proven, [found])
        if legs and (proven or known is None):
            return _step("carried", "ok", f"on the leg to the edge, Call-ID {legs}", mono(), proven)
        cause = f"; {known['cause']}" if known is not None and known.get("cause") else ""
        found = finding("deep_not_carried", words=cause, route=call["route"])
        return _step("carried", "failed", "no leg to the edge", mono(), findings=[found])

    def _platform(self, call: Mapping[str, Any], call_id: str) -> Step:
        name = call["platform"]
        preset = self._presets.get(name)
        if preset is None:
            return _step("platform", "note", f"{name} is a preset of the sidecar's own: trunkside config check judges it", mono())
        short = shortfalls(preset, call_id)
        if short:
            found = finding("carriage_none" if short[0].name == "carriage_none" else "carriage_too_long", why=short[0].detail)
            return _step("platform", "failed", f"preset {name} lets no id through", mono(), findings=[found])
        keys = [key for header in preset.headers for key in preset.keys(header)]
        return _step("platform", "ok", f"preset {name}: the application finds it as {' or '.join(keys)}", mono(), _note(preset))

    # -- asking ------------------------------------------------------------------------------------------------------------------------

    async def _settled(self, call_id: str) -> dict[str, Any] | None:
        """The call as control has it once it is complete, or as it is when the patience is over; None when it knows none."""
        found: dict[str, Any] | None = None
        deadline = mono() + self._patience_s
        try:
            while mono() < deadline:
                calls = await self._calls(f"{self._control}/v1/calls", {"sip_call_id": call_id}, self._token)
                found = calls[0] if calls else None
                if found is not None and found.get("complete"):
                    break
                await asyncio.sleep(_POLL_S)
        except Unanswered as error:
            self._faults.append(finding("deep_control", url=self._control, why=error))
        return found

    async def _calls(self, url: str, query: Mapping[str, str], token: str | None = None) -> list[dict[str, Any]]:
        body = await _ask(url, query, token)
        calls = body.get("calls") if isinstance(body, dict) else None
        if not isinstance(calls, list) or not all(isinstance(call, dict) and call.keys() >= _SHOWN for call in calls):
            raise Unanswered("what answers there is not Trunkside")
        return calls


async def listening(admin: str) -> list[str]:
    """The SIP addresses of the sidecar behind an admin port, as `udp://host:port`. Raises Unanswered."""
    body = await _ask(f"{admin.rstrip('/')}/v1/state")
    sip = body.get("sip") if isinstance(body, dict) else None
    if not isinstance(sip, list) or not all(isinstance(each, str) for each in sip):
        raise Unanswered("what answers there is not a sidecar's admin port")
    return sip


async def _ask(url: str, query: Mapping[str, str] | None = None, token: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session,
            session.get(url, params=query, headers=headers) as answer,
        ):
            if answer.status != 200:
                raise Unanswered(f"it answers {answer.status} {answer.reason}")
            return await answer.json()
    except TimeoutError as error:
        raise Unanswered("it does not answer") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise Unanswered(str(error) or type(error).__name__) from error


def _step(name: StepName, outcome: Outcome, detail: str, began: Mono, facts: Facts = (), findings: Iterable[Finding] = ()) -> Step:
    return Step(name, outcome, (mono() - began) * 1000, detail, facts, tuple(findings))


def _echoed() -> Step:
    return _step("echoed", "note", "only the agent's own report can prove this hop: see the call's verdict in control", mono())


def _evidence(known: Mapping[str, Any] | None, hop: str) -> Facts:
    hops = (known or {}).get("verdict", {}).get("hops", ())
    return tuple(("evidence", str(seen["evidence"])) for seen in hops if seen["hop"] == hop)


def _note(preset: Preset) -> Facts:
    return (("note", preset.note),) if preset.note else ()
