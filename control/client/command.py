"""`trunkside calls`: what can be typed, and what follows from it. Exit status 0: fine, 1: a bound is broken, 2: nothing could be told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from control.client.asked import Format
from control.contract.call import Kind, Outcome

if TYPE_CHECKING:
    from control.client.bounds import Bounds, Check
    from control.client.link import Address, Link
    from control.contract.call import Call

BREACH, USAGE = 1, 2
_POLL_S = 1.0
T = TypeVar("T")

_EVERYWHERE = ("--control", "--token", "--token-file", "--ca", "--timeout")


class _Calls(TyperGroup):
    """The group's own options may stand behind the command as well, where a person adds them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Bring these options to the front."""
        front: list[str] = []
        rest: list[str] = []
        left = iter(args)
        for arg in left:
            if arg == "--":
                rest += [arg, *left]
            elif arg in _EVERYWHERE:
                front += [arg, *islice(left, 1)]
            else:
                (front if arg.startswith(tuple(f"{name}=" for name in _EVERYWHERE)) else rest).append(arg)
        return super().parse_args(ctx, front + rest)


app = typer.Typer(
    cls=_Calls, no_args_is_help=True, help="Look at the calls of a control plane. The options below may stand behind the command, too."
)


@app.callback()
def _where(
    context: typer.Context,
    control: Annotated[str, typer.Option("--control", envvar="TRUNKSIDE_CONTROL__URL", help="URL of control.")] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None, typer.Option(envvar="TRUNKSIDE_CONTROL__TOKEN", help="A token of scope read.", show_envvar=True, show_default=False)
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(envvar="TRUNKSIDE_CONTROL__TOKEN_FILE", help="A file with it; a command line can be seen by others.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM file of who vouches for control's certificate; without it the system's.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait for an answer.")] = 15.0,
) -> None:
    context.obj = (control, token, token_file, ca, timeout)


Since = Annotated[str | None, typer.Option(help="Began at most so long ago (30m, 1h, 2d), or at or after a time.")]
Until = Annotated[str | None, typer.Option(help="Began before: a span ago or a time.")]
KindOption = Annotated[Kind | None, typer.Option("--kind", help="Simulations or production traffic.")]
OutcomeOption = Annotated[Outcome | None, typer.Option("--outcome", help="What became of the link.")]
Route = Annotated[str | None, typer.Option(help="The sidecar's route.")]
SidecarName = Annotated[str | None, typer.Option("--sidecar", help="The sidecar's name.")]
Status = Annotated[int | None, typer.Option(min=100, max=699, help="Final SIP status of the caller's INVITE.")]
MinLatency = Annotated[float | None, typer.Option(min=0, help="The slowest response took at least so many milliseconds.")]
CallName = Annotated[str, typer.Argument(metavar="CALL", help="An id, the beginning of a recent one, a Call-ID, or `last`.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout and nothing else there.")]


@app.command("list")
def list_calls(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    kind: KindOption = None,
    outcome: OutcomeOption = None,
    route: Route = None,
    sidecar: SidecarName = None,
    status: Status = None,
    min_latency: MinLatency = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many at most.")] = 25,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """The newest calls, one a line."""
    from control.client import listing, look
    from control.client.asked import filters

    async def work(link: Link) -> None:
        asked = filters(
            _now(), since, until, kind=kind, outcome=outcome, route=route, sidecar=sidecar, status=status, min_latency_ms=min_latency
        )
        found: list[Call] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await link.page({**asked, "limit": str(min(500, limit - len(found)))}, cursor)
            found += page.calls
            cursor = page.next
            if cursor is None:
                break
        if json:
            for call in found:
                sys.stdout.write(call.model_dump_json(by_alias=True) + "\n")
        else:
            listing.show(look.console(), found, more=cursor is not None)

    _run(context, work)


@app.command()
def show(
    context: typer.Context,
    call: CallName = "last",
    every_turn: Annotated[bool, typer.Option("--all", help="Every turn, also of a long call.")] = False,
    messages: Annotated[bool, typer.Option("--messages", help="The text of every SIP message, too.")] = False,
    json: Json = False,
) -> None:
    """One call: its verdict, its ladder, its turns to scale, its media."""
    from control.client import look
    from control.client import show as showing

    async def work(link: Link) -> None:
        found = await link.find(call)
        if json:
            sys.stdout.write(found.model_dump_json(by_alias=True, indent=2) + "\n")
            return
        ladder = await link.ladder(found.id)
        console = look.console()
        showing.show(console, found, ladder, every_turn=every_turn)
        if messages:
            showing.show_messages(console, await link.messages(found.id))

    _run(context, work)


@app.command()
def tail(
    context: typer.Context,
    call: Annotated[str | None, typer.Option(help="Only this call, until it has ended: as for `show`.")] = None,
    kind: KindOption = None,
    route: Route = None,
    sidecar: SidecarName = None,
    since: Annotated[str | None, typer.Option(help="Begin with what changed in so long (10m), or since a time.")] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many changes.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Changes of calls as they happen, until interrupted. A lost connection is taken up again where it broke off."""
    from control.client import look
    from control.client import tail as tailing
    from control.client.asked import filters, instant

    async def work(link: Link) -> None:
        wanted = (await link.find(call)).id if call is not None else None
        parameters = filters(_now(), None, None, call=wanted, kind=kind, route=route, sidecar=sidecar)
        last_id = ""
        if since is not None:
            last_id = str(max(0, int(datetime.fromisoformat(instant("--since", since, _now())).timestamp() * 1_000_000)))
        elif wanted is not None:
            last_id = "0"  # so that its present state is told first, and a call that is over ends this at once
        feed, left = tailing.Feed(look.console(), json=json), count
        async for event in tailing.events(link, parameters, last_id):
            if isinstance(event, tailing.Gap):
                look.warn(event.text)
                continue
            change = feed.take(event)
            sys.stdout.flush()
            if change is None:
                continue
            left = left - 1 if left is not None else None
            if left == 0 or (wanted is not None and change.ended and change.outcome != "pending"):
                return

    _run(context, work)


@app.command()
def export(
    context: typer.Context,
    calls: Annotated[
        list[str] | None, typer.Argument(metavar="[CALL]...", help="As for `show`; without one, all under the filter.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = "ndjson",
    to: Annotated[Path | None, typer.Option("--to", "-o", help="File, or folder for the formats with a file a call. Else stdout.")] = None,
    since: Since = None,
    until: Until = None,
    kind: KindOption = None,
    outcome: OutcomeOption = None,
    route: Route = None,
    sidecar: SidecarName = None,
    status: Status = None,
    min_latency: MinLatency = None,
) -> None:
    """Calls as files: json, ndjson and csv hold all of them; vcon, pcap, evidence (HTML), svg, mermaid and ladder are a file each."""
    from control.client import export as exporting
    from control.client import look
    from control.client.asked import filters

    async def work(link: Link) -> None:
        asked = filters(
            _now(), since, until, kind=kind, outcome=outcome, route=route, sidecar=sidecar, status=status, min_latency_ms=min_latency
        )

        async def named(names: list[str]) -> AsyncIterator[Call]:
            for name in names:
                yield await link.find(name)

        source = named(calls) if calls else link.every(asked)
        written = await exporting.export(link, source, form, to, one=len(calls or ()) == 1)
        if to is not None:
            look.say(f"{written.calls} call{'' if written.calls == 1 else 's'}, {written.octets} octets, to {to}")

    _run(context, work)


Ms = Annotated[float | None, typer.Option(min=0, metavar="MS", help="Of all responses of all calls.")]
OtherMs = Annotated[float | None, typer.Option(min=0, metavar="MS", help="Of all calls.")]


@app.command("assert")
def assert_(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    kind: KindOption = None,
    route: Route = None,
    sidecar: SidecarName = None,
    p50_response: Ms = None,
    p90_response: Ms = None,
    p95_response: Ms = None,
    max_response: Ms = None,
    p90_greeting: OtherMs = None,
    p90_barge_in: OtherMs = None,
    max_loss: Annotated[float | None, typer.Option(min=0, max=100, metavar="PERCENT", help="Of each direction of each call.")] = None,
    max_jitter: Annotated[float | None, typer.Option(min=0, metavar="MS", help="Of each direction of each call.")] = None,
    min_mos: Annotated[float | None, typer.Option(min=1, max=5, metavar="MOS", help="Of each direction of each call.")] = None,
    max_failed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Calls that were not answered.")] = None,
    all_linked: Annotated[bool, typer.Option("--all-linked", help="Every simulation is linked or repaired.")] = False,
    no_repairs: Annotated[bool, typer.Option("--no-repairs", help="Every simulation is linked, and without a repair.")] = False,
    min_calls: Annotated[int, typer.Option(min=0, metavar="N", help="Fewer calls than these are a breach.")] = 1,
    wait: Annotated[float, typer.Option(min=0, max=86_400, metavar="SECONDS", help="Wait so long for the last calls and reports.")] = 0.0,
    junit: Annotated[Path | None, typer.Option(help="Write the checks to this file as JUnit XML, too.")] = None,
    json: Json = False,
) -> None:
    """Hold calls to bounds, for a pipeline: one line a breach. Exit status 0: all kept, 1: a breach, 2: control could not tell."""
    from control.client.asked import filters
    from control.client.bounds import Bounds

    ranked = {"p50": p50_response, "p90": p90_response, "p95": p95_response, "max": max_response}
    bounds = Bounds(
        min_calls,
        {rank: value for rank, value in ranked.items() if value is not None},  # type: ignore[misc]
        p90_greeting,
        p90_barge_in,
        max_loss,
        max_jitter,
        min_mos,
        max_failed,
        all_linked,
        no_repairs,
    )

    async def work(link: Link) -> list[Check]:
        asked = filters(_now(), since, until, kind=kind, route=route, sidecar=sidecar)
        return await _checks(link, asked, bounds, wait)

    began = _now()
    checks = _run(context, work)
    _tell(checks, began, junit, json=json)
    raise typer.Exit(BREACH if any(check.breaches for check in checks) else 0)


async def _checks(link: Link, asked: dict[str, str], bounds: Bounds, wait_s: float) -> list[Check]:
    """Check, and while something may still change and there is time left, check again."""
    from control.client.bounds import check, settled

    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while True:
        calls = [call async for call in link.every(asked)]
        if (len(calls) >= bounds.min_calls and all(settled(call) for call in calls)) or loop.time() >= until:
            return check(calls, bounds)
        await asyncio.sleep(min(_POLL_S, max(0.0, until - loop.time())))


def _tell(checks: list[Check], began: datetime, junit: Path | None, *, json: bool) -> None:
    from control.client import look

    if junit is not None:
        from control.client.junit import document

        try:
            junit.parent.mkdir(parents=True, exist_ok=True)
            junit.write_bytes(document(checks, began, (_now() - began).total_seconds()))
        except OSError as error:
            _fail(f"--junit {junit}: cannot be written: {error.strerror}")
    if json:
        import json as jsonlib

        told = [{"name": check.name, "found": check.found, "breaches": list(check.breaches)} for check in checks]
        sys.stdout.write(jsonlib.dumps({"ok": not any(check.breaches for check in checks), "checks": told}) + "\n")
        return
    look.checks(look.console(), checks)


def _now() -> datetime:
    return datetime.now(UTC)


def _run(context: typer.Context, work: Callable[[Link], Awaitable[T]]) -> T:
    """Run a command against the control plane of `context`; errors are one line."""
    from control.client.errors import ClientError
    from control.client.link import Address, connect

    async def main(address: Address) -> T:
        async with connect(address) as link:
            return await work(link)

    try:
        return asyncio.run(main(Address.of(*context.obj)))
    except ClientError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise typer.Exit(0) from None


def _fail(line: str) -> NoReturn:
    from control.client.look import warn

    warn(line)
    raise typer.Exit(USAGE)
